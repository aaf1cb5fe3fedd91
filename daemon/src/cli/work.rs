//! What a verb does: done at once, or something to wait for.

use std::pin::Pin;

use tokio::runtime::Runtime;

use super::Failure;

/// A verb on its way.
pub(super) enum Work<'a> {
    /// It waited for nobody, or by itself.
    Done(Result<(), Failure>),
    /// It speaks with others.
    Waits(Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>),
}

/// What is done already.
pub(super) fn done(result: Result<(), Failure>) -> Work<'static> {
    Work::Done(result)
}

/// What speaks with others.
pub(super) fn wait_for<'a>(verb: impl Future<Output = Result<(), Failure>> + 'a) -> Work<'a> {
    Work::Waits(Box::pin(verb))
}

impl Work<'_> {
    /// Carries it out to its end.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Done(result) => result,
            Self::Waits(verb) => runtime()?.block_on(verb),
        }
    }

    /// The same, until somebody presses Ctrl-C. From then on that no longer ends the process.
    pub(super) fn finish_unless_interrupted(self) -> Result<(), Failure> {
        match self {
            Self::Done(result) => result,
            Self::Waits(verb) => runtime()?.block_on(async {
                tokio::select! {
                    result = verb => result,
                    _ = tokio::signal::ctrl_c() => Err(Failure::refused("interrupted")),
                }
            }),
        }
    }
}

/// Sockets and timers.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("this system gives no sockets or timers: {error}")))
}
