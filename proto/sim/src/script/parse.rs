//! How scripts and their steps are read.

use std::collections::BTreeMap;

use chorus_proto::message::{
    AppendReply, Carried, CatchMeUp, Catchup, Digest, Heartbeat, Lagging, LeaderInfo, Message, Resign,
    SnapshotOffer, Vote, VoteConsensus, VoteMe,
};
use chorus_proto::types::{Entry, EntryId, Index, NodeId, Payload, Round, Term};

/// What is wrong with a script.
#[derive(Debug)]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// What.
    pub detail: String,
}

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.detail)
    }
}

impl std::error::Error for ScriptError {}

/// Steps, and what they bring forth.
#[derive(Debug, Default)]
pub(super) struct Block<'a> {
    pub(super) first_line: usize,
    pub(super) steps: Vec<&'a str>,
}

/// The blocks of a script. What is expected is left out: it is compared as a whole.
pub(super) fn blocks(script: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut block: Option<Block<'_>> = None;
    let mut expecting = false;
    for (number, line) in (1..).zip(script.lines()) {
        match (line.trim(), expecting) {
            ("---", false) => {
                blocks.extend(block.take());
                expecting = true;
            }
            ("", true) => expecting = false,
            ("", false) | (_, true) => {}
            (_, false) => {
                let open = block.get_or_insert(Block { first_line: number, steps: Vec::new() });
                open.steps.push(line);
            }
        }
    }
    blocks
}

/// The words of one step: those that stand alone, and those of the form `name=value`.
#[derive(Debug)]
pub(super) struct Words<'a> {
    pub(super) alone: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        let words = line.split_whitespace().filter(|word| *word != "→");
        let (named, alone): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('='));
        Self { alone, named: named.into_iter().filter_map(|word| word.split_once('=')).collect() }
    }

    pub(super) fn named(&self, name: &str) -> Option<&'a str> {
        self.named.get(name).copied()
    }

    pub(super) fn number(&self, name: &str) -> Result<u64, String> {
        let text = self.named(name).ok_or_else(|| format!("{name}= is missing"))?;
        text.parse().map_err(|_| format!("{name}={text} is not a number"))
    }

    pub(super) fn number_or(&self, name: &str, other: u64) -> Result<u64, String> {
        if self.named.contains_key(name) { self.number(name) } else { Ok(other) }
    }

    fn id(&self, name: &str) -> Result<EntryId, String> {
        entry_id(self.named(name).ok_or_else(|| format!("{name}= is missing"))?)
    }

    fn has(&self, word: &str) -> bool {
        self.alone.contains(&word)
    }
}

pub(super) fn entry_id(text: &str) -> Result<EntryId, String> {
    let parts = text.strip_prefix('t').and_then(|rest| rest.split_once("/i"));
    let parse = |(term, index): (&str, &str)| Some(EntryId::new(term.parse().ok()?, index.parse().ok()?));
    parts.and_then(parse).ok_or_else(|| format!("'{text}' is no entry id such as t1/i2"))
}

fn range(text: &str) -> Result<(Index, Index), String> {
    let parse = |(from, to): (&str, &str)| Some((Index(from.parse().ok()?), Index(to.parse().ok()?)));
    text.split_once('-').and_then(parse).ok_or_else(|| format!("'{text}' is no range such as 2-3"))
}

fn list<T>(text: Option<&str>, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.unwrap_or_default().split(',').filter(|word| !word.is_empty()).map(parse).collect()
}

/// A snapshot at this entry; scripts fetch nothing.
fn offer(text: &str) -> Result<SnapshotOffer, String> {
    let address = "192.0.2.1:5555".to_owned();
    Ok(SnapshotOffer { id: entry_id(text)?, size: 4096, digest: Digest([0; 32]), address })
}

/// The message that a `say` step names; `id` finds a node.
pub(super) fn message(
    name: &str,
    words: &Words<'_>,
    id: impl Fn(&str) -> Result<NodeId, String>,
) -> Result<Message, String> {
    let term = Term(words.number("term")?);
    let whole = |id| Carried::Whole(Entry { id, time_ms: 0, payload: Payload::Noop });
    let entries = || list(words.named("entries"), |text| entry_id(text).map(whole));
    let last = || words.id("last");
    Ok(match name {
        "VOTECONSENSUS" => Message::VoteConsensus(VoteConsensus {
            term,
            last_log_term: last()?.term,
            last_log_index: last()?.index,
            round: Round(1),
            configuration_index: Index(words.number_or("configuration", 0)?),
        }),
        "VOTEME" => Message::VoteMe(VoteMe {
            term,
            last_log_term: last()?.term,
            last_log_index: last()?.index,
            transfer: words.has("transfer"),
            configuration_index: Index(words.number_or("configuration", 0)?),
        }),
        "LEADME" => Message::LeadMe(Vote { term }),
        "!LEADME" => Message::NotLeadMe(Vote { term }),
        "HEARTBEAT" => {
            let (previous, entries) = (words.id("prev")?, entries()?);
            let end = entries.last().map_or(previous.index, |carried| carried.id().index);
            Message::Heartbeat(Heartbeat {
                term,
                prev_log_index: previous.index,
                prev_log_term: previous.term,
                entries,
                commit_index: Index(words.number_or("commit", 0)?),
                last_index: Index(words.number_or("last", end.0)?),
                round: Round(words.number_or("round", 1)?),
            })
        }
        "APPEND_REPLY" => Message::AppendReply(AppendReply {
            term,
            success: words.has("success"),
            match_index: Index(words.number_or("match", 0)?),
            round: Round(words.number_or("round", 0)?),
        }),
        "RESIGN" => {
            Message::Resign(Resign { term, successor: id(words.named("successor").unwrap_or_default())? })
        }
        "LAGGING" => Message::Lagging(Lagging {
            term,
            matched_index: words.id("matched")?.index,
            matched_term: words.id("matched")?.term,
            ranges: list(words.named("lacks"), range)?,
            parts: Vec::new(),
        }),
        "CATCHUP" => Message::Catchup(Catchup {
            term,
            commit_index: Index(words.number("commit")?),
            prev_log_index: words.id("prev")?.index,
            prev_log_term: words.id("prev")?.term,
            entries: entries()?,
            snapshot: words.named("snapshot").map(offer).transpose()?,
        }),
        "LEADER_INFO" => Message::LeaderInfo(LeaderInfo {
            term,
            leader: words.named("leader").map(id).transpose()?,
            leader_name: None,
            first_index: Index(words.number_or("first", 1)?),
            last_index: Index(words.number("last")?),
            commit_index: Index(words.number("commit")?),
            request_id: None,
        }),
        "CATCHMEUP" => Message::CatchMeUp(CatchMeUp {
            term,
            from: Index(words.number("from")?),
            to: Index(words.number("to")?),
            snapshot: words.has("snapshot"),
        }),
        other => return Err(format!("'{other}' cannot be said in a script")),
    })
}
