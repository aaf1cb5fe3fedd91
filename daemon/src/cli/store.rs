//! `chorus store` and `chorus retrieve`: values through the log and the committed log itself, over the group.

use std::time::Duration;

use chorus_proto::message::{
    Done, LogLine, Message, Recipient, Refused, Report, Retrieve as Ask, Store as Put,
};
use chorus_proto::types::{Index, NodeName};
use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use super::controller::{Controller, Heard, request_id};
use super::place::Place;
use super::table::table;
use super::web::Web;
use super::{Failure, output};

/// How long a command waits for the leader's answer: several elections.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Limits of interfaces.md.
const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Entries that one RETRIEVE asks for; the answer holds as many as fit a datagram.
const PAGE: u32 = 64;

/// Store a value under a key, on a majority of the disks; or one of the board's verbs
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "The verbs are no keys here: `chorus store put list VALUE` stores the key 'list'."
)]
pub(super) struct Store {
    /// The key, at most 256 bytes
    key: String,
    /// The value, at most 64 KiB
    value: String,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Store {
    pub(super) async fn run(self) -> Result<(), Failure> {
        self.check()?;
        let cluster = self.place.find()?;
        let mut controller = Controller::open(&cluster)?;
        let put = Message::Store(self.put(false));
        let (index, outcome) = match controller.fits(&put) {
            Ok(()) => self.by_group(&mut controller, put).await?,
            // The node that takes it sends it on in parts.
            Err(_too_large) => self.by_web(&Web::find(&cluster, &mut controller).await?).await?,
        };
        if self.json {
            output::data(&json!({ "key": self.key, "index": index, "outcome": outcome }).to_string())
        } else {
            output::data(&format!("{} at index {index}: {}", outcome, self.key))
        }
    }

    fn check(&self) -> Result<(), Failure> {
        match (self.key.len(), self.value.len()) {
            (0, _) => Err(Failure::wrong("the key is empty; a key has 1 to 256 bytes")),
            (bytes, _) if bytes > KEY_BYTES_MAX => {
                Err(Failure::wrong(format!("the key has {bytes} bytes; a key has 1 to {KEY_BYTES_MAX}")))
            }
            (_, bytes) if bytes > VALUE_BYTES_MAX => Err(Failure::wrong(format!(
                "the value has {bytes} bytes; a value has at most {VALUE_BYTES_MAX}"
            ))),
            _ => Ok(()),
        }
    }

    fn put(&self, repeated: bool) -> Put {
        Put {
            request_id: request_id(),
            repeated,
            term: None,
            command: None,
            parts: None,
            board: Some("store".to_owned()),
            op: Some("put".to_owned()),
            key: Some(self.key.clone()),
            value: Some(self.value.clone()),
        }
    }

    async fn by_group(&self, controller: &mut Controller, put: Message) -> Result<(u64, String), Failure> {
        let result = ask_leader(controller, put).await?;
        match result {
            Report::Stored { index, outcome } => Ok((index.0, outcome)),
            _ => Err(Failure::refused("the leader answered with something else than the outcome of a STORE")),
        }
    }

    async fn by_web(&self, web: &Web) -> Result<(u64, String), Failure> {
        let path = format!("/api/v1/store/{}", super::web::path_segment(&self.key));
        let body = json!({ "value": self.value });
        let answer = web.write(reqwest::Method::PUT, &path, &body).await?;
        let index = answer["index"].as_u64();
        let index =
            index.ok_or_else(|| Failure::refused(format!("no index in the answer to the PUT: {answer}")))?;
        Ok((index, "stored".to_owned()))
    }
}

/// Show the committed log, as the leader has it
#[derive(Debug, Args)]
pub(super) struct Retrieve {
    /// Only entries after this index
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    after: u64,
    /// At most so many entries [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Only entries of this key
    #[arg(long)]
    key: Option<String>,
    /// One JSON object on a line for each entry
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Retrieve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let cluster = self.place.find()?;
        let mut controller = Controller::open(&cluster)?;
        let (mut after, mut left) = (Index(self.after), self.limit.unwrap_or(u64::MAX));
        let mut shown = Vec::new();
        while left > 0 {
            let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
            let ask = Message::Retrieve(Ask { request_id: request_id(), after, limit });
            let Report::Log { entries, next, .. } = ask_leader(&mut controller, ask).await? else {
                return Err(Failure::refused("the leader answered with something else than its log"));
            };
            for line in entries.into_iter().filter(|line| self.key.is_none() || line.key == self.key) {
                left = left.saturating_sub(1);
                if self.json {
                    output::data(&as_json(&line)?)?;
                } else {
                    shown.push(as_row(&line));
                }
                if left == 0 {
                    break;
                }
            }
            match next {
                Some(next) if next > after => after = next,
                _ => break,
            }
        }
        if self.json {
            return Ok(());
        }
        output::data(&table(["index", "term", "board", "command", "key", "value"], &shown))
    }
}

