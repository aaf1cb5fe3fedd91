//! What has to be done from time to time, whatever comes in.

use chorus_proto::message::Role;
use chorus_proto::presence::Peer;
use chorus_proto::types::{Index, NodeId, Now, Span};
use tracing::{error, info, warn};

use super::digests::Verdict;
use super::driver::Driver;
use super::dropped::{Drops, NEWER_KEY};
use crate::store::Heard;

/// View, lag, and signs of life.
const HOUSEKEEPING: Span = Span::from_millis(500);
/// Rounds of housekeeping in a second: the numbers of the view come in HELLOs, which are not more frequent.
const EACH_SECOND: u64 = 2;
/// Rounds of housekeeping between two looks at the kernel's counters.
const LOOK_AT_KERNEL: u64 = 20;
/// Rounds of housekeeping between two looks at the disk of an idle node, and two notes of what was heard of the others.
const NOW_AND_THEN: u64 = 10;

impl Driver {
    pub(super) fn housekeep(&mut self, now: Now) {
        self.state.housekeeping_at = now.time + HOUSEKEEPING;
        self.state.housekeepings += 1;
        let peers = self.core.presence().peers();
        let ours = self.core.presence().cluster();
        let heard =
            peers.filter(|(_, peer)| peer.hello.cluster == ours).map(|(_, peer)| peer.hello.commit_index);
        let committed = heard.fold(self.core.standing().commit_index, Index::max);
        self.lag.note(now.time, committed, self.core.standing().applied_index);
        self.look_after_snapshots(now);
        self.compare_states();
        self.look_after_keys(now);
        let now_and_then = self.state.housekeepings.is_multiple_of(NOW_AND_THEN);
        if self.reserve.is_short() || now_and_then {
            // Others fill disks too, and nothing else may be written here that would look.
            self.look_at_room(now);
        }
        if now_and_then && !self.reserve.is_short() {
            self.note_heard(now);
        }
        for (reason, Drops { count, last_from }) in self.speech.dropped.due(now.time) {
            if reason == NEWER_KEY && self.core.standing().leader.is_none() {
                warn!(
                    count, %last_from,
                    "dropped datagrams under a key that this node does not hold: if its own is retired, put the present \
                     cluster.key in its key file and start it again"
                );
            } else if reason != NEWER_KEY {
                info!(reason, count, %last_from, "dropped datagrams that say nothing to this node");
            }
        }
        if self.state.housekeepings.is_multiple_of(EACH_SECOND) {
            self.state.view_changed = true;
            self.look_after_transport();
            self.tell_usage();
        }
        let by_unicast = self.core.presence().heard_by_unicast(now).count();
        self.metrics.heard_by_unicast.set(by_unicast as u64);
    }

    /// Keeps what was heard of the others: should most of their disks be lost, people know what this one lacks.
    fn note_heard(&self, now: Now) {
        let presence = self.core.presence();
        let ours = presence.cluster();
        let members = presence.peers().map(|(_, peer)| peer).filter(|peer| peer.hello.cluster == ours);
        let heard: Vec<Heard> = members.map(|peer| heard_of(peer, now)).collect();
        if ours.is_none() || heard.is_empty() {
            return;
        }
        let stores = self.stores.clone();
        self.aside.tidy(move || {
            if let Err(error) = stores.note_heard(&heard) {
                // Nothing that this node promised depends on it.
                warn!("what was heard of the others is not kept: {error}");
            }
            Ok(())
        });
    }

    /// Hears what others name as the digests of their states. A state that is wrong serves nobody any more.
    fn compare_states(&mut self) {
        let (ours, configuration) = (self.core.presence().cluster(), self.core.configuration());
        for (id, peer) in self.core.presence().peers().filter(|(_, peer)| peer.hello.cluster == ours) {
            if configuration.voters.iter().any(|voter| voter.id() == id)
                && let Some(digest) = peer.hello.state
            {
                self.digests.note(id, digest);
            }
        }
        let verdict = self.digests.judge(self.oneself.id, configuration);
        if self.state.excluded.is_some() || self.state.verdict == verdict {
            return;
        }
        self.state.verdict = verdict;
        self.state.view_changed = true;
        match verdict {
            Verdict::Unknown => {}
            Verdict::Shared => {
                let stores = self.stores.clone();
                self.aside.tidy(move || stores.trust());
            }
            Verdict::Open(index) => error!(
                index = index.0,
                "the states of the voters differ at entry {index}, and no majority says which is right: look at the nodes' \
                 disks and programs"
            ),
            Verdict::Wrong(index) => {
                let why =
                    format!("its state at entry {index} is another than that of a majority of the voters");
                self.exclude(why.clone());
                self.start_without(move |stores| stores.quarantine(&why));
            }
        }
    }

    /// Tells people, once, whom the group does not reach from here.
    pub(super) fn notice_reach(&mut self) {
        let presence = self.core.presence();
        if self.state.unreached == presence.copies_to() {
            return;
        }
        let names = |ids: &[NodeId]| {
            let names: Vec<String> =
                ids.iter().filter_map(|id| self.oneself.name_of(&self.core, *id)).map(String::from).collect();
            names.join(", ")
        };
        let unreached = presence.copies_to();
        self.metrics.unicast_copies_to.set(unreached.len() as u64);
        let (before, after) = (&self.state.unreached, unreached);
        let lost: Vec<NodeId> = after.iter().filter(|id| !before.contains(id)).copied().collect();
        let found: Vec<NodeId> = before.iter().filter(|id| !after.contains(id)).copied().collect();
        if !lost.is_empty() {
            warn!(
                "multicast does not reach {}: what goes to the group goes there by unicast too",
                names(&lost)
            );
        }
        if !found.is_empty() {
            info!("nothing goes to {} by unicast any more but what is for it alone", names(&found));
        }
        self.state.unreached = unreached.to_vec();
    }

    fn look_after_transport(&mut self) {
        let upkeep = self.speech.transport().maintain();
        if upkeep.lost && !self.state.interface_lost {
            warn!(
                "the interface of the group is away: until it is back this node hears, and is heard by, nobody over \
                 multicast"
            );
        }
        if upkeep.rejoined {
            info!("the group was joined again on an interface that is back");
        }
        self.state.interface_lost = upkeep.lost;
        if self.state.housekeepings.is_multiple_of(LOOK_AT_KERNEL) {
            let drops = self.speech.transport().kernel_drops();
            self.metrics.kernel_drops.inc_by(drops.saturating_sub(self.state.kernel_drops));
            self.state.kernel_drops = drops;
        }
    }
}

/// What people have to know of it.
fn heard_of(peer: &Peer, now: Now) -> Heard {
    let hello = &peer.hello;
    let role = match hello.role {
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Learner => "learner",
    };
    Heard {
        name: hello.name.to_string(),
        role: role.to_owned(),
        term: hello.durable.term.0,
        index: hello.durable.index.0,
        commit_index: hello.commit_index.0,
        at_ms: now.clock_ms.saturating_sub(now.time.since(peer.hello_heard).0 / 1_000),
    }
}
