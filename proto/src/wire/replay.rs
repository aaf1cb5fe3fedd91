//! Replay windows: which datagrams of whom were opened already.

use std::collections::BTreeMap;

use ring::aead::LessSafeKey;

use crate::types::{Boot, NodeId};
use crate::{mark, planted};

/// How far, in datagrams, one may come late and still be taken.
pub const WINDOW_SEQS: u64 = 1_024;
/// Windows of senders that were never heard under the cluster's tag.
pub const STRANGERS_MAX: usize = 64;
/// Windows in all.
pub const WINDOWS_MAX: usize = 1_024;

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
    pub(super) key: LessSafeKey,
    pub(super) window: Window,
    /// Was heard under the cluster's tag.
    member: bool,
    /// When it was last heard, in datagrams opened here.
    used: u64,
}

/// The windows of everyone heard; the longest silent goes first when there are too many.
#[derive(Debug, Default)]
pub(super) struct Windows {
    senders: BTreeMap<NodeId, Heard>,
    opened: u64,
}

impl Windows {
    pub(super) fn find(&self, sender: NodeId) -> Option<&Heard> {
        self.senders.get(&sender)
    }

    /// Notes an authenticated datagram of a start that is known.
    pub(super) fn mark(&mut self, sender: NodeId, seq: u64, member: bool) {
        self.opened += 1;
        let Some(heard) = self.senders.get_mut(&sender) else { return };
        heard.window.mark(seq);
        heard.used = self.opened;
        if member && !heard.member {
            heard.member = true;
            self.make_room(sender, true);
        }
    }

    /// Notes the first authenticated datagram of a start; a former start of the same sender is forgotten.
    pub(super) fn start(
        &mut self,
        sender: NodeId,
        (boot, salt, key): (Boot, u64, LessSafeKey),
        seq: u64,
        member: bool,
    ) {
        self.opened += 1;
        let member = member || self.senders.get(&sender).is_some_and(|heard| heard.member);
        let mut window = Window::new();
        window.mark(seq);
        self.senders.insert(sender, Heard { boot, salt, key, window, member, used: self.opened });
        self.make_room(sender, member);
    }

    /// Holds both limits. Strangers and members have shares of their own, so that a crowd of controllers cannot push
    /// out a member's window.
    fn make_room(&mut self, newest: NodeId, member: bool) {
        let limit = if member { WINDOWS_MAX - STRANGERS_MAX } else { STRANGERS_MAX };
        let alike = || self.senders.iter().filter(|(_, heard)| heard.member == member);
        if alike().count() <= limit {
            return;
        }
        let oldest = alike().filter(|(id, _)| **id != newest).min_by_key(|(_, heard)| heard.used);
        if let Some(oldest) = oldest.map(|(id, _)| *id) {
            self.senders.remove(&oldest);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.senders.len()
    }
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
    fn strangers_never_push_out_a_member() {
        let secret = Secret::from([1; 32]);
        let mut windows = Windows::default();
        let start = |windows: &mut Windows, id: u64, member| {
            let key = secret.datagram_key(NodeId(id), Boot(1), 1);
            windows.start(NodeId(id), (Boot(1), 1, key), 1, member);
        };
        start(&mut windows, 1, true);
        (2..1_000).for_each(|id| start(&mut windows, id, false));
        assert_eq!(windows.len(), 1 + STRANGERS_MAX);
        assert!(windows.find(NodeId(1)).is_some() && windows.find(NodeId(2)).is_none());
        assert!(windows.find(NodeId(999)).is_some());
        (10_000..12_000).for_each(|id| start(&mut windows, id, true));
        assert_eq!(windows.len(), WINDOWS_MAX);
        windows.mark(NodeId(999), 2, true);
        assert_eq!(windows.len(), WINDOWS_MAX - 1, "a stranger that joins takes the oldest member's place");
        assert!(windows.find(NodeId(999)).is_some());
    }
}
