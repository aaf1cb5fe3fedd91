//! Many datagrams a second, for as long as a test lets them come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What was missed while the thread had to wait is made up for by so much, not in one burst.
const AT_ONCE_MAX: u64 = 200;

/// A thread that does one thing so many times a second.
pub(crate) struct Pace {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<Done>,
}

/// How often it was done, and in how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) times: u64,
    pub(crate) took: Duration,
}

impl Done {
    pub(crate) fn a_second(self) -> f64 {
        self.times as f64 / self.took.as_secs_f64()
    }
}

impl Pace {
    pub(crate) fn begin(a_second: u32, mut once: impl FnMut() + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let (begun, mut due, mut times) = (Instant::now(), 0, 0);
            while !ends.load(Ordering::Relaxed) {
                let missed = (begun.elapsed().as_secs_f64() * f64::from(a_second)) as u64 - due;
                due += missed;
                let now = missed.min(AT_ONCE_MAX);
                (0..now).for_each(|_| once());
                times += now;
                thread::sleep(Duration::from_millis(1));
            }
            Done { times, took: begun.elapsed() }
        });
        Self { over, thread }
    }

    pub(crate) fn end(self) -> Done {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread of a pace")
    }
}
