//! A page whose node dies goes on at another one, where it stopped: no event twice, none left out.

use serde_json::Value;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::feed::Feed;
use crate::wait::PATIENCE;

const QUOTES: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_goes_on_at_another_node_without_a_gap_and_without_a_repetition() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let (lost, other) = (cluster.others(leader)[0], cluster.others(leader)[1]);
    let poster = cluster.client(leader);
    let mut texts = Vec::new();

    let mut feed = Feed::open(cluster.listen(lost), None).await;
    for n in 0..QUOTES {
        poster.quote(&format!("resume-{n}"), "Ada", &format!("quote {n}")).await;
        if n == QUOTES / 3 {
            texts.extend(feed.texts_until(&format!("quote {}", n / 2)).await);
            cluster.kill(lost);
        }
    }
    let after = feed.cursor;
    let mut feed = Feed::open(cluster.listen(other), Some(after)).await;
    texts.extend(feed.texts_until(&format!("quote {}", QUOTES - 1)).await);
    let expected: Vec<String> = (0..QUOTES).map(|n| format!("quote {n}")).collect();
    assert_eq!(texts, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_of_another_epoch_is_told_to_start_anew() {
    let cluster = Cluster::start(3).await;
    cluster.client(0).quote("one", "Ada", "One.").await;
    let mut feed = Feed::connect(cluster.listen(1)).await;
    feed.resume(&serde_json::json!("00000000000000000000000000000000.1"), Some(1)).await;
    let frame = feed.frame().await;
    assert_eq!((&frame["t"], &frame["reason"]), (&"reset".into(), &"epoch".into()), "{frame}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_over_the_websocket_is_acknowledged_with_the_index_that_its_event_bears() {
    let cluster = Cluster::start(3).await;
    let follower = cluster.others(cluster.leader().await)[0];
    let mut feed = Feed::open(cluster.listen(follower), None).await;
    let body = serde_json::json!({ "author": "Ada", "text": "Over the socket." });
    feed.send(&serde_json::json!({ "t": "post", "id": "ws-1", "topic": "quotes", "body": body })).await;
    let (mut acknowledged, mut told) = (None, None);
    let both = async {
        while acknowledged.is_none() || told.is_none() {
            let frame = feed.frame().await;
            match frame["t"].as_str() {
                Some("ack") if frame["id"] == "ws-1" => acknowledged = frame["seq"].as_u64(),
                Some("event" | "batch") => told = told.or(index_of(&frame, "Over the socket.")),
                Some("tick") => {}
                _ => panic!("{frame}"),
            }
        }
    };
    timeout(PATIENCE, both).await.expect("an acknowledgement and the event");
    assert_eq!(acknowledged, told);

    let empty = serde_json::json!({ "author": "Ada", "text": "" });
    feed.send(&serde_json::json!({ "t": "post", "id": "ws-2", "topic": "quotes", "body": empty })).await;
    let refused = async {
        loop {
            let frame = feed.frame().await;
            if frame["id"] == "ws-2" {
                break frame;
            }
        }
    };
    let refused = timeout(PATIENCE, refused).await.expect("a refusal");
    assert_eq!((&refused["t"], &refused["code"]), (&"nack".into(), &"invalid".into()), "{refused}");
}

/// The entry that told of this text, if the frame has it: each item of a batch bears its own.
fn index_of(frame: &Value, text: &str) -> Option<u64> {
    let item = frame["items"].as_array()?.iter().find(|item| item["item"]["text"] == text)?;
    item["seq"].as_u64().or(frame["seq"].as_u64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_sent_events_go_on_after_the_last_event_id() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    let first = client.quote("sse-1", "Ada", "First of two.").await;
    let second = client.quote("sse-2", "Ada", "Second of two.").await;
    let request = client.request(reqwest::Method::GET, "/api/v1/feed?topics=quotes");
    let answer = request.header("Last-Event-ID", first.index.to_string()).send().await.expect("an answer");
    assert!(
        answer.headers()["Content-Type"].to_str().is_ok_and(|kind| kind.starts_with("text/event-stream"))
    );

    let (mut answer, mut heard) = (answer, String::new());
    while !heard.contains("Second of two.") {
        let chunk = answer.chunk().await.expect("an open stream").expect("more of it");
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(!heard.contains("First of two."), "{heard}");
    assert!(
        heard.contains(&format!("id: {}", second.index)) || heard.contains(&format!("id:{}", second.index)),
        "{heard}"
    );
}
