//! Plays a recorded life back, and has every image of it judged.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use fastrand::Rng;

use super::disk::{Disk, Image, Loss};
use super::expected::Expected;
use super::judge;
use super::reference::Reference;
use super::trace::Step;
use super::{cores, memory};

/// Of those that fail so many are left to be looked at.
const KEPT_MAX: usize = 3;

/// One image to be judged.
struct Case {
    step: usize,
    loss: Loss,
    image: Image,
    expected: Arc<Expected>,
}

/// What is wrong, by step and loss: told in this order, whoever found it first.
#[derive(Default)]
struct Failures(Mutex<BTreeMap<(usize, usize), Failure>>);

struct Failure {
    told: String,
    image: Option<Image>,
}

impl Failures {
    fn add(&self, step: usize, loss: usize, failure: Failure) {
        let mut all = self.0.lock().unwrap();
        all.insert((step, loss), failure);
        if let Some(behind) = all.values_mut().nth(KEPT_MAX) {
            behind.image = None;
        }
    }

    /// In words; the first few with where their images are.
    fn told(self) -> Vec<String> {
        let all = self.0.into_inner().unwrap();
        all.into_values()
            .map(|Failure { told, image }| told + &image.as_ref().map_or_else(String::new, keep))
            .collect()
    }
}

/// What came of a life's images.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// Images that differ, or of which different things are expected.
    pub(super) images: usize,
    pub(super) steps: usize,
}

/// A machine: its disk, and what is expected of it, after all that was played so far.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) disk: Disk,
    pub(super) expected: Expected,
}

impl Machine {
    /// One on which nothing ever ran.
    pub(super) fn new() -> Self {
        Self { disk: Disk::new(&Image::default()), expected: Expected::new() }
    }

    /// After a loss of power: what is on the disk now is on it for good.
    pub(super) fn after_loss(&self, loss: Loss, rng: &mut Rng) -> (Self, Image) {
        let image = self.disk.image(loss, rng);
        (Self { disk: Disk::new(&image), expected: self.expected.clone() }, image)
    }

    /// Plays one step.
    ///
    /// # Errors
    /// When the life found what it should not.
    pub(super) fn play(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Remark(remark) => self.expected.hear(remark)?,
            Step::Written { path, .. } if path.ends_with("promise") => self.expected.promise_written(),
            Step::Synced(path) if path.ends_with("promise") => self.expected.promise_synced(),
            _ => {}
        }
        self.disk.play(step);
        Ok(())
    }
}

/// Plays the steps, and judges the images of every `every`th of them, on all cores. A failure is shown with what
/// repeats it, and its image is kept.
pub(super) fn judge_all(
    machine: &mut Machine,
    steps: &[Step],
    every: usize,
    seed: u64,
    reference: &Reference,
) -> Judged {
    let cores = cores();
    let (sender, receiver) = sync_channel::<Case>(2 * cores);
    let (receiver, count) = (Mutex::new(receiver), AtomicUsize::new(0));
    let failures = Failures::default();
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| work(&receiver, reference, &count, &failures));
        }
        produce(machine, steps, every, seed, &sender, &failures);
        drop(sender);
    });
    let failures = failures.told();
    assert!(
        failures.is_empty(),
        "life {seed}: {} images failed\n{}",
        failures.len(),
        failures[..failures.len().min(20)].join("\n")
    );
    Judged { images: count.into_inner(), steps: steps.len() }
}

fn produce(
    machine: &mut Machine,
    steps: &[Step],
    every: usize,
    seed: u64,
    sender: &SyncSender<Case>,
    failures: &Failures,
) {
    let mut seen = HashSet::new();
    let mut expected = Arc::new(machine.expected.clone());
    for (number, step) in steps.iter().enumerate() {
        if let Err(wrong) = machine.play(step) {
            let told = format!("step {number}: a restart found it wrong: {wrong}");
            failures.add(number, 0, Failure { told, image: None });
            return;
        }
        if matches!(step, Step::Remark(_)) {
            expected = Arc::new(machine.expected.clone());
            seen.clear();
        }
        if number % every != 0 {
            continue;
        }
        for loss in Loss::ALL {
            let mut rng = Rng::with_seed(seed << 40 | (number as u64) << 8 | loss as u64);
            let image = machine.disk.image(loss, &mut rng);
            if seen.insert(digest(&image)) {
                sender.send(Case { step: number, loss, image, expected: Arc::clone(&expected) }).unwrap();
            }
        }
    }
}

fn digest(image: &Image) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (path, bytes) in &image.files {
        hasher.update(path.as_os_str().as_encoded_bytes()).update(&bytes.len().to_le_bytes()).update(bytes);
    }
    for path in &image.directories {
        hasher.update(path.as_os_str().as_encoded_bytes());
    }
    *hasher.finalize().as_bytes()
}

fn work(receiver: &Mutex<Receiver<Case>>, reference: &Reference, count: &AtomicUsize, failures: &Failures) {
    loop {
        let next = receiver.lock().unwrap().recv();
        let Ok(Case { step, loss, image, expected }) = next else { return };
        count.fetch_add(1, Ordering::Relaxed);
        let judge = || judge::judge(&image, &expected, reference);
        let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(judge));
        let wrong = judged.unwrap_or_else(|_| Err("a panic, shown above".to_owned()));
        if let Err(wrong) = wrong {
            let told = format!("step {step}, {loss:?} of what was not synced: {wrong}");
            failures.add(step, loss as usize, Failure { told, image: Some(image) });
        }
    }
}

/// Leaves an image where it can be looked at.
fn keep(image: &Image) -> String {
    let kept = memory().keep();
    judge::lay_out(image, &kept);
    format!(" ({} holds the image)", kept.display())
}
