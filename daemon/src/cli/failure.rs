//! Why a command ends without success: one sentence and an exit code.

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::guard::GuardError;
use crate::keys::KeyError;
use crate::run::RunError;
use crate::service::LogError;
use crate::store::StoreError;

use super::output;

/// Ends a command. The sentence says what happened, with which value, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    /// The world refused: a port in use, a node that does not want, nobody there.
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self { code: 1, sentence: sentence.into() }
    }

    /// A wrong flag, file or value.
    pub fn wrong(sentence: impl Into<String>) -> Self {
        Self { code: 2, sentence: sentence.into() }
    }

    /// Nobody leads.
    pub fn no_leader(sentence: impl Into<String>) -> Self {
        Self { code: 3, sentence: sentence.into() }
    }

    /// What was named is not there.
    pub fn not_found(sentence: impl Into<String>) -> Self {
        Self { code: 4, sentence: sentence.into() }
    }

    /// A refusal as nodes give it: one of their codes and a sentence.
    pub(super) fn of_code(code: &str, detail: &str) -> Self {
        let exit = match code {
            "no_leader" => 3,
            "not_found" => 4,
            "id_reused" | "stale_version" | "out_of_stock" => 5,
            "invalid" | "too_large" | "bad_json" | "request_expired" => 2,
            _ => 1,
        };
        let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
        Self { code: exit, sentence: format!("{detail}{code}") }
    }

    /// Prints the sentence; the exit code. A reader who has seen enough (`| head`) is no failure.
    pub(super) fn tell(&self) -> ExitCode {
        if !self.sentence.is_empty() {
            output::talk(&format!("chorus: {}", self.sentence));
        }
        ExitCode::from(self.code)
    }

    /// Says at once why a line cannot be parsed, or the help that it asks for, which is no failure.
    pub(super) fn parse(error: &clap::Error) -> Result<(), Self> {
        // There is nobody else to tell that nobody listens.
        let _unheard = error.print();
        match u8::try_from(error.exit_code()) {
            Ok(0) => Ok(()),
            code => Err(Self { code: code.unwrap_or(2), sentence: String::new() }),
        }
    }

    /// The same, once its sentence was said.
    pub(super) fn told(&self) -> Self {
        Self { code: self.code, sentence: String::new() }
    }

    /// The exit code that it ends the program with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// Nobody reads standard output any more.
    pub(super) fn is_reader_gone(&self) -> bool {
        self.code == 0 && self.sentence.is_empty()
    }

    /// Whoever read standard output has gone: nothing is left to do, and nothing went wrong.
    pub(super) fn reader_gone() -> Self {
        Self { code: 0, sentence: String::new() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::wrong(error.to_string())
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::wrong(error.to_string())
    }
}

impl From<GuardError> for Failure {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::File(error) => error.into(),
            error => Self::wrong(error.to_string()),
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unreadable { .. }
            | KeyError::NoKey { .. }
            | KeyError::Open { .. }
            | KeyError::TooLarge { .. } => Self::wrong(error.to_string()),
            KeyError::Exists { .. } | KeyError::Unwritable { .. } => Self::refused(error.to_string()),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_of_the_disk() {
            return Self { code: 74, sentence: error.to_string() };
        }
        Self::refused(error.to_string())
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self { code: error.exit_code(), sentence: error.to_string() }
    }
}
