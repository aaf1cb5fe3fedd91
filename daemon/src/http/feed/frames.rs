//! What the feed says, and the reducer that decides it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::problem::Problem;
use super::super::site::epoch;
use crate::boards::{self, Boards, Invalid, Item};
use crate::node::ClusterView;
use crate::store::AppliedEntry;

/// Where another node's pages are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Peer {
    name: String,
    url: String,
}

/// A change in a batch, with its entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Dated {
    seq: u64,
    #[serde(flatten)]
    item: Item,
}

/// Why a follower must fetch everything anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reset {
    /// Its cursor belongs to another life of the cluster.
    Epoch,
    /// What it lacks is not kept any more.
    Trimmed,
    /// It reads too slowly.
    Slow,
}

/// What a node says to a follower.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(super) enum Frame {
    /// First of all.
    Hello {
        epoch: String,
        seq: u64,
        oldest: u64,
        node: String,
        leader: Option<String>,
        term: u64,
        peers: Vec<Peer>,
    },
    /// Everything in (from, to].
    Batch { from: u64, to: u64, items: Vec<Dated> },
    /// One entry; nothing for this follower lies between `prev` and it.
    Event { prev: u64, seq: u64, items: Vec<Item> },
    /// Nothing more up to `seq`.
    Tick { seq: u64, leader: Option<String>, term: u64 },
    /// Fetch by HTTP, then resume after `seq`.
    Reset { reason: Reset, seq: u64 },
    /// A post was applied.
    Ack { id: String, seq: u64 },
    /// A post was refused, or nobody knows (`outcome_unknown`).
    Nack {
        id: String,
        code: String,
        detail: String,
        retry_ms: Option<u64>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        errors: Vec<Invalid>,
    },
}

impl Frame {
    /// Who is here, and where the feed stands.
    pub(super) fn hello(view: &ClusterView, node: &str, seq: u64, oldest: u64) -> Self {
        let peer = |node: &chorus_proto::message::NodeReport| {
            Some(Peer { name: node.name.to_string(), url: node.url.clone()? })
        };
        Self::Hello {
            epoch: epoch(view),
            seq,
            oldest,
            node: node.to_owned(),
            leader: view.leader.as_ref().map(ToString::to_string),
            term: view.term,
            peers: view.nodes.iter().filter_map(peer).collect(),
        }
    }

    /// Why a post has no seq.
    pub(super) fn nack(id: String, problem: &Problem) -> Self {
        Self::Nack {
            id,
            code: problem.code().to_owned(),
            detail: problem.detail().to_owned(),
            retry_ms: problem.retry_ms(),
            errors: problem.errors().to_vec(),
        }
    }

    /// The cursor of a follower that has read this.
    pub(super) fn cursor(&self) -> Option<u64> {
        match self {
            Self::Batch { to: seq, .. }
            | Self::Event { seq, .. }
            | Self::Tick { seq, .. }
            | Self::Reset { seq, .. } => Some(*seq),
            Self::Hello { .. } | Self::Ack { .. } | Self::Nack { .. } => None,
        }
    }

    /// As one JSON object.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("a frame is texts, numbers and JSON")
    }
}

/// What a follower says.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(super) enum Word {
    /// Tell me everything after `after` (none: from now).
    Resume {
        #[serde(default)]
        epoch: Option<String>,
        #[serde(default)]
        after: Option<u64>,
        #[serde(default)]
        topics: Option<BTreeSet<String>>,
        /// A token, or a page's session, where neither header nor cookie says who it is.
        #[serde(default)]
        token: Option<String>,
    },
    /// Carry out the board's `post`.
    Post { id: String, topic: String, body: Value },
}

/// What one follower has been told, and so what comes next.
///
/// Invariants: `told` ≤ `covered`; between them lies nothing for this follower; `told` is the follower's cursor.
#[derive(Debug)]
pub(super) struct Reducer {
    topics: Option<BTreeSet<&'static str>>,
    /// What is private in these is hidden.
    hiding: Option<Boards>,
    told: u64,
    covered: u64,
}

/// What an applied entry means to a follower.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing to say: it was told before, or does not concern it.
    Quiet,
    /// This.
    Say(Frame),
    /// Entries before it are missing here: read them from the store.
    Gap,
}