/// Asks everyone, until the one who leads answers. A refusal for now is waited out; what is refused for good ends it.
async fn ask_leader(controller: &mut Controller, ask: Message) -> Result<Report, Failure> {
    let asked = match &ask {
        Message::Store(store) => store.request_id.clone(),
        Message::Retrieve(retrieve) => retrieve.request_id.clone(),
        other => unreachable!("only STORE and RETRIEVE go to the leader, not {}", other.name()),
    };
    let message = |repeated| match ask.clone() {
        Message::Store(store) => Message::Store(Put { repeated, ..store }),
        other => other,
    };
    let mut leader: Option<NodeName> = None;
    let mut answered = false;
    let mut refusal: Option<Refused> = None;
    let until = Instant::now() + ANSWER_WAIT;
    let answer = controller.ask(&Recipient::Everyone, until, message, |opened| match opened.message {
        Message::Done(Done { request_id, result }) if request_id == asked => Heard::Enough(Ok(result)),
        Message::Refused(refused) if refused.request_id == asked => match refused.retry_ms {
            Some(retry_ms) => {
                refusal = Some(refused);
                Heard::NotYet(Duration::from_millis(retry_ms))
            }
            None => Heard::Enough(Err(refused)),
        },
        Message::LeaderInfo(info) if info.request_id.as_ref() == Some(&asked) => {
            answered = true;
            leader = info.leader_name;
            Heard::GoOn
        }
        _ => Heard::GoOn,
    });
    match answer.await? {
        Some(Ok(result)) => Ok(result),
        Some(Err(refused)) => Err(Failure::of_code(&refused.code, &refused.detail)),
        None => Err(nothing_came(&asked, refusal, leader, answered)),
    }
}

/// What is known when the time is over.
fn nothing_came(
    asked: &chorus_proto::types::RequestId,
    refusal: Option<Refused>,
    leader: Option<NodeName>,
    answered: bool,
) -> Failure {
    let waited = ANSWER_WAIT.as_secs();
    match (refusal, leader) {
        (Some(refused), _) => Failure::of_code(
            &refused.code,
            &format!("refused again and again for {waited} s: {}; try again later", refused.detail),
        ),
        (None, Some(leader)) => Failure::refused(format!(
            "{leader} leads, but did not answer request {asked} within {waited} s; whether it is in the log, \
             `chorus retrieve` will show"
        )),
        (None, None) if answered => Failure::no_leader(format!(
            "nobody led for {waited} s; `chorus status` says which voters are missing"
        )),
        (None, None) => Failure::no_leader(format!(
            "nobody answered for {waited} s: do the nodes run, and are group, interface and key theirs?"
        )),
    }
}

fn as_json(line: &LogLine) -> Result<String, Failure> {
    serde_json::to_string(line).map_err(|error| Failure::refused(format!("the answer is no JSON: {error}")))
}

fn as_row(line: &LogLine) -> [String; 6] {
    let cut = if line.truncated { "…" } else { "" };
    // A line is a line: what would end it is shown escaped.
    let plain = |text: &Option<String>| -> String {
        text.iter().flat_map(|text| text.chars()).flat_map(escaped).collect()
    };
    [
        line.index.to_string(),
        line.term.to_string(),
        line.board.clone(),
        line.command.clone(),
        plain(&line.key),
        plain(&line.value) + cut,
    ]
}

fn escaped(letter: char) -> Vec<char> {
    if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chorus_proto::types::Term;

    #[test]
    fn an_entry_is_one_line_whatever_its_value_holds() {
        let line = LogLine {
            index: Index(7),
            term: Term(2),
            time_ms: 0,
            board: "store".to_owned(),
            command: "put".to_owned(),
            key: Some("a\u{1b}[2J".to_owned()),
            value: Some("one\ntwo".to_owned()),
            truncated: true,
        };
        assert_eq!(as_row(&line), ["7", "2", "store", "put", "a\\u{1b}[2J", "one\\ntwo…"].map(str::to_owned));
    }
}
