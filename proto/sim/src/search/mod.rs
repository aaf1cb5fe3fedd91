//! Every interleaving of a small cluster's steps, to a bound.
//!
//! Lives from seeds go deep and meet what is likely; this goes everywhere, where little happens: three nodes with the
//! real core. Left alone, messages arrive and writes land in the order in which they were asked for. Within its
//! [`Bounds`] the search takes every way to depart from that: at any moment a node campaigns, crashes with some of its
//! writes landed, or takes a command; a message is lost, or comes twice; a message or a write comes after all others.
//! (Bounding the departures, and not the depth, reaches the whole of an election and of the next.) States that are
//! alike are looked at once. The rules hold in every state ([`rules`]).
//!
//! What is simplified, so that all of it can be looked at: time passes only where somebody campaigns; the question
//! before a campaign (VOTECONSENSUS, which changes no term) is answered at once by all; presence and founding lie behind
//! the cluster; the state machine applies at once.

mod cluster;
mod node;
mod rules;

pub use node::Lie;

use std::collections::HashSet;
use std::sync::Arc;

use cluster::Cluster;

/// How often something may happen, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Campaigns: the highest term.
    pub campaigns: u8,
    /// Commands; each leader begins with an entry of its own besides.
    pub commands: u8,
    /// Crashes, each followed by a start.
    pub crashes: u8,
    /// Messages that come twice.
    pub repeats: u8,
    /// Messages and writes that come last instead of first, and messages that are lost.
    pub deviations: u8,
    /// States that are looked at, at most.
    pub states_max: usize,
}

/// What was looked at.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// States from which nothing could happen any more.
    pub ends: usize,
    /// There were more states than the bound allows.
    pub cut_short: bool,
    /// Different entries that were committed, over all states: that something happens at all.
    pub committed_max: usize,
    /// The highest term that had a leader.
    pub term_max: u64,
    /// The first rule that was broken, with the steps that led there.
    pub broken: Option<String>,
}

/// The steps that led to a state, the last first.
#[derive(Debug)]
struct Trail {
    step: String,
    before: Option<Arc<Trail>>,
}

/// Looks at everything within the bounds, or until a rule is broken. The disk tells that lie, if any.
#[must_use]
pub fn search(bounds: Bounds, lie: Option<Lie>) -> Found {
    let mut found = Found::default();
    let start = Cluster::new(bounds, lie);
    let mut seen = HashSet::from([start.key()]);
    let mut open: Vec<(Cluster, Option<Arc<Trail>>)> = vec![(start, None)];
    while let Some((cluster, trail)) = open.pop() {
        found.states += 1;
        found.committed_max = found.committed_max.max(cluster.committed());
        found.term_max = found.term_max.max(cluster.term_of_last_leader());
        let steps = cluster.steps();
        found.ends += usize::from(steps.is_empty());
        // What is found last is looked at first: departures, whose bounds are soon used up.
        for step in steps {
            found.steps += 1;
            let mut next = cluster.clone();
            let taken = next.take(step);
            if let Err(rule) = taken {
                found.broken = Some(tell(&rule, &cluster.describe(step), trail.as_ref()));
                return found;
            }
            if seen.len() >= bounds.states_max {
                found.cut_short = true;
            } else if seen.insert(next.key()) {
                let trail = Trail { step: cluster.describe(step), before: trail.clone() };
                open.push((next, Some(Arc::new(trail))));
            }
        }
    }
    found
}

/// A broken rule as a story.
fn tell(rule: &str, last: &str, trail: Option<&Arc<Trail>>) -> String {
    let mut steps = vec![last];
    let mut at = trail;
    while let Some(trail) = at {
        steps.push(&trail.step);
        at = trail.before.as_ref();
    }
    steps.reverse();
    format!("{rule}\nafter\n  {}", steps.join("\n  "))
}