impl Reducer {
    /// A follower that knows everything up to `after`.
    pub(super) fn new(after: u64, topics: Option<BTreeSet<&'static str>>) -> Self {
        Self { topics, hiding: None, told: after, covered: after }
    }

    /// The same for one who may not see what is private in these boards.
    pub(super) fn hiding(self, boards: Boards) -> Self {
        Self { hiding: Some(boards), ..self }
    }

    /// Everything up to `seq` is known from elsewhere.
    pub(super) fn go_on_after(&mut self, seq: u64) {
        (self.told, self.covered) = (seq, seq);
    }

    /// Everything up to here needs no more words.
    pub(super) fn covered(&self) -> u64 {
        self.covered
    }

    /// The next entry from the loop.
    pub(super) fn entry(&mut self, entry: &AppliedEntry) -> Step {
        if entry.index <= self.covered {
            return Step::Quiet;
        }
        if entry.index > self.covered + 1 {
            return Step::Gap;
        }
        self.covered = entry.index;
        let items: Vec<_> =
            entry.items.iter().filter(|item| self.wants(item)).map(|item| self.shown(item)).collect();
        if items.is_empty() {
            return Step::Quiet;
        }
        let prev = std::mem::replace(&mut self.told, entry.index);
        Step::Say(Frame::Event { prev, seq: entry.index, items })
    }

    /// What the store has in (covered, to], for a follower that was behind.
    pub(super) fn batch(&mut self, to: u64, entries: &[Arc<AppliedEntry>]) -> Frame {
        let news = entries.iter().filter(|entry| (self.covered + 1..=to).contains(&entry.index));
        let items = news
            .flat_map(|entry| entry.items.iter().map(|item| (entry.index, item)))
            .filter(|(_, item)| self.wants(item))
            .map(|(seq, item)| Dated { seq, item: self.shown(item) })
            .collect();
        self.covered = self.covered.max(to);
        let from = std::mem::replace(&mut self.told, self.covered);
        Frame::Batch { from, to: self.covered, items }
    }

    /// Nothing happened for a while.
    pub(super) fn tick(&mut self, view: &ClusterView) -> Frame {
        self.told = self.covered;
        Frame::Tick { seq: self.told, leader: view.leader.as_ref().map(ToString::to_string), term: view.term }
    }

    fn wants(&self, item: &Item) -> bool {
        self.topics.as_ref().is_none_or(|topics| topics.contains(item.topic.as_str()))
    }

    fn shown(&self, item: &Item) -> Item {
        let mut shown = item.clone();
        if let Some(board) = self.hiding.and_then(|boards| boards.named(&item.topic)) {
            boards::hide(&mut shown.item, board.private());
        }
        shown
    }
}

