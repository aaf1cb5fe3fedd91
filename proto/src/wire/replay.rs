//! Replay windows: which datagrams of whom were opened already, and of whom any is opened at all.
//!
//! A start of a node is *proven* once it has said that it hears this start of this node. What it said before that may have
//! been recorded, and is never opened; what it says after it is opened once. So the windows need not outlive a restart:
//! the proof must name a start that nobody could name before.

use std::collections::BTreeMap;

use super::secret::SenderKey;
use crate::types::{Boot, NodeId};
use crate::{mark, planted};

/// How far, in datagrams, one may come late and still be taken.
pub const WINDOW_SEQS: u64 = 1_024;
/// Windows of senders that prove nothing: controllers.
pub const STRANGERS_MAX: usize = 64;
/// Windows of those that do, and of all senders at a controller.
pub const MEMBERS_MAX: usize = 960;
/// Senders whose window went for another's, and of whom is remembered how far they were heard. Beyond that nobody new is
/// heard before the next start: who was forgotten could be played once more.
pub const FLOORS_MAX: usize = 16_384;

/// One word more than the window has: that of the highest number is partly of the future.
const WORDS: u64 = WINDOW_SEQS / 64 + 1;

/// Which of the last [`WINDOW_SEQS`] numbers were seen (RFC 6479: a ring of words, one bit a number).
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// The highest number seen; 0 before the first.
    highest: u64,
    /// The bit of number `n` is bit `n % 64` of word `n / 64 % WORDS`.
    words: [u64; WORDS as usize],
}

impl Window {
    pub(super) fn new() -> Self {
        Self { highest: 0, words: [0; WORDS as usize] }
    }

    /// One in which everything up to `seq` counts as seen.
    pub(super) fn after(seq: u64) -> Self {
        let mut window = Self { highest: seq, words: [u64::MAX; WORDS as usize] };
        // The rest of its own word is of the future.
        window.words[word(seq)] = u64::MAX >> (63 - seq % 64);
        window
    }

    /// Whether `seq` may be taken: not 0, not seen, and not too old to know.
    pub(super) fn is_fresh(&self, seq: u64) -> bool {
        let oldest = self.highest.saturating_sub(WINDOW_SEQS - 1).max(1);
        let unseen = seq > self.highest || self.words[word(seq)] & bit(seq) == 0;
        mark!(LateInWindow, seq >= oldest && unseen && seq + 400 < self.highest);
        seq >= oldest && (unseen || planted!(ReplayInWindow))
    }

    /// Notes a fresh `seq`.
    pub(super) fn mark(&mut self, seq: u64) {
        if seq > self.highest {
            let entered = self.highest / 64 + 1..=seq / 64;
            // Those of the last round through the ring are all that there are.
            for word in entered.rev().take(WORDS as usize) {
                self.words[(word % WORDS) as usize] = 0;
            }
            self.highest = seq;
        }
        self.words[word(seq)] |= bit(seq);
    }
}

fn word(seq: u64) -> usize {
    (seq / 64 % WORDS) as usize
}

fn bit(seq: u64) -> u64 {
    1 << (seq % 64)
}

/// One start of one sender: its key and what was seen of it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) boot: Boot,
    pub(super) salt: u64,
    /// Under the secret that it spoke under last.
    pub(super) key: SenderKey,
    pub(super) window: Window,
    /// When it was last heard, in datagrams opened here.
    used: u64,
}

impl Heard {
    /// Whether a datagram of this start may be taken. One start has one salt: a second one under the same boot is as good
    /// as an old boot.
    pub(super) fn is_fresh(&self, salt: u64, seq: u64) -> bool {
        self.salt == salt && self.window.is_fresh(seq)
    }
}

/// The windows of everyone heard. The longest silent goes first when there are too many.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// Starts that have shown that they hear this one.
    members: BTreeMap<NodeId, Heard>,
    /// Up to where those were heard whose window had to go.
    floors: BTreeMap<NodeId, (Boot, u64)>,
    /// Starts that show nothing.
    strangers: BTreeMap<NodeId, Heard>,
    opened: u64,
}

