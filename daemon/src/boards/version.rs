//! Compare-and-set: a change that wants a certain version to be there.

use serde::{Deserialize, Serialize};

use super::{Context, Effect};

/// What must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfMatch {
    /// Any version.
    Any,
    /// What this entry made.
    Index(u64),
}

impl IfMatch {
    /// From an `Input`.
    pub(super) fn of(input: Option<Option<u64>>) -> Option<Self> {
        input.map(|version| version.map_or(Self::Any, Self::Index))
    }

    /// The refusal when the version is not there.
    #[must_use]
    pub fn refusal(wanted: Option<Self>, context: &Context<'_>, version: Option<u64>) -> Option<Effect> {
        let detail = match (wanted?, version) {
            (Self::Any, Some(_)) => return None,
            (Self::Index(wanted), Some(index)) if wanted == index => return None,
            (Self::Index(wanted), Some(index)) => format!("it has version {index}, not {wanted}"),
            (_, None) => "nothing is there, and the request wants to change something that is".to_owned(),
        };
        Some(Effect::refused(context, "stale_version", detail))
    }
}
