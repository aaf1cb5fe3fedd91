//! `chorus shell`: the same verbs at a prompt, one a line, or from a pipe.
//!
//! A line is parsed by the definition of the command line itself, so that whatever is a verb there is one here. What the
//! shell was started with (which cluster, which keys) stands in for what a line does not say. `completion` knows what may
//! come next, `history` where lines are kept, `script` reads lines that nobody types.

mod completion;
mod history;
mod script;

use std::ffi::OsString;
use std::io::{IsTerminal as _, stdin, stdout};

use clap::builder::{OsStr, Resettable};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use self::completion::Completion;
use super::place::Place;
use super::{Failure, definition, output, work_of};

const PROMPT: &str = "chorus> ";
/// Lines that are remembered.
const HISTORY_MAX: usize = 1_000;
/// Verbs that begin or wait for something else than a cluster that is there, and the shell itself.
const NOT_HERE: [&str; 3] = ["node", "shell", "up"];
const EXIT: &str = "exit";

/// The verbs at a prompt, with history and completion; from a pipe, one a line
#[derive(Debug)]
pub(super) struct Shell {
    place: Place,
    /// The flags of `place`, as they were given: argument and value.
    given: Vec<(String, OsString)>,
}

/// What a line was.
enum Line {
    Done,
    /// It ends the shell.
    Last,
}

