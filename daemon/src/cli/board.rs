//! The verbs of a board, which follow from its trait: one for each of its operations (`quote post`, `store put`), and
//! `get`, `list` and `tail` to read it. They go by HTTP to any node.

use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::controller::Controller;
use super::place::Place;
use super::reach::Reach;
use super::web::{Web, path_segment};
use super::{Failure, output};
use crate::boards::{Board, Boards, Field, Kind, Operation, Route};

/// A node says something at least once a second; one that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Before the nodes are tried from the first again.
const PAUSE: Duration = Duration::from_millis(500);
/// Most rows that one answer holds.
const PAGE: u64 = 500;

/// The verbs that only read.
const READS: [&str; 3] = ["get", "list", "tail"];

const KEY: &str = "key";

/// What every verb takes.
#[derive(Debug, Args)]
struct Common {
    /// One JSON object on a line for each row
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// What verbs take that show several rows.
#[derive(Debug, Args)]
struct Rows {
    /// How many of those that are there
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=PAGE))]
    limit: u64,
    #[command(flatten)]
    common: Common,
}

/// The program's command with the verbs of all boards.
pub(super) fn with_boards(command: Command) -> Command {
    Boards::all().iter().fold(command, |command, board| {
        if command.find_subcommand(board.word()).is_some() {
            command.mut_subcommand(board.word(), |command| with_verbs(command, board))
        } else {
            let own = Command::new(board.word()).about(board.about());
            command.subcommand(with_verbs(own, board).subcommand_required(true).arg_required_else_help(true))
        }
    })
}

fn with_verbs(command: Command, board: &'static dyn Board) -> Command {
    let operations = verbs_of(board).map(|operation| {
        let key = operation.route.has_key().then(key);
        let verb = Command::new(operation.name).args(key).args(operation.fields.iter().map(argument));
        Common::augment_args(verb).about(operation.about)
    });
    let get = Common::augment_args(Command::new("get").arg(key())).about("Show one row");
    let list = Rows::augment_args(Command::new("list")).about("Show the rows");
    let tail = Rows::augment_args(Command::new("tail").visible_alias("watch"))
        .about("Show the rows, and every change as it comes");
    command.subcommands(operations).subcommands([get, list, tail])
}

/// The operations that are verbs: what takes many rows at once has a verb of its own making.
fn verbs_of(board: &'static dyn Board) -> impl Iterator<Item = &'static Operation> {
    let many = |field: &Field| matches!(field.kind, Kind::Rows { .. });
    board.operations().iter().filter(move |operation| !operation.fields.iter().any(many))
}

fn key() -> Arg {
    Arg::new(KEY).required(true).value_name("KEY").help("Which row")
}

/// A field as an argument: by place if it must be there, else an option.
fn argument(field: &Field) -> Arg {
    let arg =
        Arg::new(field.name).required(field.required).value_name(field.name.to_uppercase()).help(field.about);
    let arg = if field.required { arg } else { arg.long(field.name) };
    match field.kind {
        Kind::Whole { min, max } => {
            arg.value_parser(clap::value_parser!(i64).range(min..=max)).allow_negative_numbers(true)
        }
        Kind::Choice(words) => arg.value_parser(words.to_vec()),
        Kind::Text { .. } | Kind::Blob { .. } | Kind::Rows { .. } => arg,
    }
}

/// What was given for a field, as the API wants it.
fn given(matches: &ArgMatches, field: &Field) -> Option<(String, Value)> {
    let value = match field.kind {
        Kind::Whole { .. } => matches.get_one::<i64>(field.name).copied().map(Value::from),
        Kind::Text { .. } | Kind::Blob { .. } | Kind::Choice(_) | Kind::Rows { .. } => {
            matches.get_one::<String>(field.name).cloned().map(Value::from)
        }
    };
    value.map(|value| (field.name.to_owned(), value))
}

/// A board's verb and its arguments.
pub(super) struct Verb<'a> {
    board: &'static dyn Board,
    name: &'a str,
    matches: &'a ArgMatches,
}

impl<'a> Verb<'a> {
    /// The verb that the program's arguments ask for, if it is one of a board.
    pub(super) fn of(matches: &'a ArgMatches) -> Option<Self> {
        let (word, matches) = matches.subcommand()?;
        let board = Boards::all().iter().find(|board| board.word() == word)?;
        let (name, matches) = matches.subcommand()?;
        let ours = READS.contains(&name) || verbs_of(board).any(|operation| operation.name == name);
        ours.then_some(Self { board, name, matches })
    }