impl Windows {
    /// The proven start of a sender.
    pub(super) fn member(&self, sender: NodeId) -> Option<&Heard> {
        self.members.get(&sender)
    }

    /// The latest start of a sender that proves nothing.
    pub(super) fn stranger(&self, sender: NodeId) -> Option<&Heard> {
        self.strangers.get(&sender)
    }

    /// Notes an authenticated datagram of a proven start.
    pub(super) fn mark(&mut self, sender: NodeId, seq: u64) {
        self.opened += 1;
        if let Some(heard) = self.members.get_mut(&sender) {
            heard.window.mark(seq);
            heard.used = self.opened;
        }
    }

    /// A proven start speaks under another secret now. Its window stays: it counts all datagrams of the start.
    pub(super) fn rekey(&mut self, sender: NodeId, key: SenderKey) {
        if let Some(heard) = self.members.get_mut(&sender) {
            heard.key = key;
        }
    }

    /// A start has proven itself by its datagram `seq`. An earlier start of the same sender is forgotten. False if this proof
    /// may have been heard before.
    pub(super) fn prove(
        &mut self,
        sender: NodeId,
        (boot, salt, key): (Boot, u64, SenderKey),
        seq: u64,
    ) -> bool {
        let known = self.members.contains_key(&sender) || self.floors.contains_key(&sender);
        let room = self.members.len() < MEMBERS_MAX || self.floors.len() < FLOORS_MAX;
        if self.floors.get(&sender).is_some_and(|floor| (boot, seq) <= *floor) || !(known || room) {
            return false;
        }
        self.opened += 1;
        self.floors.remove(&sender);
        self.strangers.remove(&sender);
        let window = if planted!(WindowOpenBelowProof) { Window::new() } else { Window::after(seq) };
        self.members.insert(sender, Heard { boot, salt, key, window, used: self.opened });
        if self.members.len() > MEMBERS_MAX
            && let Some((oldest, heard)) = remove_oldest(&mut self.members, sender)
        {
            self.floors.insert(oldest, (heard.boot, heard.window.highest));
        }
        true
    }

    /// Notes an authenticated datagram of a start that proves nothing; of such there are at most `limit`.
    pub(super) fn mark_stranger(
        &mut self,
        sender: NodeId,
        (boot, salt, key): (Boot, u64, SenderKey),
        seq: u64,
        limit: usize,
    ) {
        self.opened += 1;
        let used = self.opened;
        let known = self.strangers.remove(&sender).filter(|known| known.boot == boot);
        let mut heard = known.unwrap_or(Heard { boot, salt, key, window: Window::new(), used });
        heard.window.mark(seq);
        self.strangers.insert(sender, Heard { used, ..heard });
        if self.strangers.len() > limit {
            remove_oldest(&mut self.strangers, sender);
        }
    }
}

