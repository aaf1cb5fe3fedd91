//! One follower of the feed: its place, and where what it lacks comes from.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use super::super::limits::BATCH_BYTES;
use super::super::problem::Problem;
use super::super::site::{Shared, epoch};
use super::frames::{Frame, Reducer, Reset, Step};
use crate::node::ClusterView;
use crate::store::AppliedEntry;

/// Between two ticks; promised is at most a second.
const TICK: Duration = Duration::from_millis(800);

/// A follower may be ahead of this node for so long.
const AHEAD_WAIT_MAX: Duration = Duration::from_secs(5);

/// A follower that lags so many entries behind what it was told is better off with a fresh list.
const LAG_ENTRIES_MAX: u64 = 10_000;

/// What comes next for a follower.
#[derive(Debug)]
pub(super) enum Next {
    /// Say this. After a reset the follower has no place any more.
    Say(Frame),
    /// It asked for what this node does not have in time: it should ask another.
    Ahead,
    /// So much is read here that there is nothing for it: it should ask another.
    Busy,
    /// The loop is gone.
    End,
}

/// Where a follower's next words come from.
#[derive(Debug)]
enum Source {
    /// Its cursor lies ahead of this node until then.
    Future(Instant),
    /// The store: its first words, or it fell behind.
    Store {
        /// Nothing was said yet since it resumed.
        first: bool,
    },
    /// The loop's broadcast.
    Live,
}

/// A follower with a place in the feed.
#[derive(Debug)]
pub(super) struct Follower {
    site: Shared,
    reducer: Reducer,
    source: Source,
    /// A tick is due once everything up to here was told.
    due: Option<u64>,
    live: broadcast::Receiver<Arc<AppliedEntry>>,
    view: watch::Receiver<Arc<ClusterView>>,
    leader: (Option<String>, u64),
    ticks: Interval,
}

impl Follower {
    /// A follower after `after` (none: from now) of these topics (none: all), who sees what is private or not.
    pub(super) fn after(
        site: Shared,
        after: Option<u64>,
        topics: Option<BTreeSet<&'static str>>,
        reads: bool,
    ) -> Self {
        // First the subscription, then the look at the applied index: what comes between is told twice to the
        // reducer, never not at all.
        let live = site.handle.feed.subscribe();
        let mut view = site.handle.view.clone();
        let leader = led(&view.borrow_and_update());
        let applied = site.applied();
        let (source, due) = match after {
            None => (Source::Live, Some(applied)),
            Some(after) if after > applied => (Source::Future(Instant::now() + AHEAD_WAIT_MAX), None),
            Some(_) => (Source::Store { first: true }, None),
        };
        let mut ticks = interval_at(Instant::now() + TICK, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reducer = Reducer::new(after.unwrap_or(applied), topics);
        let reducer = if reads { reducer } else { reducer.hiding(site.boards) };
        Self { site, reducer, source, due, live, view, leader, ticks }
    }

    /// Leaves out what is up to `seq`, as whoever was reset and fetched everything anew.
    pub(super) fn go_on_after(&mut self, seq: u64) {
        self.reducer.go_on_after(seq);
        self.live = self.live.resubscribe();
        self.source = Source::Store { first: true };
        self.due = None;
    }

    /// What comes next. May be dropped and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            let step = match self.source {
                Source::Future(until) => self.await_cursor(until).await,
                Source::Store { first } => self.read_store(first).await,
                Source::Live => self.hear_loop().await,
            };
            if let Some(next) = step {
                return next;
            }
        }
    }

    /// Waits for this node to reach the follower's cursor.
    async fn await_cursor(&mut self, until: Instant) -> Option<Next> {
        let mut applied = self.site.handle.applied.clone();
        let cursor = self.reducer.covered();
        tokio::select! {
            reached = applied.wait_for(|now| *now >= cursor) => {
                if reached.is_err() {
                    return Some(Next::End);
                }
                self.source = Source::Store { first: true };
                None
            }
            () = sleep_until(until) => Some(Next::Ahead),
        }
    }

    /// Reads what lies between the follower and the applied index.
    async fn read_store(&mut self, first: bool) -> Option<Next> {
        let covered = self.reducer.covered();
        let applied = self.site.applied();
        if applied <= covered && !first {
            self.source = Source::Live;
            return None;
        }
        let ((entries, to), oldest) = match self.events(covered, applied).await {
            Ok(read) => read,
            Err(problem) if problem.code() == "overloaded" => return Some(Next::Busy),
            Err(problem) => {
                tracing::error!(detail = problem.detail(), "the feed could not be read");
                return Some(Next::End);
            }
        };
        if covered + 1 < oldest {
            return Some(Next::Say(Frame::Reset { reason: Reset::Trimmed, seq: applied }));
        }
        self.source = Source::Store { first: false };
        Some(Next::Say(self.reducer.batch(to, &entries)))
    }

    /// What a batch takes of the entries in (after, upto] and up to where, and from where on they are kept.
    async fn events(&self, after: u64, upto: u64) -> Result<((Vec<Arc<AppliedEntry>>, u64), u64), Problem> {
        self.site
            .read(move |stores| {
                let events = stores.events(after, upto, BATCH_BYTES)?;
                // Asked for after the events: what is trimmed meanwhile shows.
                Ok((events, stores.oldest_event()?))
            })
            .await
    }

    /// Takes what the loop sends, a tick when its time has come or the leader changes.
    async fn hear_loop(&mut self) -> Option<Next> {
        if let Some(due) = self.due {
            return self.before_tick(due);
        }
        let received = tokio::select! {
            // Ticks first: a busy feed of other topics must not hold them back.
            biased;
            _ = self.ticks.tick() => {
                self.due = Some(self.site.applied());
                return None;
            }
            changed = self.view.changed() => {
                if changed.is_err() {
                    return Some(Next::End);
                }
                let now = led(&self.view.borrow_and_update());
                if now != self.leader {
                    self.leader = now;
                    self.due = Some(self.site.applied());
                }
                return None;
            }
            received = self.live.recv() => received,
        };
        match received {
            Ok(entry) => self.entry(&entry),
            Err(RecvError::Lagged(_)) => self.behind(),
            Err(RecvError::Closed) => Some(Next::End),
        }
    }

    /// What was applied before a tick fell due is told before it.
    fn before_tick(&mut self, due: u64) -> Option<Next> {
        if self.reducer.covered() >= due {
            self.due = None;
            self.ticks.reset();
            let view = self.view.borrow().clone();
            return Some(Next::Say(self.reducer.tick(&view)));
        }
        match self.live.try_recv() {
            Ok(entry) => self.entry(&entry),
            // Applied, but not sent: a snapshot took the place of these entries, or they are on their way.
            Err(TryRecvError::Empty | TryRecvError::Lagged(_)) => self.behind(),
            Err(TryRecvError::Closed) => Some(Next::End),
        }
    }

    fn entry(&mut self, entry: &AppliedEntry) -> Option<Next> {
        match self.reducer.entry(entry) {
            Step::Say(frame) => Some(Next::Say(frame)),
            Step::Quiet => None,
            Step::Gap => self.behind(),
        }
    }

    fn behind(&mut self) -> Option<Next> {
        let applied = self.site.applied();
        if applied.saturating_sub(self.reducer.covered()) > LAG_ENTRIES_MAX {
            return Some(Next::Say(Frame::Reset { reason: Reset::Slow, seq: applied }));
        }
        self.source = Source::Store { first: false };
        None
    }
}

