//! The feed: every entry once, in order, whatever happens between.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::stage::{EPOCH, Socket, Stage, within};

async fn resume(socket: &mut Socket, after: Option<u64>) {
    socket.say(json!({"t": "resume", "epoch": EPOCH, "after": after, "topics": ["quotes"]})).await;
}

/// Reads frames until the cursor reaches `end`; the seqs that were told, each checked against the cursor before it.
async fn seqs_until(socket: &mut Socket, mut cursor: u64, end: u64) -> Vec<u64> {
    let mut told = Vec::new();
    while cursor < end {
        let frame = socket.frame().await;
        match frame["t"].as_str() {
            Some("batch") => {
                assert_eq!(frame["from"], json!(cursor), "{frame}");
                told.extend(
                    frame["items"].as_array().expect("items").iter().map(|item| item["seq"].as_u64()),
                );
                cursor = frame["to"].as_u64().expect("to");
            }
            Some("event") => {
                assert_eq!(frame["prev"], json!(cursor), "{frame}");
                cursor = frame["seq"].as_u64().expect("seq");
                told.push(Some(cursor));
            }
            Some("tick") => cursor = frame["seq"].as_u64().expect("seq"),
            _ => panic!("{frame}"),
        }
    }
    told.into_iter().map(|seq| seq.expect("a seq")).collect()
}

#[tokio::test]
async fn hello_comes_first_and_an_event_follows_each_post() {
    let stage = Stage::open(64).await;
    let mut socket = stage.socket(Some(&stage.url)).await.expect("a websocket");
    let hello = socket.frame().await;
    assert_eq!(
        (&hello["t"], &hello["epoch"], &hello["seq"], &hello["node"], &hello["leader"], &hello["term"]),
        (&json!("hello"), &json!(EPOCH), &json!(1), &json!("n2"), &json!("n2"), &json!(7))
    );
    assert_eq!(hello["peers"][1], json!({"name": "n2", "url": stage.url}));
    resume(&mut socket, None).await;
    assert_eq!(socket.frame_of("tick").await["seq"], json!(1));
    let posted = stage.post("k", json!({"author": "Ada", "text": "x"})).await.json();
    let event = socket.frame_of("event").await;
    assert_eq!((&event["prev"], &event["seq"]), (&json!(1), &posted["index"]));
    let item = &event["items"][0];
    assert_eq!(
        (&item["topic"], &item["kind"], &item["item"]["text"]),
        (&json!("quotes"), &json!("created"), &json!("x"))
    );
}

#[tokio::test]
async fn a_follower_that_resumes_gets_what_it_missed_and_nothing_else() {
    let stage = Stage::open(64).await;
    let seqs: Vec<_> = (0..300).map(|n| stage.log.quote(&n.to_string())).collect();
    let mut socket = stage.feed().await;
    let (after, end) = (seqs[9], seqs[299]);
    resume(&mut socket, Some(after)).await;
    assert_eq!(seqs_until(&mut socket, after, end).await, seqs[10..]);
}

#[tokio::test]
async fn a_racing_writer_and_a_lagging_follower_lose_and_double_nothing() {
    // The feed keeps four entries only, so that whoever pauses lags.
    let stage = Stage::open(4).await;
    let begin = stage.log.quote("first");
    let mut quick = stage.feed().await;
    let mut slow = stage.feed().await;
    resume(&mut quick, Some(begin)).await;
    resume(&mut slow, Some(begin)).await;
    let log = Arc::clone(&stage.log);
    let writer = tokio::task::spawn_blocking(move || {
        (0..2_000).map(|n| log.quote(&n.to_string())).collect::<Vec<_>>()
    });
    let quick_one = tokio::spawn(async move {
        // Each quote is one entry, and nothing else is written.
        seqs_until(&mut quick, begin, begin + 2_000).await
    });
    let seqs = within(writer).await.expect("written");
    // Only now does the slow one begin to read.
    let end = *seqs.last().expect("seqs");
    assert_eq!(seqs_until(&mut slow, begin, end).await, seqs);
    assert_eq!(within(quick_one).await.expect("read"), seqs);
}

#[tokio::test]
async fn other_topics_are_passed_over_and_covered() {
    let stage = Stage::open(64).await;
    let mut socket = stage.feed().await;
    resume(&mut socket, Some(1)).await;
    assert_eq!(socket.frame_of("batch").await["to"], json!(1));
    let put = stage.http.put(stage.at("/api/v1/store/k")).json(&json!({"value": "v"}));
    let put = stage.ask(put).await.json()["index"].as_u64().expect("an index");
    let tick = loop {
        let tick = socket.frame_of("tick").await;
        if tick["seq"].as_u64() >= Some(put) {
            break tick;
        }
    };
    let seq = stage.log.quote("after it");
    let event = socket.frame_of("event").await;
    assert_eq!((&event["prev"], &event["seq"]), (&tick["seq"], &json!(seq)));
}

