//! Drills: what a page asks of the `chorus up` that started its node, over the control socket in the data directory. One
//! [`Order`] and one [`Answer`] a connection, each one line of JSON. The supervisor answers only processes that it started.

use serde::{Deserialize, Serialize};

/// The socket's name in the directory of `up`.
pub const SOCKET: &str = "up.sock";

/// An order or an answer has at most so many bytes.
pub const LINE_BYTES_MAX: u64 = 4_096;

/// What can be done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drill {
    /// End its process without a word, as a power cut would; it stays away until it is revived.
    Kill,
    /// Stop its process where it stands (SIGSTOP).
    Pause,
    /// Let it play dead: it neither hears nor speaks.
    Silence,
    /// End whichever of these lasts.
    Revive,
    /// Hand leadership over to it.
    Lead,
    /// Let it lose a share of what it receives.
    Loss,
}

impl Drill {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Kill, Self::Pause, Self::Silence, Self::Revive, Self::Lead, Self::Loss];

    /// As forms and orders spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Silence => "silence",
            Self::Revive => "revive",
            Self::Lead => "lead",
            Self::Loss => "loss",
        }
    }

    /// The drill of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drill| drill.name() == name)
    }
}

/// What is to be done to which node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Its name.
    pub node: String,
    /// What.
    pub drill: Drill,
    /// For [`Drill::Loss`]: which share of what it receives is lost, in percent, 0 to 100.
    #[serde(default)]
    pub percent: u8,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// It is done.
    pub done: bool,
    /// One sentence, for people.
    pub detail: String,
}
