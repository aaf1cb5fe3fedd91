//! What one key of the board `store` is allowed to answer: the sequential model that histories are held against.

use std::fmt;

/// What a key holds: the write that put it, or nothing.
pub(crate) type State = Option<Version>;

/// A value and the entry that put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    /// No two writes of a history put the same. `UNREAD` for one that nobody was told the index of.
    pub(crate) value: u64,
    /// The entry's index. None as long as nobody was told it: no `If-Match` can name it then.
    pub(crate) index: Option<u64>,
}

/// Stands for the value of a write without an outcome that nobody ever read: all of them are alike.
const UNREAD: u64 = u64::MAX;

/// What a client asks of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A linearizable read.
    Get,
    /// A write; with a condition, a compare-and-set.
    Put { value: u64, only_if: Option<OnlyIf> },
    /// The end of the key.
    Delete { only_if: Option<OnlyIf> },
}

/// `If-Match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnlyIf {
    /// Whatever is there, but something.
    Any,
    /// What this entry put.
    Index(u64),
}

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A read found this.
    Found { value: u64, index: u64 },
    /// A read, or a delete, found nothing.
    Missing,
    /// A write took effect as this entry.
    Done { index: u64 },
    /// The condition did not hold (`stale_version`).
    Stale,
    /// A write that may take effect at any time after its call, or never. `index` is its entry's, if a read told it.
    Unknown { index: Option<u64> },
}

impl Call {
    /// The same call, whatever it puts.
    pub(crate) fn nameless(self) -> Self {
        match self {
            Self::Put { only_if, .. } => Self::Put { value: UNREAD, only_if },
            Self::Get | Self::Delete { .. } => self,
        }
    }
}

impl OnlyIf {
    fn holds(only_if: Option<Self>, state: State) -> bool {
        match only_if {
            None => true,
            Some(Self::Any) => state.is_some(),
            Some(Self::Index(index)) => state.is_some_and(|version| version.index == Some(index)),
        }
    }
}

/// The state after `call`, if a key in `state` may answer it with `outcome`.
pub(crate) fn step(state: State, call: Call, outcome: Outcome) -> Option<State> {
    match (call, outcome) {
        (Call::Get, Outcome::Found { value, index }) => {
            (state == Some(Version { value, index: Some(index) })).then_some(state)
        }
        (Call::Get, Outcome::Missing) => state.is_none().then_some(state),
        (Call::Put { value, only_if }, Outcome::Done { index }) => {
            OnlyIf::holds(only_if, state).then_some(Some(Version { value, index: Some(index) }))
        }
        (Call::Put { only_if, .. }, Outcome::Stale) => (!OnlyIf::holds(only_if, state)).then_some(state),
        (Call::Put { value, only_if }, Outcome::Unknown { index }) => {
            let value = index.map_or(UNREAD, |_| value);
            Some(if OnlyIf::holds(only_if, state) { Some(Version { value, index }) } else { state })
        }
        (Call::Delete { only_if }, Outcome::Done { .. }) => {
            (state.is_some() && OnlyIf::holds(only_if, state)).then_some(None)
        }
        (Call::Delete { only_if }, Outcome::Stale) => (!OnlyIf::holds(only_if, state)).then_some(state),
        // A condition is looked at before it is looked whether there is anything.
        (Call::Delete { only_if: None }, Outcome::Missing) => state.is_none().then_some(state),
        (Call::Delete { only_if }, Outcome::Unknown { .. }) => {
            Some(if OnlyIf::holds(only_if, state) { None } else { state })
        }
        (Call::Get | Call::Put { .. } | Call::Delete { .. }, _) => None,
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let only_if = match self {
            Self::Get => return write!(f, "get"),
            Self::Put { value, only_if } => {
                write!(f, "put {value}")?;
                only_if
            }
            Self::Delete { only_if } => {
                write!(f, "delete")?;
                only_if
            }
        };
        match only_if {
            None => Ok(()),
            Some(OnlyIf::Any) => write!(f, " if any"),
            Some(OnlyIf::Index(index)) => write!(f, " if {index}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { value, index } => write!(f, "{value} of entry {index}"),
            Self::Missing => write!(f, "nothing there"),
            Self::Done { index } => write!(f, "done by entry {index}"),
            Self::Stale => write!(f, "stale"),
            Self::Unknown { index: None } => write!(f, "unknown"),
            Self::Unknown { index: Some(index) } => write!(f, "unknown, read later as entry {index}"),
        }
    }
}
