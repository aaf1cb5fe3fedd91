//! The body of a command: one type for each operation and version, and what is done with it. Taken from a request at the
//! edge, written into the log, read and looked at again wherever it is applied.

use rusqlite::Transaction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fields::Fields;
use super::operation::{Input, Invalid};
use super::{ApplyError, Context, Effect};

/// The body of an operation, in one version. In the log it is a MessagePack map.
pub trait Body: Serialize + DeserializeOwned {
    /// How a body that is none is refused. The words are part of the outcome, and so of the state: what changes them is
    /// another version of the operation.
    const REFUSAL: &'static str = "this is nothing that the board takes";

    /// Takes it out of a request; what is wrong is told to `fields`.
    fn of(fields: &mut Fields) -> Self;

    /// Whether it keeps the operation's limits, for commands that came around the edge. This decides an outcome: it may look
    /// at nothing but the body.
    fn is_good(&self) -> bool;

    /// Carries it out.
    ///
    /// # Errors
    /// Only what keeps the state machine from going on; a refusal by the board's rules is an `Outcome`.
    fn apply(self, transaction: &Transaction<'_>, context: &Context<'_>) -> Result<Effect, ApplyError>;

    /// Key and value for people (`retrieve`), where it has them.
    fn describe(self) -> (Option<String>, Option<String>) {
        (None, None)
    }

    /// The body of these bytes; none if it is refused.
    fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok().filter(Self::is_good)
    }
}

/// What is done with the bodies of one operation, whatever their type is.
#[derive(Clone, Copy, Debug)]
pub struct Does {
    pub(super) check: fn(Input) -> Result<Vec<u8>, Vec<Invalid>>,
    pub(super) apply: fn(&Transaction<'_>, &Context<'_>, &[u8]) -> Result<Effect, ApplyError>,
    pub(super) describe: Describe,
}

type Describe = fn(&[u8]) -> (Option<String>, Option<String>);

impl Does {
    /// What this type says.
    pub(super) const fn of<B: Body>() -> Self {
        Self { check: check::<B>, apply: apply::<B>, describe: describe::<B> }
    }
}

fn check<B: Body>(input: Input) -> Result<Vec<u8>, Vec<Invalid>> {
    let mut fields = Fields::of(input);
    let body = B::of(&mut fields);
    fields.finish(rmp_serde::to_vec_named(&body).expect("texts and numbers always have a MessagePack form"))
}

fn apply<B: Body>(
    transaction: &Transaction<'_>,
    context: &Context<'_>,
    bytes: &[u8],
) -> Result<Effect, ApplyError> {
    match B::decode(bytes) {
        Some(body) => body.apply(transaction, context),
        None => Ok(Effect::refused(context, "invalid", B::REFUSAL)),
    }
}

fn describe<B: Body>(bytes: &[u8]) -> (Option<String>, Option<String>) {
    rmp_serde::from_slice(bytes).map_or((None, None), B::describe)
}
