//! Words that miss by little, and frames that are anything, at a real websocket: the first that is bad closes it with the
//! promised code; while all are good every post is answered, once.

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;

use crate::stage::{Stage, within};

/// Largest frame that is taken.
const FRAME_BYTES_MAX: usize = 128 * 1024;

/// What a client says, and what must come of it.
#[derive(Clone, Debug)]
enum Said {
    /// Taken; nothing in particular is answered.
    Word(Value),
    /// Answered by `ack`, or by `nack` with this code.
    Post { topic: Value, body: Value, answer: &'static str },
    /// Closes.
    Bad(Bad, u16),
}

#[derive(Clone, Debug)]
enum Bad {
    Text(String),
    Binary(Vec<u8>),
}

fn word() -> impl Strategy<Value = Value> {
    let epoch = select(vec![Value::Null, json!(crate::stage::EPOCH), json!("another.1"), json!("")]);
    let after = select(vec![Value::Null, json!(0), json!(1)]);
    let topics = select(vec![Value::Null, json!([]), json!(["quotes"]), json!(["store", "store", "tasks"])]);
    let resume = |(epoch, after, topics, extra): (Value, Value, Value, bool)| {
        let mut word = json!({ "t": "resume", "epoch": epoch, "after": after, "topics": topics });
        if extra {
            word["of a later version"] = json!([1, { "a": null }]);
        }
        word
    };
    prop_oneof![Just(json!({ "t": "resume" })), (epoch, after, topics, any::<bool>()).prop_map(resume)]
}

fn post() -> impl Strategy<Value = Said> {
    let quote = json!({ "author": "Ada", "text": "Hi" });
    let posts = vec![
        (json!("quotes"), quote.clone(), "ack"),
        (json!("quotes"), json!({ "author": "Ada" }), "invalid"),
        (json!("quotes"), json!([quote]), "invalid"),
        (json!("quotes"), Value::Null, "invalid"),
        (json!("store"), json!({ "value": "x" }), "not_found"),
        (json!("nothing"), quote, "not_found"),
        (json!(""), json!({}), "not_found"),
    ];
    select(posts).prop_map(|(topic, body, answer)| Said::Post { topic, body, answer })
}

/// Near every good word lies a bad one.
fn bad() -> impl Strategy<Value = Said> {
    let near = vec![
        json!({}),
        json!([]),
        json!(null),
        json!("resume"),
        json!({ "t": "shout" }),
        json!({ "t": 1 }),
        json!({ "t": "Resume" }),
        json!({ "t": "resume", "after": -1 }),
        json!({ "t": "resume", "after": 1.5 }),
        json!({ "t": "resume", "after": "1" }),
        json!({ "t": "resume", "epoch": 1 }),
        json!({ "t": "resume", "topics": "quotes" }),
        json!({ "t": "resume", "topics": [1] }),
        json!({ "t": "resume", "topics": ["quotes", "nothing"] }),
        json!({ "t": "resume", "topics": [""] }),
        json!({ "t": "post" }),
        json!({ "t": "post", "id": 7, "topic": "quotes", "body": {} }),
        json!({ "t": "post", "id": "a", "topic": null, "body": {} }),
        json!({ "t": "post", "id": "a", "body": {} }),
        json!({ "t": "post", "topic": "quotes", "body": {} }),
    ];
    let text = prop_oneof![
        5 => select(near).prop_map(|value| value.to_string()),
        2 => word().prop_map(|word| word.to_string().split_off(1)),
        2 => "\\PC{0,40}".prop_filter("no JSON", |text| serde_json::from_str::<Value>(text).is_err()),
        1 => Just("[".repeat(60_000)),
    ];
    prop_oneof![
        6 => text.prop_map(|text| Said::Bad(Bad::Text(text), 4400)),
        1 => prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Said::Bad(Bad::Binary(bytes), 4400)),
        1 => (1_usize..300_000).prop_map(|more| Said::Bad(Bad::Text(" ".repeat(FRAME_BYTES_MAX + more)), 1009)),
        1 => (1_usize..300_000).prop_map(|more| Said::Bad(Bad::Binary(vec![0; FRAME_BYTES_MAX + more]), 1009)),
    ]
}

fn conversation() -> impl Strategy<Value = Vec<Said>> {
    let good = prop_oneof![word().prop_map(Said::Word), post()];
    let end = prop_oneof![2 => Just(None), 3 => bad().prop_map(Some)];
    (prop::collection::vec(good, 0..8), end).prop_map(|(good, bad)| good.into_iter().chain(bad).collect())
}

#[test]
fn the_first_bad_frame_closes_and_every_good_post_is_answered() {
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(Stage::open(64));
    let asked = ProptestConfig::default();
    let config = ProptestConfig { cases: asked.cases.max(1_000), failure_persistence: None, ..asked };
    let met = RefCell::new((0, BTreeMap::new()));
    proptest!(config, |(said in conversation())| {
        let ended = runtime.block_on(within(hold(&stage, &said)));
        let (answered, closed) = &mut *met.borrow_mut();
        match ended {
            Ok(answers) => *answered += answers,
            Err(code) => *closed.entry(code).or_insert(0) += 1,
        }
    });
    let (answered, closed) = met.into_inner();
    println!("measured: {answered} posts answered; closed {closed:?}");
    assert!(answered > 0 && closed.len() == 2, "{answered} posts answered; closed {closed:?}");
}

/// The posts that were answered, or the code that it was closed with, both as they must be.
async fn hold(stage: &Stage, said: &[Said]) -> Result<usize, u16> {
    let mut socket = stage.feed().await;
    let mut waiting = BTreeMap::new();
    for said in said {
        match said {
            Said::Word(word) => socket.say(word.clone()).await,
            Said::Post { topic, body, answer } => {
                let id = uuid::Uuid::now_v7().to_string();
                socket.say(json!({ "t": "post", "id": id, "topic": topic, "body": body })).await;
                waiting.insert(id, *answer);
            }
            Said::Bad(bad, code) => {
                socket.raw(bad.message()).await;
                let closed = socket.close_code().await;
                assert_eq!(closed, *code, "{bad:?}");
                return Err(closed);
            }
        }
    }
    let posts = waiting.len();
    while !waiting.is_empty() {
        let word = socket.frame().await;
        let Some(id) = word["id"].as_str() else { continue };
        let answer = waiting.remove(id).unwrap_or_else(|| panic!("answered twice, or never asked: {word}"));
        assert_eq!(
            if word["t"] == "ack" { "ack" } else { word["code"].as_str().unwrap_or_default() },
            answer
        );
    }
    // It still listens.
    socket.say(json!({ "t": "resume" })).await;
    socket.frame_of("tick").await;
    Ok(posts)
}

impl Bad {
    fn message(&self) -> Message {
        match self {
            Self::Text(text) => Message::Text(text.as_str().into()),
            Self::Binary(bytes) => Message::Binary(bytes.clone().into()),
        }
    }
}