    /// Carries it out.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { board, name, matches } = self;
        if let Some(operation) = verbs_of(board).find(|operation| operation.name == name) {
            return write(board, operation, matches).await;
        }
        if name == "get" {
            let common = Common::from_arg_matches(matches).map_err(odd)?;
            let web = find(&common.place).await?;
            let row = web.read(&row_path(board, text(matches, KEY))).await?;
            return Shown { board, json: common.json }.row(&row);
        }
        let rows = Rows::from_arg_matches(matches).map_err(odd)?;
        let web = find(&rows.common.place).await?;
        let shown = Shown { board, json: rows.common.json };
        let after = shown.rows(&web, rows.limit).await?;
        if name == "list" {
            return Ok(());
        }
        Feed { shown, epoch: Value::Null, after }.follow_for_ever(&web).await
    }
}

/// Carries out an operation.
async fn write(board: &dyn Board, operation: &Operation, matches: &ArgMatches) -> Result<(), Failure> {
    let common = Common::from_arg_matches(matches).map_err(odd)?;
    let web = find(&common.place).await?;
    let body: Map<String, Value> =
        operation.fields.iter().filter_map(|field| given(matches, field)).collect();
    let row = || row_path(board, text(matches, KEY));
    let (method, path) = match operation.route {
        Route::Post => (Method::POST, rows_path(board)),
        Route::Word => (Method::POST, format!("{}/{}", rows_path(board), operation.name)),
        Route::Put => (Method::PUT, row()),
        Route::Patch => (Method::PATCH, row()),
        Route::Delete => (Method::DELETE, row()),
        Route::Action => (Method::POST, format!("{}/{}", row(), operation.name)),
    };
    let answer = web.write(method, &path, &Value::Object(body)).await?;
    if common.json {
        return output::data(&answer.to_string());
    }
    output::data(&format!("{} done at index {}", operation.name, answer["index"]))
}

async fn find(place: &Place) -> Result<Web, Failure> {
    let cluster = place.find()?;
    let mut controller = Controller::open(&cluster)?;
    Web::find(&cluster, &mut controller).await
}

fn rows_path(board: &dyn Board) -> String {
    format!("/api/v1/{}", board.name())
}

fn row_path(board: &dyn Board, key: &str) -> String {
    format!("{}/{}", rows_path(board), path_segment(key))
}

fn text<'a>(matches: &'a ArgMatches, field: &str) -> &'a str {
    matches.get_one::<String>(field).map(String::as_str).unwrap_or_default()
}

/// The arguments were parsed by the definition that is read now.
fn odd(error: clap::Error) -> Failure {
    Failure::wrong(error.to_string())
}

/// How rows are shown.
#[derive(Clone, Copy)]
struct Shown {
    board: &'static dyn Board,
    json: bool,
}

impl Shown {
    /// The latest rows, or the first by key, newest or last below; up to which index they are complete.
    async fn rows(self, web: &Web, limit: u64) -> Result<u64, Failure> {
        let answer = web.read(&format!("{}?limit={}", rows_path(self.board), limit.max(1))).await?;
        let items = answer[self.board.rows()].as_array().map(Vec::as_slice).unwrap_or_default();
        let items = &items[..items.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
        if self.board.is_newest_first() {
            // The end of a terminal is where people look.
            items.iter().rev().try_for_each(|item| self.row(item))?;
        } else {
            items.iter().try_for_each(|item| self.row(item))?;
        }
        Ok(answer["seq"].as_u64().unwrap_or_default())
    }

    fn row(self, item: &Value) -> Result<(), Failure> {
        if self.json { output::data(&item.to_string()) } else { output::data(&self.in_words(item)) }
    }

    /// A change as the feed tells it.
    fn change(self, change: &Value) -> Result<(), Failure> {
        if !self.json && change["kind"] == "deleted" {
            return output::data(&format!("{} (deleted)", plain(&change["item"][self.board.key_member()])));
        }
        self.row(&change["item"])
    }

    /// `author: text`, `key: value`.
    fn in_words(self, item: &Value) -> String {
        let told = self.board.columns().iter().map(|column| plain(&item[column]));
        told.collect::<Vec<_>>().join(": ")
    }
}

/// What somebody posted is one line here, and must not command this terminal.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// A place in the feed. It is the same on every node.
struct Feed {
    shown: Shown,
    epoch: Value,
    after: u64,
}

impl Feed {
    async fn follow_for_ever(mut self, web: &Web) -> Result<(), Failure> {
        loop {
            for url in web.urls() {
                self.follow(web.reach(), url).await?;
            }
            sleep(PAUSE).await;
        }
    }

