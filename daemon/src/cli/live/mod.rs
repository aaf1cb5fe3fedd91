//! `chorus status --watch`: the cluster asked again and again, on a live screen, or line by line where there is no
//! terminal.

mod history;
mod screen;

use std::io::{self, IsTerminal as _};
use std::ops::ControlFlow;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::controller::Controller;
use super::place::Cluster;
use super::survey::{LEARNERS_WAIT, Survey};
use super::{Failure, clock, output, status};
use history::History;
use screen::Screen;

/// The screen is drawn anew so often.
const REFRESH: Duration = Duration::from_millis(500);
/// Where there is no terminal, so often.
const REFRESH_LINES: Duration = Duration::from_secs(1);
/// How long a node may take to answer: a part of either.
const ANSWER_WAIT: Duration = Duration::from_millis(400);
/// Events at the end of each block where there is no terminal.
const EVENTS_SHOWN: usize = 5;

/// Shows the cluster until somebody has seen enough.
pub(super) async fn watch(cluster: &Cluster, controller: &mut Controller, json: bool) -> Result<(), Failure> {
    if json || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return tell(cluster, controller, json).await;
    }
    let mut reasons = Reasons::listen()?;
    let mut screen = Screen::open().map_err(no_screen)?;
    let mut history = History::default();
    loop {
        let next = Instant::now() + REFRESH;
        tokio::select! {
            survey = ask(cluster, controller) => {
                history.take(&survey?.view(), Instant::now(), clock::unix_ms());
            }
            () = reasons.wait_to_leave(&mut screen) => return Ok(()),
        }
        screen.draw(&history.lines(Instant::now(), clock::unix_ms())).map_err(no_screen)?;
        tokio::select! {
            () = sleep_until(next) => {}
            () = reasons.wait_to_leave(&mut screen) => return Ok(()),
        }
    }
}

/// Without a terminal: a block for people, or an object for programs, each second.
async fn tell(cluster: &Cluster, controller: &mut Controller, json: bool) -> Result<(), Failure> {
    let mut history = History::default();
    loop {
        let next = Instant::now() + REFRESH_LINES;
        let view = ask(cluster, controller).await?.view();
        if json {
            output::data(&status::json(&view)?)?;
        } else {
            history.take(&view, Instant::now(), clock::unix_ms());
            let lines = history.lines(Instant::now(), clock::unix_ms());
            let shown = lines.len().min(history.lines_before_events() + EVENTS_SHOWN);
            let block: String = lines[..shown].iter().map(|line| format!("{}\n", line.text)).collect();
            output::data(&block)?;
        }
        sleep_until(next).await;
    }
}

async fn ask(cluster: &Cluster, controller: &mut Controller) -> Result<Survey, Failure> {
    let expected = cluster.founders();
    Survey::of_all(controller, expected, Instant::now() + ANSWER_WAIT, LEARNERS_WAIT).await
}

/// What ends the watch: keys and signals.
struct Reasons {
    keys: UnboundedReceiver<Event>,
    signals: [Signal; 3],
}

impl Reasons {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::refused(format!("signals cannot be heard: {error}")))
        };
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = signals.map(listen);
        let (pressed, keys) = unbounded_channel();
        // Reading a terminal blocks. The thread ends with the process, or when the terminal is gone.
        std::thread::spawn(move || {
            while let Ok(event) = crossterm::event::read() {
                if pressed.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Self { keys, signals: [interrupt?, terminate?, hangup?] })
    }

    /// Comes back when it is time to leave. A terminal that changes its size is drawn anew meanwhile.
    async fn wait_to_leave(&mut self, screen: &mut Screen) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        loop {
            let event = tokio::select! {
                event = self.keys.recv() => event,
                _ = interrupt.recv() => return,
                _ = terminate.recv() => return,
                _ = hangup.recv() => return,
            };
            match event.map_or(ControlFlow::Break(()), meaning) {
                ControlFlow::Break(()) => return,
                ControlFlow::Continue(true) => screen.forget(),
                ControlFlow::Continue(false) => {}
            }
        }
    }
}

/// Whether it means to leave, else whether the screen has another size now.
fn meaning(event: Event) -> ControlFlow<(), bool> {
    match event {
        Event::Key(key) if key.kind == KeyEventKind::Press => {
            let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Char('q' | 'Q') | KeyCode::Esc => ControlFlow::Break(()),
                _ if control_c => ControlFlow::Break(()),
                _ => ControlFlow::Continue(false),
            }
        }
        Event::Resize(..) => ControlFlow::Continue(true),
        _ => ControlFlow::Continue(false),
    }
}

fn no_screen(error: io::Error) -> Failure {
    Failure::refused(format!("this terminal cannot be drawn on: {error}"))
}