/// An applied entry with one created row in each of `topics`.
#[cfg(test)]
pub(super) fn applied(index: u64, topics: &[&str]) -> Arc<AppliedEntry> {
    let item = |topic: &&str| Item {
        topic: (*topic).to_owned(),
        kind: crate::boards::Change::Created,
        item: serde_json::json!({ "seq": index }),
    };
    Arc::new(AppliedEntry {
        index,
        term: 1,
        request: None,
        body: None,
        items: topics.iter().map(item).collect(),
        touched: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quotes(after: u64) -> Reducer {
        Reducer::new(after, Some(BTreeSet::from(["quotes"])))
    }

    fn json_of(frame: &Frame) -> Value {
        serde_json::from_str(&frame.text()).unwrap()
    }

    #[test]
    fn an_event_names_what_was_covered_before_it() {
        let mut reducer = quotes(4);
        assert_eq!(reducer.entry(&applied(5, &["store"])), Step::Quiet);
        let Step::Say(frame) = reducer.entry(&applied(6, &["quotes", "store"])) else {
            panic!("nothing said")
        };
        let item = json!({"topic": "quotes", "kind": "created", "item": {"seq": 6}});
        assert_eq!(json_of(&frame), json!({"t": "event", "prev": 4, "seq": 6, "items": [item]}));
        assert_eq!(json_of(&reducer.tick(&ClusterView::default()))["seq"], 6);
    }

    #[test]
    fn an_entry_is_told_once() {
        let mut reducer = quotes(0);
        assert!(matches!(reducer.entry(&applied(1, &["quotes"])), Step::Say(_)));
        assert_eq!(reducer.entry(&applied(1, &["quotes"])), Step::Quiet);
    }

    #[test]
    fn a_missing_entry_is_a_gap_even_if_it_may_not_concern_the_follower() {
        let mut reducer = quotes(0);
        assert_eq!(reducer.entry(&applied(2, &["store"])), Step::Gap);
        let frame = reducer.batch(2, &[applied(1, &["quotes"]), applied(2, &["store"])]);
        let item = json!({"seq": 1, "topic": "quotes", "kind": "created", "item": {"seq": 1}});
        assert_eq!(json_of(&frame), json!({"t": "batch", "from": 0, "to": 2, "items": [item]}));
    }

    #[test]
    fn a_batch_begins_at_the_followers_cursor_and_tells_nothing_twice() {
        let mut reducer = quotes(0);
        let _told = reducer.entry(&applied(1, &["quotes"]));
        let _quiet = reducer.entry(&applied(2, &["store"]));
        let frame = reducer.batch(4, &[applied(1, &["quotes"]), applied(3, &["quotes"])]);
        let json = json_of(&frame);
        assert_eq!(
            (&json["from"], &json["to"], json["items"].as_array().unwrap().len()),
            (&json!(1), &json!(4), 1)
        );
        assert_eq!(reducer.entry(&applied(3, &["quotes"])), Step::Quiet);
    }

    #[test]
    fn what_is_private_is_hidden_from_who_may_not_see_it() {
        let item = json!({ "name": "Ada", "email": "ada@example.org" });
        let donor = Item { topic: "donors".to_owned(), kind: crate::boards::Change::Created, item };
        let entry = Arc::new(AppliedEntry {
            index: 1,
            term: 1,
            request: None,
            body: None,
            items: vec![donor],
            touched: Vec::new(),
        });
        let told = |mut reducer: Reducer| match reducer.entry(&entry) {
            Step::Say(frame) => frame.text(),
            other => panic!("{other:?}"),
        };
        assert!(told(Reducer::new(0, None)).contains("ada@example.org"));
        assert!(!told(Reducer::new(0, None).hiding(Boards::all())).contains("ada@example.org"));
        let batch = Reducer::new(0, None).hiding(Boards::all()).batch(1, &[Arc::clone(&entry)]).text();
        assert!(batch.contains("Ada") && !batch.contains("ada@example.org"), "{batch}");
    }

    #[test]
    fn a_tick_moves_the_cursor_over_what_did_not_concern_the_follower() {
        let mut reducer = quotes(0);
        let _quiet = reducer.entry(&applied(1, &["store"]));
        let view = ClusterView { leader: Some("n4".parse().unwrap()), term: 7, ..ClusterView::default() };
        assert_eq!(json_of(&reducer.tick(&view)), json!({"t": "tick", "seq": 1, "leader": "n4", "term": 7}));
        let Step::Say(Frame::Event { prev, .. }) = reducer.entry(&applied(2, &["quotes"])) else { panic!() };
        assert_eq!(prev, 1);
    }

    #[test]
    fn frames_are_spelled_as_promised() {
        let reset = Frame::Reset { reason: Reset::Trimmed, seq: 9 };
        assert_eq!(json_of(&reset), json!({"t": "reset", "reason": "trimmed", "seq": 9}));
        let nack = Frame::nack("a".to_owned(), &Problem::new("not_found", "no"));
        assert_eq!(
            json_of(&nack),
            json!({"t": "nack", "id": "a", "code": "not_found", "detail": "no", "retry_ms": null})
        );
        let hello = json_of(&Frame::hello(&ClusterView::default(), "n2", 5, 1));
        assert_eq!(
            hello,
            json!({"t": "hello", "epoch": ".0", "seq": 5, "oldest": 1, "node": "n2", "leader": null, "term": 0, "peers": []})
        );
        let word: Word =
            serde_json::from_str(r#"{"t":"resume","epoch":null,"after":3,"topics":["quotes"]}"#).unwrap();
        assert_eq!(
            word,
            Word::Resume {
                epoch: None,
                after: Some(3),
                topics: Some(BTreeSet::from(["quotes".to_owned()])),
                token: None
            }
        );
        assert!(serde_json::from_str::<Word>(r#"{"t":"shout"}"#).is_err());
    }
}
