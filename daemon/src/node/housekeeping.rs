//! What has to be done from time to time, whatever comes in.

use chorus_proto::types::{Index, Now, Span};
use tracing::{info, warn};

use super::driver::Driver;

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
        self.lag.note(now.time, committed);
        if self.state.housekeepings.is_multiple_of(EACH_SECOND) {
            self.state.view_changed = true;
            self.look_after_transport();
        }
    }

    fn look_after_transport(&mut self) {
        let upkeep = self.speech.transport().maintain();
        if upkeep.lost && !self.state.interface_lost {
            warn!(
                "the interface of the group is away: this node neither hears nor is heard until it is back"
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