impl Args for Shell {
    fn augment_args(command: Command) -> Command {
        Place::augment_args(command)
            .about("The verbs at a prompt, with history and completion; from a pipe, one a line")
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Shell {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = Place::augment_args(Command::new("flags"));
        let value =
            |id: &str| matches.get_raw(id).and_then(|mut values| values.next()).map(ToOwned::to_owned);
        let given = flags.get_arguments().map(|flag| flag.get_id().as_str());
        let given = given.filter_map(|id| Some((id.to_owned(), value(id)?))).collect();
        Ok(Self { place: Place::from_arg_matches(matches)?, given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Shell {
    /// Carries out line by line until the end of the input, or `exit`.
    pub(super) fn run(self) -> Result<(), Failure> {
        if stdin().is_terminal() && stdout().is_terminal() { self.talk() } else { self.follow_script() }
    }

    /// At a terminal. What goes wrong is said, and the next line may go better.
    fn talk(self) -> Result<(), Failure> {
        let no_terminal = |error| Failure::refused(format!("this terminal cannot be used: {error}"));
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY_MAX)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(no_terminal)?
            .history_ignore_space(true)
            .build();
        let mut editor: Editor<Completion, FileHistory> = Editor::with_config(config).map_err(no_terminal)?;
        editor.set_helper(Some(Completion::new(self.definition(), self.place.clone())));
        let file = history::open(&mut editor, &self.place);
        output::talk("`help` lists the verbs; Tab completes them and the nodes' names; Ctrl-D leaves.");
        loop {
            match editor.readline(PROMPT) {
                Ok(line) => {
                    history::keep(&mut editor, file.as_deref(), &line);
                    match self.carry_out(&line, true) {
                        Ok(Line::Done) => {}
                        Ok(Line::Last) => return Ok(()),
                        Err(failure) => _ = failure.tell(),
                    }
                }
                // Ctrl-C takes back what was typed so far.
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(no_terminal(error)),
            }
        }
    }

    /// From a pipe or a file. What goes wrong does not keep the lines behind it from being tried; the exit code is that of
    /// the last that did.
    fn follow_script(self) -> Result<(), Failure> {
        let mut last = Ok(());
        for line in script::lines(stdin().lock()) {
            match line.and_then(|line| self.carry_out(&line, false)) {
                Ok(Line::Done) => {}
                Ok(Line::Last) => break,
                Err(failure) if failure.is_reader_gone() => return Err(failure),
                Err(failure) => {
                    let _said = failure.tell();
                    last = Err(failure.told());
                }
            }
        }
        last
    }

    fn carry_out(&self, line: &str, interruptible: bool) -> Result<Line, Failure> {
        let words = shlex::split(line)
            .ok_or_else(|| Failure::wrong("a quotation mark is not closed, or a backslash ends the line"))?;
        if words.is_empty() {
            return Ok(Line::Done);
        }
        let matches = match self.definition().try_get_matches_from(words) {
            Ok(matches) => matches,
            Err(error) => return Failure::parse(&error).map(|()| Line::Done),
        };
        match matches.subcommand_name() {
            Some(EXIT) => return Ok(Line::Last),
            Some(verb) if NOT_HERE.contains(&verb) => {
                return Err(Failure::wrong(format!(
                    "`{verb}` is for the command line: leave this shell, or open another terminal"
                )));
            }
            _ => {}
        }
        match work_of(&matches) {
            Ok(work) if interruptible => work.finish_unless_interrupted()?,
            Ok(work) => work.finish()?,
            Err(error) => Failure::parse(&error)?,
        }
        Ok(Line::Done)
    }

    /// The command line's definition, a verb its first word, with the flags of this shell as defaults.
    fn definition(&self) -> Command {
        let definition = with_defaults(definition(), &self.given).multicall(true);
        let exit = Command::new(EXIT).visible_alias("quit").about("Leave the shell");
        let hidden = NOT_HERE.iter().fold(definition, |definition, verb| {
            definition.mut_subcommand(verb, |command| command.hide(true))
        });
        hidden.subcommand(exit)
    }
}

/// Every verb below that has one of these arguments takes it from here when a line does not say it. The environment was
/// asked when the shell began.
fn with_defaults(command: Command, given: &[(String, OsString)]) -> Command {
    let known: Vec<String> =
        command.get_arguments().map(|argument| argument.get_id().as_str().to_owned()).collect();
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let command = given.iter().filter(|(id, _)| known.contains(id)).fold(command, |command, (id, value)| {
        command.mut_arg(id, |argument| argument.env(Resettable::<OsStr>::Reset).default_value(value))
    });
    verbs
        .iter()
        .fold(command, |command, verb| command.mut_subcommand(verb, |command| with_defaults(command, given)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(given: &[(&str, &str)]) -> Shell {
        let given = given.iter().map(|(id, value)| ((*id).to_owned(), OsString::from(value))).collect();
        Shell { place: Place::default(), given }
    }

    #[test]
    fn what_the_shell_was_started_with_stands_in_for_what_a_line_does_not_say() {
        let definition = shell(&[("data_dir", "/from/the/shell")]).definition();
        let place = |line: &[&str]| {
            let matches = definition.clone().try_get_matches_from(line).unwrap();
            let mut deepest = &matches;
            while let Some((_, below)) = deepest.subcommand() {
                deepest = below;
            }
            deepest.get_raw("data_dir").unwrap().next().unwrap().to_owned()
        };
        assert_eq!(place(&["status"]), "/from/the/shell");
        assert_eq!(place(&["store", "get", "colour"]), "/from/the/shell");
        assert_eq!(place(&["status", "--data-dir", "/from/the/line"]), "/from/the/line");
    }

    #[test]
    fn every_verb_of_the_command_line_can_be_asked_for_help_here() {
        let here = shell(&[]).definition();
        for verb in definition().get_subcommands() {
            assert!(here.find_subcommand(verb.get_name()).is_some(), "{}", verb.get_name());
            let error = here.clone().try_get_matches_from([verb.get_name(), "--help"]).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::DisplayHelp, "{}", verb.get_name());
        }
    }

    #[test]
    fn a_line_that_cannot_be_carried_out_is_a_failure_and_no_end() {
        let shell = shell(&[]);
        for line in ["store 'colour", "nothing", "up", "node --check", "shell", "status --no-such-flag"] {
            let Err(failure) = shell.carry_out(line, false) else { panic!("{line}") };
            assert_eq!(failure.exit_code(), 2, "{line}: {failure}");
        }
        for line in ["", "   ", "# a remark"] {
            assert!(matches!(shell.carry_out(line, false), Ok(Line::Done)), "{line}");
        }
        assert!(matches!(shell.carry_out("quit", false), Ok(Line::Last)));
    }
}
