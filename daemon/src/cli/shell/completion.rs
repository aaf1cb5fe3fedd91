//! What may come next in a line: a verb, a flag, the name of a node.

use std::cell::RefCell;
use std::time::Duration;

use clap::Command;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use tokio::time::Instant;

use super::super::controller::Controller;
use super::super::place::Place;
use super::super::survey::{LEARNERS_WAIT, Survey};
use super::super::{Failure, runtime};

/// How long a Tab may take: all nodes of a cluster that is well answer in a few milliseconds.
const ANSWER_WAIT: Duration = Duration::from_millis(300);
/// Who is there does not change from one Tab to the next.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// The argument of verbs that are for one node.
const NODE: &str = "node";

/// Completes lines.
pub(super) struct Completion {
    definition: Command,
    place: Place,
    nodes: RefCell<Option<(Instant, Vec<String>)>>,
}

impl Completion {
    pub(super) fn new(definition: Command, place: Place) -> Self {
        Self { definition, place, nodes: RefCell::new(None) }
    }

    /// Where the word before the cursor begins, and what it may become.
    fn candidates(&self, before: &str) -> (usize, Vec<String>) {
        let start = before.rfind(char::is_whitespace).map_or(0, |space| space + 1);
        let word = &before[start..];
        let Some(words) = shlex::split(&before[..start]) else { return (start, Vec::new()) };
        let command = words
            .iter()
            .fold(&self.definition, |command, word| command.find_subcommand(word).unwrap_or(command));
        let mut candidates = if word.starts_with('-') { flags(command) } else { verbs(command) };
        if !word.starts_with('-') && command.get_positionals().any(|argument| argument.get_id() == NODE) {
            candidates.extend(self.nodes());
        }
        candidates.retain(|candidate| candidate.starts_with(word));
        candidates.sort();
        candidates.dedup();
        (start, candidates)
    }

    fn nodes(&self) -> Vec<String> {
        if let Some((asked, nodes)) = &*self.nodes.borrow()
            && asked.elapsed() < KNOWN_FOR
        {
            return nodes.clone();
        }
        // Whoever types a line is told by the line itself when the cluster cannot be found.
        let nodes = ask(&self.place).unwrap_or_default();
        self.nodes.replace(Some((Instant::now(), nodes.clone())));
        nodes
    }
}

/// The names of the nodes, those that are known without asking and those that answer.
fn ask(place: &Place) -> Result<Vec<String>, Failure> {
    let cluster = place.find()?;
    let mut nodes: Vec<String> = cluster.nodes.iter().map(|node| node.name.clone()).collect();
    let survey = runtime()?.block_on(async {
        let mut controller = Controller::open(&cluster)?;
        let until = Instant::now() + ANSWER_WAIT;
        Survey::of_all(&mut controller, [], until, LEARNERS_WAIT).await
    })?;
    nodes.extend(survey.reports().map(|report| report.name.to_string()));
    Ok(nodes)
}

fn verbs(command: &Command) -> Vec<String> {
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    shown.map(|verb| verb.get_name().to_owned()).collect()
}

fn flags(command: &Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    shown.filter_map(|argument| argument.get_long()).map(|long| format!("--{long}")).collect()
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Self::Candidate>)> {
        let (start, candidates) = self.candidates(&line[..pos]);
        let pair = |word: String| Pair { replacement: format!("{word} "), display: word };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Validator for Completion {}

impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_flags_and_nodes_complete_where_they_may_stand() {
        let completion = Completion::new(super::super::definition(), Place::default());
        let nodes = ["n1", "n2"].map(str::to_owned).to_vec();
        completion.nodes.replace(Some((Instant::now(), nodes)));
        let after = |line: &str| completion.candidates(line).1;
        assert_eq!(after("tryl"), ["trylead"]);
        assert_eq!(after("store g"), ["get"]);
        assert_eq!(after("trylead "), ["n1", "n2"]);
        assert_eq!(after("trylead n2"), ["n2"]);
        assert_eq!(after("shutdown --a"), ["--all"]);
        assert!(after("status n").is_empty(), "no node stands there");
        assert!(after("store 'open ").is_empty());
        assert_eq!(completion.candidates("trylead n").0, "trylead ".len());
    }
}
