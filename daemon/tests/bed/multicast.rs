//! Multicast that a packet filter takes away and gives back, and nodes that never had any.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::evidence::Evidence;
use crate::network::{Network, with_hosts};
use crate::nodes::{Meeting, Nodes, name};
use crate::wait::wait_for;
use crate::writers::Writers;

/// Writes go on after the group is gone, and everybody gets copies, within this time.
const GOES_ON: Duration = Duration::from_secs(2);
/// A failover, as everywhere.
const FAILOVER: Duration = Duration::from_millis(300);
/// A founding, as everywhere; without the group a round of HELLOs later.
const FOUNDING: Duration = Duration::from_secs(3);

/// A machine that stands still now and then brings an election about, or holds one up, in one try or two.
const TRIES: usize = 3;

/// Nothing acknowledged is missing or there twice.
const QUOTES: &str = "SELECT count(*), count(DISTINCT text) FROM quotes";

#[test]
fn a_group_that_is_blocked_in_the_middle_of_a_load_costs_two_seconds_at_most_and_one_election() {
    let test = "multicast::a_group_that_is_blocked_in_the_middle_of_a_load_costs_two_seconds_at_most_and_one_election";
    with_hosts(test, 5, |network| block_on(blocked_and_unblocked(network)));
}

#[test]
fn peers_found_a_cluster_write_and_outlive_a_leader_without_any_multicast() {
    let test = "multicast::peers_found_a_cluster_write_and_outlive_a_leader_without_any_multicast";
    with_hosts(test, 3, |network| block_on(peers_alone(network)));
}

fn block_on(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(story);
}

async fn blocked_and_unblocked(mut network: Network) {
    let evidence = Evidence::gather("multicast");
    let schedule = evidence.schedule();
    let mut nodes = Nodes::prepare(&network, evidence.directory());
    nodes.start_all();
    nodes.converge().await;
    let writers = Writers::start(nodes.len());
    nobody_gets_copies(&nodes, &writers).await;
    let mut elections: Vec<u64> = Vec::new();
    while elections.len() < TRIES && elections.iter().all(|held| *held > 1) {
        schedule.note("multicast is blocked");
        elections.push(block(&mut network, &nodes, &writers).await);
        schedule.note("multicast passes again");
        unblock(&mut network, &nodes, &writers).await;
    }
    assert!(elections.iter().any(|held| *held <= 1), "{elections:?} elections");
    assert_each_once(&mut nodes, writers.finish().await).await;
}

/// Takes multicast away; how many elections that cost.
async fn block(network: &mut Network, nodes: &Nodes, writers: &Writers) -> u64 {
    let term = term(nodes).await;
    let blocked = Instant::now();
    network.block_multicast(true);
    let all_blocked = Instant::now();
    wait_for("everybody sends copies to everybody", async || get_copies(nodes, 4).await).await;
    let settled = all_blocked.elapsed();
    heard_by(nodes, "unicast").await;
    writers.more(300).await;
    let pause = writers.longest_pause(blocked);
    let elections = self::term(nodes).await - term;
    println!(
        "measured: multicast blocked under load: the longest pause of the writes {pause:?} (promised {GOES_ON:?}), \
         {elections} elections; each sends copies to each after {settled:?} (promised {GOES_ON:?})"
    );
    assert!(pause <= GOES_ON * 4, "{pause:?} without a write");
    assert!(settled <= GOES_ON * 4, "{settled:?} until each sent copies to each");
    assert!(copies(nodes).await > 0);
    elections
}

/// Gives it back.
async fn unblock(network: &mut Network, nodes: &Nodes, writers: &Writers) {
    let unblocked = Instant::now();
    network.block_multicast(false);
    wait_for("nobody gets copies", async || get_copies(nodes, 0).await).await;
    let took = unblocked.elapsed();
    nobody_gets_copies(nodes, writers).await;
    println!(
        "measured: multicast unblocked under load: the last copy {took:?} later, the longest pause of the writes {:?}",
        writers.longest_pause(unblocked)
    );
}

/// Asserts that a load costs no copies while multicast reaches everybody. Who misses a leader doubts its multicast: on a
/// machine that stands still now and then somebody may. So elections are counted before copies, and after them.
async fn nobody_gets_copies(nodes: &Nodes, writers: &Writers) {
    let campaigns = sum(nodes, "chorus_elections_total").await;
    heard_by(nodes, "multicast").await;
    wait_for("nobody gets copies", async || get_copies(nodes, 0).await).await;
    let copied = copies(nodes).await;
    writers.more(300).await;
    let copied = copies(nodes).await - copied;
    let calm = sum(nodes, "chorus_elections_total").await == campaigns;
    assert!(
        copied == 0 || !calm,
        "{copied} copies while multicast reached everybody and nobody missed the leader"
    );
}

