//! How fast a quote is on every other page.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::feed::Feed;
use crate::measure::Measured;

const QUOTES: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quote_posted_on_a_follower_is_on_every_other_nodes_websocket_within_5_ms() {
    let cluster = Cluster::start(5).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let poster = cluster.client(follower);
    let mut feeds = Vec::new();
    for k in cluster.others(follower) {
        feeds.push(Feed::open(cluster.listen(k), None).await);
    }
    // The first quote brings every feed past its resume, and opens the poster's connection.
    feeds = watch_one(&poster, feeds, "warm-up").await.into_iter().map(|(feed, _)| feed).collect();

    let mut tries = Vec::new();
    for n in 0..QUOTES {
        let seen = watch_one(&poster, feeds, &format!("quote-{n}")).await;
        tries.extend(seen.iter().map(|(_, took)| *took));
        feeds = seen.into_iter().map(|(feed, _)| feed).collect();
    }
    Measured::new(tries)
        .tell_and_assert("post on a follower to the websockets of the others", Duration::from_millis(5));
}

/// Posts one quote; every feed with the time at which it told of it.
async fn watch_one(poster: &crate::client::Client, feeds: Vec<Feed>, text: &str) -> Vec<(Feed, Duration)> {
    let begun = Instant::now();
    let mut watchers = JoinSet::new();
    for mut feed in feeds {
        let text = text.to_owned();
        watchers.spawn(async move {
            feed.wait_quote(&text).await;
            (feed, begun.elapsed())
        });
    }
    poster.quote(text, "Grace", text).await;
    watchers.join_all().await
}
