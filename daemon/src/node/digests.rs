//! Whether this node's state is still that of the others: each names the digest of its own in HELLO.
//!
//! Nobody asks, and nobody judges another. A node that names something else than a majority of the voters, who all name the
//! same, has a state that is wrong, and says so itself.

use std::collections::BTreeMap;

use chorus_proto::message::StateDigest;
use chorus_proto::types::{Configuration, Index, NodeId};

/// Entries of which digests are kept: a slow node still finds what the others named there.
const KEPT: usize = 16;

/// What was named of the last entries where digests are compared.
#[derive(Debug, Default)]
pub(super) struct Digests {
    own: BTreeMap<At, StateDigest>,
    /// By voters alone, so that there are few.
    heard: BTreeMap<At, BTreeMap<NodeId, StateDigest>>,
}

/// An entry, and what is digested how: at one entry there may be two digests.
type At = (Index, u32);

/// How this node's state compares with those of the voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing was compared yet.
    Unknown,
    /// It is that of a majority, where it was compared.
    Shared,
    /// The states of voters differ at this entry, and no majority says which of them is right.
    Open(Index),
    /// It is another at this entry than that of a majority.
    Wrong(Index),
}

impl Digests {
    /// This node's own.
    pub(super) fn note_own(&mut self, digest: StateDigest) {
        self.own.insert((digest.index, digest.format), digest);
        keep_last(&mut self.own);
    }

    /// Another's, as its HELLO names it.
    pub(super) fn note(&mut self, from: NodeId, digest: StateDigest) {
        self.heard.entry((digest.index, digest.format)).or_default().insert(from, digest);
        keep_last(&mut self.heard);
    }

    /// What follows for `own`, when these vote.
    pub(super) fn judge(&self, own: NodeId, configuration: &Configuration) -> Verdict {
        let majority = configuration.voters.len() / 2 + 1;
        let mut verdict = Verdict::Unknown;
        for (at, ours) in &self.own {
            let Some(heard) = self.heard.get(at) else { continue };
            let named: Vec<&StateDigest> = configuration
                .voters
                .iter()
                .filter_map(|voter| heard.get(&voter.id()).filter(|_| voter.id() != own))
                .collect();
            let alike =
                |digest: &StateDigest| named.iter().filter(|other| other.digest == digest.digest).count();
            let with_us =
                alike(ours) + usize::from(configuration.voters.iter().any(|voter| voter.id() == own));
            let others = named.iter().filter(|digest| digest.digest != ours.digest);
            match others.map(|digest| alike(digest)).max() {
                Some(against_us) if against_us >= majority => return Verdict::Wrong(ours.index),
                Some(_) if with_us < majority => verdict = Verdict::Open(ours.index),
                _ if with_us >= majority && verdict == Verdict::Unknown => verdict = Verdict::Shared,
                _ => {}
            }
        }
        verdict
    }
}

fn keep_last<T>(of: &mut BTreeMap<At, T>) {
    while of.len() > KEPT {
        of.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use chorus_proto::types::{Identity, Voter};

    use super::*;

    fn voters(count: u8) -> Configuration {
        let voter = |n: u8| Voter { name: format!("n{n}").parse().unwrap(), identity: Identity([n; 16]) };
        Configuration { voters: (1..=count).map(voter).collect() }
    }

    fn id(n: u8) -> NodeId {
        Identity([n; 16]).node_id()
    }

    fn digest(index: u64, of: u8) -> StateDigest {
        StateDigest { index: Index(index), format: 2, digest: [of; 16] }
    }

    #[test]
    fn only_a_majority_of_voters_that_name_the_same_makes_a_state_wrong() {
        let mut digests = Digests::default();
        digests.note_own(digest(10_000, 1));
        digests.note(id(2), digest(10_000, 7));
        digests.note(id(9), digest(10_000, 7));
        assert_eq!(digests.judge(id(1), &voters(3)), Verdict::Open(Index(10_000)), "n9 does not vote");
        digests.note(id(3), digest(20_000, 7));
        assert_eq!(digests.judge(id(1), &voters(3)), Verdict::Open(Index(10_000)), "that is another entry");
        digests.note(id(3), StateDigest { format: 3, ..digest(10_000, 7) });
        assert_eq!(digests.judge(id(1), &voters(3)), Verdict::Open(Index(10_000)), "and another format");
        digests.note(id(3), digest(10_000, 8));
        assert_eq!(
            digests.judge(id(1), &voters(3)),
            Verdict::Open(Index(10_000)),
            "each says something else"
        );
        digests.note(id(3), digest(10_000, 7));
        assert_eq!(digests.judge(id(1), &voters(3)), Verdict::Wrong(Index(10_000)));
        assert_eq!(
            digests.judge(id(1), &voters(5)),
            Verdict::Open(Index(10_000)),
            "two of five are no majority"
        );
        // A learner counts nowhere, and learns of itself.
        assert_eq!(digests.judge(id(8), &voters(3)), Verdict::Wrong(Index(10_000)));
    }

    #[test]
    fn a_state_that_a_majority_shares_is_good_whatever_one_says() {
        let mut digests = Digests::default();
        digests.note_own(digest(10_000, 1));
        assert_eq!(digests.judge(id(1), &voters(3)), Verdict::Unknown);
        digests.note(id(2), digest(10_000, 1));
        digests.note(id(3), digest(10_000, 7));
        assert_eq!(digests.judge(id(1), &voters(3)), Verdict::Shared);
        assert_eq!(digests.judge(id(1), &voters(5)), Verdict::Open(Index(10_000)), "two of five");
        for index in 2..40 {
            digests.note_own(digest(index * 10_000, 1));
        }
        assert_eq!(digests.own.len(), KEPT);
    }
}
