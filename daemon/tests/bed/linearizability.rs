//! Is there an order of the operations on a key that the register allows, and that keeps apart whatever real time
//! kept apart? Herlihy and Wing's linearizability, looked for as Wing and Gong do, with Lowe's memory of what was
//! tried: two searches that have placed the same operations and reached the same state go on alike.
//!
//! A history is linearizable if and only if its part on each key is (locality), so keys are judged one by one. An
//! operation whose outcome is unknown may be placed anywhere after its call, or not at all.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::operation::Operation;
use crate::register::{Outcome, State, step};
use crate::verdict::Verdict;

/// Configurations of one key that are looked at; a history of the test bed needs a few for each operation.
const LOOKS_MAX: usize = 4_000_000;

/// Operations in the timeline of a failure.
const TIMELINE_MAX: usize = 60;

/// Whether the operations on one key have an order that the register allows; a timeline if they have none.
pub(crate) fn check(operations: &[&Operation]) -> Verdict {
    let mut search = Search::of(operations);
    if search.run() { Ok(()) } else { Err(search.tell()) }
}

/// Which operations have their place in the order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Placed {
    /// All answered ones before this position,
    before: usize,
    /// and these after it, in ascending order,
    ahead: Vec<usize>,
    /// and these of the open ones, in ascending order.
    open: Vec<usize>,
}

impl Placed {
    fn has(&self, position: usize) -> bool {
        position < self.before || self.ahead.binary_search(&position).is_ok()
    }

    fn with(&self, position: usize) -> Self {
        let mut next = self.clone();
        insert(&mut next.ahead, position);
        while next.ahead.first() == Some(&next.before) {
            next.ahead.remove(0);
            next.before += 1;
        }
        next
    }

    fn with_open(&self, position: usize) -> Self {
        let mut next = self.clone();
        insert(&mut next.open, position);
        next
    }

    fn count(&self) -> usize {
        self.before + self.ahead.len()
    }
}

fn insert(ascending: &mut Vec<usize>, position: usize) {
    let place = ascending.binary_search(&position).expect_err("an operation is placed once");
    ascending.insert(place, position);
}

struct Search<'a> {
    /// In the order of their calls.
    answered: Vec<&'a Operation>,
    open: Vec<&'a Operation>,
    seen: HashSet<(Placed, State)>,
    /// The search that came farthest.
    farthest: (Placed, State),
}

impl<'a> Search<'a> {
    fn of(operations: &[&'a Operation]) -> Self {
        let (mut answered, mut open): (Vec<_>, Vec<_>) =
            operations.iter().copied().partition(|operation| operation.returned.is_some());
        answered.sort_by_key(|operation| operation.called);
        open.sort_by_key(|operation| operation.called);
        Self { answered, open, seen: HashSet::new(), farthest: (Placed::default(), None) }
    }

    fn run(&mut self) -> bool {
        let mut ahead = vec![(Placed::default(), None)];
        while let Some((placed, state)) = ahead.pop() {
            if placed.before == self.answered.len() {
                return true;
            }
            if placed.count() > self.farthest.0.count() {
                self.farthest = (placed.clone(), state);
            }
            // The last is looked at first: open ones only when nothing else leads on.
            let mut next = self.steps_of_open(&placed, state);
            next.extend(self.steps_of_answered(&placed, state));
            for step in next {
                if self.seen.insert(step.clone()) {
                    ahead.push(step);
                }
            }
            assert!(self.seen.len() < LOOKS_MAX, "undecided after {LOOKS_MAX} looks: {}", self.tell());
        }
        false
    }

    /// What an answered operation may do next. Those answered first come last, to be tried first.
    fn steps_of_answered(&self, placed: &Placed, state: State) -> Vec<(Placed, State)> {
        let mut candidates = self.candidates(placed);
        candidates.sort_by_key(|&position| std::cmp::Reverse(self.answered[position].returned));
        let allowed = candidates.into_iter().filter_map(|position| {
            let operation = self.answered[position];
            Some((placed.with(position), step(state, operation.call, operation.outcome)?))
        });
        allowed.collect()
    }

    /// What an open operation may do next, if it changes anything. Of those that nobody read the effect of and that ask
    /// the same, one is enough: the others can do now what it could, and later what they could.
    fn steps_of_open(&self, placed: &Placed, state: State) -> Vec<(Placed, State)> {
        let latest = self.first_return(placed);
        let mut asked = Vec::new();
        let mut steps = Vec::new();
        for (position, operation) in self.open.iter().enumerate() {
            if operation.called > latest {
                break;
            }
            let Some(after) = step(state, operation.call, operation.outcome) else { continue };
            if after == state || placed.open.binary_search(&position).is_ok() {
                continue;
            }
            if operation.outcome == (Outcome::Unknown { index: None }) {
                let same = operation.call.nameless();
                if asked.contains(&same) {
                    continue;
                }
                asked.push(same);
            }
            steps.push((placed.with_open(position), after));
        }
        steps
    }

    /// The answered operations that no other one, still without a place, precedes.
    fn candidates(&self, placed: &Placed) -> Vec<usize> {
        let latest = self.first_return(placed);
        (placed.before..self.answered.len())
            .take_while(|&position| self.answered[position].called <= latest)
            .filter(|&position| !placed.has(position))
            .collect()
    }

    /// When the first answer came of those that have no place yet.
    fn first_return(&self, placed: &Placed) -> Duration {
        let mut first = Duration::MAX;
        for (position, operation) in self.answered.iter().enumerate().skip(placed.before) {
            if operation.called > first {
                break;
            }
            if !placed.has(position) {
                first = first.min(operation.returned.unwrap_or(Duration::MAX));
            }
        }
        first
    }

    /// Where no search came beyond, and what happened around that moment.
    fn tell(&self) -> String {
        let (placed, state) = &self.farthest;
        let stuck = self.candidates(placed);
        let from = stuck.iter().map(|&position| self.answered[position].called).min().unwrap_or_default();
        let to = stuck.iter().filter_map(|&position| self.answered[position].returned).max();
        let mut told = format!(
            "no order explains these operations: {} of {} can be placed, then the key holds {state:?}, and none of \
             those marked with * fits\n",
            placed.count(),
            self.answered.len()
        );
        let touches = |operation: &Operation| {
            Some(operation.called) <= to && operation.returned.is_none_or(|returned| returned >= from)
        };
        let mut lines: Vec<(Duration, String)> = Vec::new();
        for (position, operation) in self.answered.iter().enumerate() {
            // The last few before it, too: one of them may be what was lost.
            let near = touches(operation) || position < placed.before && position + 8 >= placed.before;
            if near {
                let mark = if stuck.contains(&position) { '*' } else { ' ' };
                lines.push((operation.called, format!("{mark} {operation}")));
            }
        }
        let open = self.open.iter().filter(|operation| touches(operation));
        lines.extend(open.map(|operation| (operation.called, format!("  {operation}"))));
        lines.sort();
        // What nobody can place comes last.
        for (_, line) in lines.iter().skip(lines.len().saturating_sub(TIMELINE_MAX)) {
            writeln!(told, "{line}").expect("a string takes everything");
        }
        told
    }
}
