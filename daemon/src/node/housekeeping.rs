//! What has to be done from time to time, whatever comes in.

use chorus_proto::types::{Index, NodeId, Now, Span};
use tracing::{info, warn};

use super::driver::Driver;
use super::dropped::Drops;

/// View, lag, and signs of life.
const HOUSEKEEPING: Span = Span::from_millis(500);
/// Rounds of housekeeping in a second: the numbers of the view come in HELLOs, which are not more frequent.
const EACH_SECOND: u64 = 2;
/// Rounds of housekeeping between two looks at the kernel's counters.
const LOOK_AT_KERNEL: u64 = 20;

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
        if self.reserve.is_short() {
            // Nothing else may be written that would look.
            self.look_at_room(now);
        }
        for (reason, Drops { count, last_from }) in self.speech.dropped.due(now.time) {
            info!(reason, count, %last_from, "dropped datagrams that say nothing to this node");
        }
        if self.state.housekeepings.is_multiple_of(EACH_SECOND) {
            self.state.view_changed = true;
            self.look_after_transport();
        }
        let by_unicast = self.core.presence().heard_by_unicast(now).count();
        self.metrics.heard_by_unicast.set(by_unicast as u64);
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
