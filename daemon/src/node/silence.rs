//! Playing dead: what it means beyond the core. Nothing leaves but answers to controllers, nothing is proposed or
//! forwarded, and who asks this node for more than what it holds is told so.

use std::time::Duration;

use chorus_proto::forward::GaveUp;
use chorus_proto::types::Now;

use super::driver::Driver;
use super::handle::NoAnswer;

/// Why, in the view and to whoever is refused.
pub(super) const SILENT: &str = "this node plays dead until revive or a restart";

const CODE: &str = "playing_dead";
/// Whoever asks for a drill ends it, not time.
const RETRY: Duration = Duration::from_millis(500);

impl Driver {
    /// Falls silent. Requests that have left may still be carried out by others: they wait out their time.
    pub(super) fn play_dead(&mut self, now: Now) {
        let actions = self.core.play_dead(now);
        self.carry_out(now, actions);
        self.reads.refuse_all(refusal);
        // Before anybody is told: who was told sees it.
        self.publish(now);
    }

    /// Hears and speaks again.
    pub(super) fn revive(&mut self, now: Now) {
        let actions = self.core.revive(now);
        self.carry_out(now, actions);
        self.publish(now);
    }
}

/// What this node does not do while it plays dead. Nothing has happened.
pub(super) fn refusal() -> NoAnswer {
    NoAnswer { code: CODE, detail: format!("{SILENT}: ask another one"), retry: Some(RETRY), leader: None }
}

/// How a request ends that nobody could be given.
pub(super) fn gave_up() -> GaveUp {
    let NoAnswer { code, detail, .. } = refusal();
    GaveUp::Refused { code: code.to_owned(), detail, retry_ms: u64::try_from(RETRY.as_millis()).ok() }
}
