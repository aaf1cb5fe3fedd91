//! What a judgement comes to. It is a value, so that the judgements can be shown contradictions without a panic.

/// Nothing is wrong, or what is.
pub(crate) type Verdict = Result<(), String>;

/// Goes on only if it holds.
pub(crate) fn must(holds: bool, said: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(said()) }
}