    /// Follows the feed of one node as long as it lasts.
    async fn follow(&mut self, reach: &Reach, url: &str) -> Result<(), Failure> {
        let Ok(opened) = timeout(SILENCE_MAX, reach.feed(url)).await else { return Ok(()) };
        let Some(mut socket) = opened? else { return Ok(()) };
        let mut resumed = false;
        while let Ok(Some(Ok(message))) = timeout(SILENCE_MAX, socket.next()).await {
            let Message::Text(text) = message else { continue };
            let Ok(frame) = serde_json::from_str::<Value>(&text) else { return Ok(()) };
            self.take(&frame)?;
            // After the greeting; after a reset from where it says.
            if !resumed || frame["t"] == "reset" {
                resumed = true;
                let topics = [self.shown.board.name()];
                let resume =
                    json!({ "t": "resume", "epoch": self.epoch, "after": self.after, "topics": topics });
                if socket.send(Message::text(resume.to_string())).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What a frame tells.
    fn take(&mut self, frame: &Value) -> Result<(), Failure> {
        match frame["t"].as_str() {
            Some("hello") if self.epoch.is_null() => self.epoch = frame["epoch"].clone(),
            Some("event") => {
                self.show_items(frame)?;
                self.advance(&frame["seq"]);
            }
            Some("batch") => {
                self.show_items(frame)?;
                self.advance(&frame["to"]);
            }
            Some("tick") => self.advance(&frame["seq"]),
            Some("reset") => {
                output::talk("the feed had to begin anew; what happened in between is not shown");
                self.epoch = Value::Null;
                self.after = frame["seq"].as_u64().unwrap_or(self.after);
            }
            _ => {}
        }
        Ok(())
    }

    fn advance(&mut self, seq: &Value) {
        self.after = self.after.max(seq.as_u64().unwrap_or_default());
    }

    fn show_items(&self, frame: &Value) -> Result<(), Failure> {
        let items = frame["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ours = items.iter().filter(|item| item["topic"] == self.shown.board.name());
        ours.into_iter().try_for_each(|item| self.shown.change(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str) -> Shown {
        Shown { board: Boards::all().named(name).unwrap(), json: false }
    }

    #[test]
    fn the_place_in_the_feed_only_moves_forward_until_a_reset() {
        let mut feed = Feed { shown: shown("quotes"), epoch: Value::Null, after: 4 };
        feed.take(&json!({"t": "hello", "epoch": "c0ffee.1", "seq": 9})).unwrap();
        assert_eq!((feed.epoch.clone(), feed.after), (json!("c0ffee.1"), 4), "a greeting covers nothing");
        feed.take(&json!({"t": "batch", "from": 4, "to": 9, "items": []})).unwrap();
        feed.take(&json!({"t": "event", "prev": 9, "seq": 11, "items": []})).unwrap();
        feed.take(&json!({"t": "tick", "seq": 10})).unwrap();
        assert_eq!(feed.after, 11);
        feed.take(&json!({"t": "reset", "reason": "epoch", "seq": 3})).unwrap();
        assert_eq!((feed.epoch, feed.after), (Value::Null, 3));
    }

    #[test]
    fn a_row_is_one_line_in_the_words_of_its_board() {
        let quote = json!({ "seq": 7, "author": "Ada", "text": "one\ntwo\u{1b}[2J" });
        assert_eq!(shown("quotes").in_words(&quote), "Ada: one two [2J");
        assert_eq!(shown("store").in_words(&json!({ "key": "colour", "value": "green" })), "colour: green");
    }

    #[test]
    fn every_board_has_its_verbs() {
        let command = with_boards(Command::new("chorus"));
        for board in Boards::all().iter() {
            let verbs = command.find_subcommand(board.word()).unwrap();
            let reads = READS.into_iter();
            for verb in reads.chain(verbs_of(board).map(|operation| operation.name)) {
                assert!(verbs.find_subcommand(verb).is_some(), "{} {verb}", board.word());
            }
        }
        command.debug_assert();
    }
}