#[tokio::test]
async fn another_epoch_resets_and_the_follower_may_resume_after_it() {
    let stage = Stage::open(64).await;
    let mut socket = stage.feed().await;
    socket.say(json!({"t": "resume", "epoch": "00.1", "after": 1, "topics": null})).await;
    assert_eq!(socket.frame().await, json!({"t": "reset", "reason": "epoch", "seq": 1}));
    resume(&mut socket, Some(1)).await;
    let seq = stage.log.quote("x");
    assert_eq!(seqs_until(&mut socket, 1, seq).await, [seq]);
}

#[tokio::test]
async fn a_follower_ahead_of_the_node_waits_and_then_is_sent_elsewhere() {
    let stage = Stage::open(64).await;
    let mut waits = stage.feed().await;
    resume(&mut waits, Some(2)).await;
    let mut too_far = stage.feed().await;
    resume(&mut too_far, Some(1_000)).await;
    let seq = stage.log.quote("two");
    assert_eq!(waits.frame().await, json!({"t": "batch", "from": 2, "to": seq, "items": []}));
    assert_eq!(too_far.close_code().await, 1013);
}

#[tokio::test]
async fn a_node_without_a_cluster_sends_a_reader_of_one_elsewhere() {
    let stage = Stage::open(64).await;
    stage.view.send_modify(|view| {
        let view = Arc::make_mut(view);
        (view.cluster, view.epoch) = (String::new(), 0);
    });
    let mut reader = stage.feed().await;
    resume(&mut reader, Some(1)).await;
    assert_eq!(reader.close_code().await, 1013);
    let mut its_own = stage.feed().await;
    its_own.say(json!({"t": "resume", "epoch": ".0", "after": null, "topics": null})).await;
    assert_eq!(its_own.frame().await["t"], "tick");
}

#[tokio::test]
async fn a_change_of_leader_is_told_at_once() {
    let stage = Stage::open(64).await;
    let mut socket = stage.feed().await;
    resume(&mut socket, None).await;
    assert_eq!(socket.frame_of("tick").await["leader"], json!("n2"));
    stage.lead(false);
    // One tick may have been under way.
    let mut nobody_leads = async || socket.frame_of("tick").await["leader"].is_null();
    assert!(nobody_leads().await || nobody_leads().await);
}

#[tokio::test]
async fn a_post_over_the_websocket_is_acknowledged_or_refused() {
    let stage = Stage::open(64).await;
    let mut socket = stage.feed().await;
    resume(&mut socket, None).await;
    let post = |id: &str, topic: &str, text: &str| json!({"t": "post", "id": id, "topic": topic, "body": {"author": "Ada", "text": text}});
    socket.say(post("a-1", "quotes", "x")).await;
    let ack = socket.frame_of("ack").await;
    assert_eq!((&ack["id"], &ack["seq"]), (&json!("a-1"), &json!(2)));
    socket.say(post("a-1", "quotes", "x")).await;
    assert_eq!(socket.frame_of("ack").await, ack, "a repetition is answered the same");
    socket.say(post("a-1", "quotes", "y")).await;
    assert_eq!(socket.frame_of("nack").await["code"], json!("id_reused"));
    socket.say(post("a-2", "quotes", "")).await;
    let nack = socket.frame_of("nack").await;
    assert_eq!((&nack["code"], &nack["errors"][0]["field"]), (&json!("invalid"), &json!("text")));
    socket.say(post("a-3", "nothing", "x")).await;
    assert_eq!(socket.frame_of("nack").await["code"], json!("not_found"));
    stage.lead(false);
    socket.say(post("a-4", "quotes", "x")).await;
    let nack = socket.frame_of("nack").await;
    assert_eq!(
        (&nack["id"], &nack["code"], &nack["retry_ms"]),
        (&json!("a-4"), &json!("no_leader"), &json!(300))
    );
}

#[tokio::test]
async fn whoever_breaks_the_rules_is_closed_with_the_code_for_it() {
    let stage = Stage::open(64).await;
    let mut bad = stage.feed().await;
    bad.raw(Message::Text("{\"t\":\"shout\"}".into())).await;
    assert_eq!(bad.close_code().await, 4400);
    let mut binary = stage.feed().await;
    binary.raw(Message::Binary(vec![1, 2, 3].into())).await;
    assert_eq!(binary.close_code().await, 4400);
    let mut large = stage.feed().await;
    large.raw(Message::Text("x".repeat(131_073).into())).await;
    assert_eq!(large.close_code().await, 1009);
    let mut flood = stage.feed().await;
    for _ in 0..3_000 {
        // It is closed before the last of them, and does not stay for long.
        if !flood.takes(Message::Ping(Vec::new().into())).await {
            break;
        }
    }
    assert_eq!(flood.close_code().await, 4429);
    let mut silent = stage.feed().await;
    assert_eq!(silent.close_code().await, 4408);
}