/// The reset of a follower whose place belongs to another life of the cluster than this node's; none where it does not say.
pub(super) fn reset_of_epoch(site: &Shared, of_epoch: Option<&str>) -> Option<Frame> {
    let is_another = of_epoch.is_some_and(|asked| asked != epoch(&site.view()));
    is_another.then(|| Frame::Reset { reason: Reset::Epoch, seq: site.applied() })
}

fn led(view: &ClusterView) -> (Option<String>, u64) {
    (view.leader.as_ref().map(ToString::to_string), view.term)
}

#[cfg(test)]
mod tests {
    use super::super::super::site::by_hand::hand;
    use super::super::frames::applied;
    use super::*;

    async fn said(follower: &mut Follower) -> Frame {
        match tokio::time::timeout(Duration::from_secs(10), follower.next()).await {
            Ok(Next::Say(frame)) => frame,
            other => panic!("nothing was said: {other:?}"),
        }
    }

    #[tokio::test]
    async fn whoever_lags_too_far_behind_is_better_off_with_a_fresh_list() {
        let hand = hand();
        let mut follower = Follower::after(hand.site.clone(), None, None, true);
        assert!(matches!(said(&mut follower).await, Frame::Tick { seq: 0, .. }));
        let far = LAG_ENTRIES_MAX + 1;
        hand.feed.send(applied(far, &["quotes"])).unwrap();
        hand.applied.send_replace(far);
        assert_eq!(said(&mut follower).await, Frame::Reset { reason: Reset::Slow, seq: far });
    }

    #[tokio::test]
    async fn entries_that_never_come_by_broadcast_are_covered_from_the_store() {
        // As after a snapshot: the applied index jumps, and no entry is sent.
        let hand = hand();
        let mut follower = Follower::after(hand.site.clone(), Some(0), None, true);
        assert!(matches!(said(&mut follower).await, Frame::Batch { from: 0, to: 0, .. }));
        hand.applied.send_replace(7);
        assert!(matches!(said(&mut follower).await, Frame::Batch { from: 0, to: 7, .. }));
        assert!(matches!(said(&mut follower).await, Frame::Tick { seq: 7, .. }));
        hand.feed.send(applied(8, &["quotes"])).unwrap();
        hand.applied.send_replace(8);
        assert!(matches!(said(&mut follower).await, Frame::Event { prev: 7, seq: 8, .. }));
    }

    #[tokio::test]
    async fn a_busy_feed_of_another_topic_does_not_hold_ticks_back() {
        let hand = hand();
        let topics = Some(BTreeSet::from(["store"]));
        let mut follower = Follower::after(hand.site.clone(), Some(0), topics, true);
        assert!(matches!(said(&mut follower).await, Frame::Batch { .. }));
        let feed = hand.feed.clone();
        let counter = hand.applied;
        let writer = tokio::spawn(async move {
            for index in 1.. {
                if feed.send(applied(index, &["quotes"])).is_err() {
                    break;
                }
                counter.send_replace(index);
                tokio::task::yield_now().await;
            }
        });
        let mut cursor = 0;
        while cursor == 0 {
            if let Frame::Tick { seq, .. } = said(&mut follower).await {
                cursor = seq;
            }
        }
        writer.abort();
        assert!(cursor > 0);
    }
}
