//! A leader that plays dead, and comes back: how long the others are without one, and how long it takes to catch up.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};

use crate::client::{Client, problem};
use crate::cluster::{Cluster, Options};
use crate::measure::Measured;
use crate::wait::wait_for;

const ROUNDS: usize = 5;
/// What the others store while one plays dead.
const MISSED: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_plays_dead_is_replaced_and_follows_when_it_is_revived() {
    let cluster = Cluster::start_with(5, allowed()).await;
    let (mut replaced, mut caught_up) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let leader = cluster.leader().await;
        let name = cluster.name(leader).to_owned();
        let others = cluster.others(leader);

        let silenced = Instant::now();
        command(&cluster, &["playdead", &name]);
        wait_for("another leader", async || {
            let view = cluster.client(others[0]).view().await?;
            view.leader.filter(|next| *next != name)
        })
        .await;
        replaced.push(silenced.elapsed());
        assert_silent(&cluster.client(leader), &name).await;
        for n in 0..MISSED {
            // Each by another node: nobody needs the one that plays dead.
            let client = cluster.client(others[n % others.len()]);
            let (key, text) = (format!("{round}-{n}"), format!("Round {round}, {n}."));
            wait_for("the others to store it", async || client.try_quote(&key, "Ada", &text).await).await;
        }
        assert_eq!(cluster.rows(leader, "SELECT seq FROM quotes").len(), round * MISSED);

        let revived = Instant::now();
        command(&cluster, &["revive", &name]);
        let client = cluster.client(leader);
        wait_for("it to follow and to hold what it missed", async || {
            let view = client.view().await?;
            let role = view.nodes.iter().find(|node| node.name == name).map(|node| node.role.as_str())?;
            let follows = role == "follower" && view.leader.is_some();
            (follows && client.is_current().await).then_some(())
        })
        .await;
        caught_up.push(revived.elapsed());
        assert_eq!(cluster.rows(leader, "SELECT seq FROM quotes").len(), (round + 1) * MISSED);
    }
    let second = Duration::from_secs(1);
    Measured::new(replaced).tell_and_assert("playdead of the leader, to another leader", second);
    Measured::new(caught_up)
        .tell_and_assert("revive, to a follower that holds the 200 quotes that it missed", second);
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT seq, id, text FROM quotes").len(), ROUNDS * MISSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_allow_it_goes_on_and_a_restart_ends_a_silence() {
    let cluster = Cluster::start(1).await;
    let refused = cluster.chorus(&["playdead", "n1"]).output().expect("chorus runs");
    let talk = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{talk}");
    assert!(talk.contains("--allow-playdead") && talk.contains("not_allowed"), "{talk}");
    cluster.client(0).quote("one", "Ada", "Still here.").await;
    assert!(cluster.talk(0).contains("command=\"PLAYDEAD\"") && cluster.talk(0).contains("not_allowed"));

    let mut cluster = Cluster::start_with(1, allowed()).await;
    command(&cluster, &["playdead", "n1"]);
    assert_silent(&cluster.client(0), "n1").await;
    cluster.kill(0);
    cluster.spawn(0);
    cluster.leader().await;
    cluster.client(0).quote("two", "Ada", "Here again.").await;
}

/// Nodes that may be told to play dead.
pub(crate) fn allowed() -> Options {
    Options { arguments: vec!["--allow-playdead".to_owned()], ..Options::default() }
}

/// Its pages are there and say so; what needs the others is refused.
async fn assert_silent(client: &Client, name: &str) {
    let view = client.view().await.expect("its pages");
    let role = view.nodes.iter().find(|node| node.name == name).map(|node| node.role.as_str());
    assert_eq!((role, view.leader), (Some("silent"), None));
    assert_eq!(client.text("/livez").await, "ok\n");
    assert!(client.text("/api/v1/quotes?limit=1").await.contains("items"));
    let ready = client.request(Method::GET, "/readyz").send().await.expect("an answer");
    let post = client.send_quote("unheard", "Ada", "Unheard.").await.expect("an answer");
    let read = client.request(Method::GET, "/api/v1/quotes?consistency=linearizable").send().await;
    for answer in [ready, post, read.expect("an answer")] {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(problem(answer).await.code, "playing_dead");
    }
}

/// Gives a command, which must be carried out.
fn command(cluster: &Cluster, words: &[&str]) {
    let ended = cluster.chorus(words).output().expect("chorus runs");
    assert!(ended.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ended.stderr));
}
