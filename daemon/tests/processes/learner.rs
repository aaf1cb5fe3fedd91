//! A node that the founding record does not name hears, applies, serves and forwards; it does not vote.

use crate::client::Client;
use crate::cluster::{Cluster, Options};
use crate::feed::Feed;
use crate::up::{Up, five_free_ports, holds_quotes, up_command};
use crate::wait::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_serves_what_the_voters_agree_on_and_counts_in_no_majority() {
    let mut cluster = Cluster::start_with(4, Options { learners: 1, ..Options::default() }).await;
    let learner = 3;
    let mut feed = Feed::open(cluster.listen(learner), None).await;
    cluster.client(0).quote("by-a-voter", "Ada", "Taken by a voter.").await;
    feed.wait_quote("Taken by a voter.").await;
    cluster.client(learner).quote("by-the-learner", "Grace", "Taken by the learner.").await;
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT * FROM quotes ORDER BY seq").len(), 2);

    hears_of_learners(&cluster.client(0), &["n4"]).await;

    // Two voters and the learner are enough, one voter and the learner are not.
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let leader = cluster.leader().await;
    cluster.client(learner).quote("two-left", "Ada", "Two voters are a majority.").await;
    cluster.kill(leader);
    let refused =
        cluster.client(learner).send_quote("one-left", "Ada", "Nobody leads.").await.expect("an answer");
    assert!(refused.status().is_server_error(), "{}", refused.status());
    cluster.spawn_all();
    cluster.leader().await;
    cluster.client(learner).quote("one-left", "Ada", "Nobody leads.").await;
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT * FROM quotes ORDER BY seq").len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_with_learners_serves_the_pages_from_each_of_them_and_keeps_their_number() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let port = five_free_ports();
    let mut command = up_command(&data, 3, port);
    command.args(["--learners", "2"]);
    let up = Up::begin(command);
    assert_eq!(up.ready.nodes.len(), 5);
    up.client(0).quote("one", "Ada", "Posted to a voter.").await;
    up.client(4).quote("two", "Grace", "Posted to a learner.").await;
    for learner in [3, 4] {
        let page = wait_for("a learner's page with both quotes", async || {
            let page = up.client(learner).text("/").await;
            (page.contains("Posted to a voter.") && page.contains("Posted to a learner.")).then_some(page)
        });
        assert!(page.await.contains("<form"), "it takes posts too");
    }
    hears_of_learners(&up.client(3), &["n4", "n5"]).await;
    up.stop().await;

    let up = Up::start(&data, 3, port);
    assert_eq!(up.ready.nodes.len(), 5, "the directory says how many there are");
    holds_quotes(&up.client(4), 2).await;
    up.stop().await;
}

/// A node hears of a learner by its HELLO, and of its own entries long before.
async fn hears_of_learners(at: &Client, expected: &[&str]) {
    wait_for("a node to hear of all learners", async || {
        let nodes = at.view().await?.nodes;
        let learners = nodes.iter().filter(|node| node.role == "learner").map(|node| node.name.as_str());
        learners.eq(expected.iter().copied()).then_some(())
    })
    .await;
}