/// Takes out the one that was silent for longest, and is not the newest.
fn remove_oldest(heard: &mut BTreeMap<NodeId, Heard>, newest: NodeId) -> Option<(NodeId, Heard)> {
    let others = heard.iter().filter(|(id, _)| **id != newest);
    let oldest = others.min_by_key(|(_, heard)| heard.used).map(|(id, _)| *id)?;
    heard.remove_entry(&oldest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Secret;

    #[test]
    fn a_number_is_taken_once_in_every_order() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut seqs: Vec<u64> = (1..=WINDOW_SEQS).collect();
            random.shuffle(&mut seqs);
            let mut window = Window::new();
            for seq in &seqs {
                assert!(window.is_fresh(*seq), "{seq} is new");
                window.mark(*seq);
                assert!(!window.is_fresh(*seq), "{seq} was taken");
            }
            assert!(seqs.iter().all(|seq| !window.is_fresh(*seq)));
        }
    }

    #[test]
    fn what_is_too_old_to_know_is_refused() {
        let mut window = Window::new();
        window.mark(1_000_000);
        assert!(!window.is_fresh(1_000_000 - WINDOW_SEQS));
        assert!(window.is_fresh(1_000_000 - WINDOW_SEQS + 1));
        assert!(!window.is_fresh(0), "numbers count from 1");
    }

    #[test]
    fn a_window_agrees_with_a_set_of_all_numbers() {
        let mut random = fastrand::Rng::with_seed(11);
        let (mut window, mut seen) = (Window::new(), std::collections::BTreeSet::new());
        let mut highest = 1_u64;
        for _ in 0..100_000 {
            highest += random.u64(0..3) * random.u64(0..90);
            let seq = highest.saturating_sub(random.u64(0..1_500)).max(1);
            if window.is_fresh(seq) {
                assert!(seen.insert(seq), "{seq} was taken twice");
                window.mark(seq);
            } else {
                let known = seen.last().is_some_and(|last| seq + WINDOW_SEQS <= *last);
                assert!(known || seen.contains(&seq), "{seq} was refused without a reason");
            }
        }
        window.mark(u64::MAX);
        assert!(!window.is_fresh(u64::MAX) && window.is_fresh(u64::MAX - 1));
    }

    #[test]
    fn a_window_that_begins_with_a_proof_takes_what_follows_and_nothing_before() {
        for proof in [1, 62, 63, 64, 65, 1_023, 1_024, 1_025, 1_087, 1_088, 5_000, u64::MAX - 1] {
            let mut window = Window::after(proof);
            for back in 0..WINDOW_SEQS + 70 {
                assert!(!window.is_fresh(proof.saturating_sub(back)), "{back} before the proof {proof}");
            }
            let later: Vec<u64> = (1..200).filter_map(|ahead| proof.checked_add(ahead)).collect();
            for seq in later.iter().rev() {
                assert!(window.is_fresh(*seq), "{seq} follows the proof {proof}");
                window.mark(*seq);
                assert!(!window.is_fresh(*seq) && !window.is_fresh(proof), "{seq} after {proof}");
            }
        }
    }

    fn start(id: u64, boot: u64) -> (Boot, u64, SenderKey) {
        (Boot(boot), 1, Secret::from([1; 32]).datagram_key(NodeId(id), Boot(boot), 1))
    }

    #[test]
    fn strangers_never_push_out_a_member() {
        let mut windows = Windows::default();
        assert!(windows.prove(NodeId(1), start(1, 1), 1));
        (2..1_000).for_each(|id| windows.mark_stranger(NodeId(id), start(id, 1), 1, STRANGERS_MAX));
        assert_eq!((windows.members.len(), windows.strangers.len()), (1, STRANGERS_MAX));
        assert!(windows.member(NodeId(1)).is_some() && windows.stranger(NodeId(2)).is_none());
        assert!(windows.stranger(NodeId(999)).is_some());
        assert!(windows.prove(NodeId(999), start(999, 1), 2));
        assert!(windows.stranger(NodeId(999)).is_none(), "it is a member now");
    }

    #[test]
    fn a_proof_of_whom_there_was_no_room_for_any_more_does_not_count_twice() {
        let mut windows = Windows::default();
        let newest = (MEMBERS_MAX + FLOORS_MAX) as u64;
        (0..newest).for_each(|id| assert!(windows.prove(NodeId(id), start(id, 5), 9), "{id}"));
        assert_eq!((windows.members.len(), windows.floors.len()), (MEMBERS_MAX, FLOORS_MAX));
        assert!(!windows.prove(NodeId(newest), start(newest, 5), 9), "nobody may be forgotten for it");
        for (boot, seq, counts) in [(5, 9, false), (5, 8, false), (4, 10, false), (5, 10, true)] {
            assert_eq!(windows.prove(NodeId(0), start(0, boot), seq), counts, "{boot} {seq}");
        }
        assert!(windows.prove(NodeId(1), start(1, 6), 1), "a later start counts from 1");
        assert_eq!((windows.members.len(), windows.floors.len()), (MEMBERS_MAX, FLOORS_MAX));
    }
}
