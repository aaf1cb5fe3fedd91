//! A controller whose datagrams are lost, three of ten each way: every command reaches its answer, and is obeyed once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, Options};
use crate::long;
use crate::lossy_network::{Loss, in_a_network_of_its_own};
use crate::playdead::allowed;
use crate::wait::wait_for;

const ROUNDS: usize = 5;
const LONG_ROUNDS: usize = 60;

#[test]
fn every_command_is_answered_and_obeyed_once_though_three_of_ten_datagrams_are_lost_each_way() {
    let test = "lossy_controller::every_command_is_answered_and_obeyed_once_though_three_of_ten_datagrams_are_lost_each_way";
    in_a_network_of_its_own(test, 3, Loss { at_hosts: 0.3, at_clients: 0.3 }, async |homes| {
        let options = Options { homes, ..allowed() };
        command_everything(Cluster::start_with(3, options).await).await;
    });
}

async fn command_everything(mut cluster: Cluster) {
    let rounds = if long() { LONG_ROUNDS } else { ROUNDS };
    let mut given = Given::default();
    for round in 0..rounds {
        let view = given.command(&cluster, &["status", "--json", "--wait", "10s"], &[]);
        let view: Value = serde_json::from_str(&view).expect("JSON");
        let leader = view["leader"].as_str().expect("a leader").to_owned();
        let other = cluster.name((cluster.named(&leader) + 1) % 3).to_owned();

        let key = format!("key-{round}");
        let stored = given.command(&cluster, &["store", &key, "value", "--json"], &[]);
        assert!(stored.contains("created"), "once, however often it was said: {stored}");
        let log = given.command(&cluster, &["retrieve", "--json"], &[]);
        assert!(log.contains(&key), "{log}");

        // Where so much is lost, an election may be lost as well: then that is the answer.
        given.order(&cluster, &["follow", &leader], &["no_successor"]);
        given.order(&cluster, &["trylead", &other], &["not_elected"]);
        given.order(&cluster, &["playdead", &other], &[]);
        given.order(&cluster, &["revive", &other], &[]);
        given.order(&cluster, &["shutdown", &other], &[]);
        let gone = cluster.named(&other);
        assert_eq!(cluster.wait_gone(gone).await, Some(0));
        cluster.spawn(gone);
        wait_for("it to be there again", async || cluster.client(gone).view().await).await;
    }
    // In the log it may stand twice, after a change of leaders; it counts once.
    cluster.settled().await;
    for round in 0..rounds {
        let puts = format!("SELECT idx FROM events WHERE topic = 'store' AND item ->> 'key' = 'key-{round}'");
        assert_eq!(cluster.same_rows(&puts).len(), 1, "key-{round} was put once");
    }
    assert_obeyed_once(&cluster, &given);
    println!(
        "measured: {} commands of a controller with 30 % lost each way, all answered: {:?} in all, the slowest {:?}",
        given.answers, given.took, given.slowest
    );
}

/// Every signed command was obeyed by one node, once, however often it was heard.
fn assert_obeyed_once(cluster: &Cluster, given: &Given) {
    let mut obeyed: BTreeMap<String, usize> = BTreeMap::new();
    for k in 0..cluster.len() {
        let talk = cluster.talk(k);
        for line in talk.lines().filter(|line| line.contains("obeys a command")) {
            let id = line.split("request_id=\"").nth(1).and_then(|rest| rest.split('"').next());
            *obeyed.entry(id.expect("an id").to_owned()).or_default() += 1;
        }
    }
    assert!(obeyed.values().all(|times| *times == 1), "{obeyed:?}");
    assert_eq!(obeyed.len(), given.orders, "as many as were given");
}

/// What was said to the cluster so far.
#[derive(Default)]
struct Given {
    answers: usize,
    /// Signed commands among them.
    orders: usize,
    took: Duration,
    slowest: Duration,
}

impl Given {
    fn order(&mut self, cluster: &Cluster, words: &[&str], refusals: &[&str]) {
        self.command(cluster, words, refusals);
        self.orders += 1;
    }

    /// Gives a command, which must be carried out, or be refused with one of these codes; what it prints.
    fn command(&mut self, cluster: &Cluster, words: &[&str], refusals: &[&str]) -> String {
        let begun = Instant::now();
        let ended = cluster.chorus(words).output().expect("chorus runs");
        let took = begun.elapsed();
        let talk = String::from_utf8_lossy(&ended.stderr);
        let refused = refusals.iter().any(|code| talk.contains(code));
        assert!(ended.status.success() || refused, "{words:?} after {took:?}: {talk}");
        self.answers += 1;
        self.took += took;
        self.slowest = self.slowest.max(took);
        String::from_utf8(ended.stdout).expect("UTF-8")
    }
}