async fn peers_alone(mut network: Network) {
    let evidence = Evidence::gather("peers");
    network.block_multicast(true);
    let mut nodes = Nodes::prepare(&network, evidence.directory()).who_meet(Meeting::Peers);
    let begun = Instant::now();
    nodes.start_all();
    let onlooker = nodes.onlooker();
    wait_for("a leader", async || onlooker.leader().await).await;
    tell_and_assert("the first leader of three nodes that know their peers alone", begun.elapsed(), FOUNDING);
    nodes.converge().await;
    heard_by(&nodes, "unicast").await;

    // Each writer asks its own node first.
    let writers = Writers::start(nodes.len());
    writers.more(100).await;
    let mut pauses = Vec::new();
    for _ in 0..TRIES {
        let leader = wait_for("a leader", async || onlooker.leader().await).await;
        let killed = Instant::now();
        nodes.kill(&[leader]);
        writers.more(50).await;
        pauses.push(writers.longest_pause(killed));
        nodes.start(leader);
        nodes.converge().await;
    }
    pauses.sort_unstable();
    println!("measured: kill -9 of the leader among peers, to the next write: {pauses:?}");
    let median = pauses[TRIES / 2];
    tell_and_assert("kill -9 of the leader among peers, to the next write, the median", median, FAILOVER);
    let acknowledged = writers.finish().await;
    assert_each_once(&mut nodes, acknowledged).await;
    commands_reach_peers(&nodes, acknowledged).await;
}

/// The command line finds the nodes in the same way.
async fn commands_reach_peers(nodes: &Nodes, acknowledged: usize) {
    // A node tells of the others by what they said last.
    wait_for("each to be told to hear the others by unicast alone", async || {
        let (code, said) = nodes.ask(&["status", "--json", "--wait", "10s"]);
        assert_eq!(code, Some(0), "{said}");
        let view: Value = serde_json::from_str(said.lines().next().unwrap_or_default()).expect("JSON");
        let seen = view["nodes"].as_array().expect("nodes");
        let hears_all = |node: &Value| node["unicast_only"].as_array().map(Vec::len) == Some(nodes.len() - 1);
        (seen.len() == nodes.len() && seen.iter().all(hears_all)).then_some(())
    })
    .await;
    wait_for("the words for it", async || {
        let (code, said) = nodes.ask(&["status"]);
        (code == Some(0) && said.contains("n1 hears n2, n3 by unicast alone")).then_some(())
    })
    .await;
    let (code, said) = nodes.ask(&["store", "colour", "green"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = nodes.ask(&["retrieve", "--key", "colour", "--limit", "10"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("green"), "after {acknowledged} quotes: {said}");
    let leader = wait_for("a leader", async || nodes.onlooker().leader().await).await;
    let next = name((leader + 1) % nodes.len());
    // It may lose an election; the command then says so, and may be given again.
    wait_for(&format!("{next} to lead"), async || {
        let (code, _) = nodes.ask(&["trylead", &next]);
        let leads = nodes.onlooker().leader().await.is_some_and(|leader| name(leader) == next);
        (code == Some(0) && leads).then_some(())
    })
    .await;
}

/// Waits until every node says of every other one that it is heard this way.
async fn heard_by(nodes: &Nodes, way: &str) {
    let onlooker = nodes.onlooker();
    wait_for(&format!("everybody is heard by {way}"), async || {
        for k in 0..nodes.len() {
            let view = onlooker.view(k).await?;
            let mut others = view["nodes"].as_array()?.iter().filter(|node| node["name"] != *name(k));
            if !others.all(|node| node["heard_by"] == way) {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// What all nodes have sent by unicast because the group did not carry it.
async fn copies(nodes: &Nodes) -> u64 {
    sum(nodes, "chorus_unicast_copies_total").await
}

async fn sum(nodes: &Nodes, counter: &str) -> u64 {
    let mut sum = 0;
    for k in 0..nodes.len() {
        sum += nodes.onlooker().metric(k, counter).await;
    }
    sum
}

/// Whether so many others get copies from each node.
async fn get_copies(nodes: &Nodes, others: u64) -> Option<()> {
    for k in 0..nodes.len() {
        if nodes.onlooker().metric(k, "chorus_unicast_copies_to").await != others {
            return None;
        }
    }
    Some(())
}

/// The highest term.
async fn term(nodes: &Nodes) -> u64 {
    let mut highest = 0;
    for k in 0..nodes.len() {
        highest = highest.max(nodes.onlooker().metric(k, "chorus_term").await);
    }
    highest
}

async fn assert_each_once(nodes: &mut Nodes, acknowledged: usize) {
    nodes.converge().await;
    let expected = acknowledged.to_string();
    for k in 0..nodes.len() {
        assert_eq!(nodes.state_rows(k, QUOTES), [[expected.clone(), expected.clone()]], "{}", name(k));
    }
}

fn tell_and_assert(what: &str, took: Duration, promised: Duration) {
    println!("measured: {what}: {took:?}; promised {promised:?}");
    assert!(took <= promised * 4, "{what}: {took:?} is more than 4 × {promised:?}");
}