/// RFC 6455, 5.5.1: who gets a close frame sends one in return.
#[tokio::test]
async fn a_client_that_closes_is_answered() {
    let stage = Stage::open(64).await;
    let log = stage.log.quote("one");
    let mut new = stage.feed().await;
    let mut following = stage.feed().await;
    resume(&mut following, Some(log)).await;
    for socket in [&mut new, &mut following] {
        let close = CloseFrame { code: CloseCode::Normal, reason: "enough".into() };
        socket.raw(Message::Close(Some(close))).await;
        assert_eq!(socket.close_code().await, 1000);
    }
}

#[tokio::test]
async fn pages_of_members_may_follow_and_others_may_not() {
    let stage = Stage::open(64).await;
    assert!(stage.socket(Some("http://n1.example")).await.is_ok());
    assert_eq!(stage.socket(Some("https://evil.example")).await.err(), Some(403));
}

#[tokio::test]
async fn a_topic_that_is_no_board_is_refused_with_those_that_are() {
    const BOARDS: [&str; 6] = ["quotes", "donors", "books", "orders", "tasks", "store"];
    let stage = Stage::open(64).await;
    for topics in ["nonsense", "quotes,nonsense", "Quotes"] {
        let refused = stage.get(&format!("/api/v1/feed?topics={topics}")).await;
        assert_eq!((refused.status, &refused.json()["errors"][0]["field"]), (422, &json!("topics")));
        let topics: Vec<_> = topics.split(',').collect();
        let mut socket = stage.feed().await;
        socket.say(json!({ "t": "resume", "topics": topics })).await;
        let (code, reason) = socket.close().await;
        assert_eq!(code, 4400);
        let told = refused.json()["detail"].as_str().expect("a sentence").to_owned();
        assert_eq!(told, reason, "the same either way");
        assert!(told.starts_with("topics: ") && BOARDS.iter().all(|board| told.contains(board)), "{told}");
    }
    let mut socket = stage.feed().await;
    socket.say(json!({ "t": "resume", "topics": BOARDS })).await;
    socket.frame_of("tick").await;
}

#[tokio::test]
async fn a_node_that_stops_says_so() {
    let mut stage = Stage::open(64).await;
    let mut socket = stage.feed().await;
    resume(&mut socket, None).await;
    assert_eq!(socket.frame().await["t"], "tick");
    let closing = tokio::spawn(async move { socket.close_code().await });
    stage.close().await;
    assert_eq!(within(closing).await.expect("a close frame"), 1001);
}

#[tokio::test]
async fn server_sent_events_tell_the_same_and_resume_by_their_id() {
    let stage = Stage::open(64).await;
    let first = stage.log.quote("one");
    let second = stage.log.quote("two");
    let request =
        stage.http.get(stage.at("/api/v1/feed?after=1&topics=quotes")).header("Last-Event-ID", first);
    let mut response = within(request.send()).await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    // Nobody waited for the second quote: it may come in the batch of what was missed or as an event after it.
    while !text.contains(&format!("id: {second}\n")) || !text.ends_with("\n\n") {
        let chunk = within(response.chunk()).await.expect("more").expect("no end");
        text.push_str(std::str::from_utf8(&chunk).expect("text"));
    }
    assert!(text.contains("\"t\":\"hello\""), "{text}");
    assert!(text.contains("\"t\":\"batch\"") && text.contains("two") && !text.contains("\"one\""), "{text}");
    assert!(!text.contains("event:"), "what the frame is stands in it: {text}");

    // The feed tells of an entry a moment before it counts as applied, and a reset goes on from what is applied.
    stage.get(&format!("/api/v1/quotes?min_index={second}")).await;
    let request = stage.http.get(stage.at("/api/v1/feed?after=1&epoch=00.1"));
    let mut response = within(request.send()).await.expect("an answer");
    let third = stage.log.quote("three");
    let mut text = String::new();
    while !text.contains(&format!("id: {third}\n")) {
        let chunk = within(response.chunk()).await.expect("more").expect("no end");
        text.push_str(std::str::from_utf8(&chunk).expect("text"));
    }
    let told: Vec<_> = text.split("\"t\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(told[..3], ["hello", "reset", "batch"], "after a reset it goes on by itself: {text}");
    assert!(text.contains("three") && !text.contains("two"), "{text}");

    let wrong = stage.get("/api/v1/feed?after=soon").await;
    assert_eq!((wrong.status, &wrong.json()["errors"][0]["field"]), (422, &json!("after")));
    let ahead =
        within(stage.http.get(stage.at("/api/v1/feed?after=999")).timeout(Duration::from_secs(15)).send())
            .await;
    assert_eq!(ahead.expect("an answer").status().as_u16(), 503);
}
