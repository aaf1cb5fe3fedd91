//! A node that the founding record does not name hears, applies, serves and forwards; it does not vote.

use crate::cluster::{Cluster, Options};
use crate::feed::Feed;

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

    let view = cluster.client(0).view().await.expect("a view");
    let roles: Vec<&str> = view.nodes.iter().map(|node| node.role.as_str()).collect();
    assert_eq!(roles.iter().filter(|role| **role == "learner").count(), 1, "{view:?}");

    // Two voters and the learner are enough, one voter and the learner are not.
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.client(learner).quote("two-left", "Ada", "Two voters are a majority.").await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    let refused =
        cluster.client(learner).send_quote("one-left", "Ada", "Nobody leads.").await.expect("an answer");
    assert!(refused.status().is_server_error(), "{}", refused.status());
    cluster.spawn_all();
    cluster.client(learner).quote("one-left", "Ada", "Nobody leads.").await;
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT * FROM quotes ORDER BY seq").len(), 4);
}
