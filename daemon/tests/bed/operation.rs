//! One operation of a client: when it was called, when it was answered, and with what.

use std::fmt;
use std::time::Duration;

use crate::register::{Call, Outcome};

/// An operation on one key. Times are those of the one clock of the test.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) key: usize,
    pub(crate) call: Call,
    pub(crate) outcome: Outcome,
    pub(crate) called: Duration,
    /// None: it is open for ever.
    pub(crate) returned: Option<Duration>,
    /// Applied index that the answer to a read rests on.
    pub(crate) applied: Option<u64>,
    /// Which nodes were asked, and what each said.
    pub(crate) attempts: Vec<Attempt>,
}

/// One request of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// Position of the node.
    pub(crate) node: usize,
    /// Its answer in short.
    pub(crate) said: String,
}

impl Operation {
    /// Whether this one was over before `other` began.
    pub(crate) fn precedes(&self, other: &Self) -> bool {
        self.returned.is_some_and(|returned| returned < other.called)
    }

    /// The entry that this write is.
    pub(crate) fn entry(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Done { index } => Some(index),
            _ => None,
        }
    }
}

/// One line of a timeline.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, key, call, outcome, called, returned, applied, attempts } = self;
        write!(f, "{}  client {client:2}  key {key:2}  {call} → {outcome}", Times(*called, *returned))?;
        if let Some(applied) = applied {
            write!(f, " at applied_index {applied}")?;
        }
        attempts.iter().try_for_each(|attempt| write!(f, "{attempt}"))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "; n{}: {}", self.node + 1, self.said)
    }
}

/// From a call to its return, in seconds of the test's clock.
pub(crate) struct Times(pub(crate) Duration, pub(crate) Option<Duration>);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(called, returned) = self;
        let end = returned.map_or("  open   ".to_owned(), |at| format!("{:9.4}", at.as_secs_f64()));
        write!(f, "{:9.4} … {end} s", called.as_secs_f64())
    }
}
