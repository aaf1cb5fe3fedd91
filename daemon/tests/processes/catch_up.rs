//! A node that was away is current again, however far behind it was.

use std::fs;
use std::time::{Duration, Instant};

use reqwest::Method;
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;

use crate::client::Client;
use crate::cluster::{Cluster, Options};
use crate::feed::Feed;
use crate::long;
use crate::lossy_network::{Loss, filter, in_a_network_of_its_own};
use crate::measure::{Measured, processor_time};
use crate::puts::{put, put_at};
use crate::random::Random;
use crate::wait::{wait_for, wait_longer};

/// A million entries are made up for within this time, whatever else the machine does; what is promised is asserted.
const PATIENCE_LONG: Duration = Duration::from_secs(180);

/// What every node must hold alike, table by table.
const TABLES: [&str; 4] = [
    "SELECT * FROM store ORDER BY key",
    "SELECT * FROM quotes ORDER BY seq",
    "SELECT idx, id, digest, outcome FROM requests ORDER BY idx",
    "SELECT * FROM events ORDER BY idx, n",
];

/// Nodes that keep so little of their logs that whoever is away for a moment needs a snapshot.
pub(crate) fn forgetful() -> Options {
    let keep = ["--log-keep-entries", "300", "--log-keep-bytes", "64KiB"];
    Options { arguments: keep.map(str::to_owned).to_vec(), ..Options::default() }
}

/// What a node has applied, as it says with every answer.
async fn applied(client: &Client) -> Option<u64> {
    let answer = client.request(Method::GET, "/api/v1/quotes?limit=1").send().await.ok()?;
    answer.headers().get("chorus-index")?.to_str().ok()?.parse().ok()
}

async fn snapshots_installed(client: &Client) -> u64 {
    client.metric("chorus_snapshots_installed_total").await
}

/// Waits until the node has counted a snapshot from which it went on: readers see the state a moment before that.
pub(crate) async fn went_on_from_a_snapshot(client: &Client) {
    let counted = async || (snapshots_installed(client).await >= 1).then_some(());
    wait_for("a snapshot, for no entry that it lacked was left", counted).await;
}

/// Waits until node `k` has applied what the others had when this was asked; how long that took.
pub(crate) async fn current(cluster: &Cluster, k: usize) -> Duration {
    let begun = Instant::now();
    let mut goal = 0;
    for other in cluster.others(k) {
        let (client, what) = (cluster.client(other), format!("{} to answer", cluster.name(other)));
        goal = goal.max(wait_for(&what, async || applied(&client).await).await);
    }
    let client = cluster.client(k);
    let what = format!("{} to apply {goal}", cluster.name(k));
    wait_longer(PATIENCE_LONG, &what, async || applied(&client).await.filter(|applied| *applied >= goal))
        .await;
    begun.elapsed()
}

/// Waits until all running nodes have deleted what node `k`, which is away, would need next.
pub(crate) async fn out_of_reach(cluster: &Cluster, k: usize) {
    let lacks = last_index(cluster, k) + 1;
    for other in cluster.running() {
        let what = format!("{} to delete entry {lacks}", cluster.name(other));
        wait_for(&what, async || (first_index(cluster, other) > lacks).then_some(())).await;
    }
}

/// What a query of node `k`'s log.db gives.
pub(crate) fn log_says(cluster: &Cluster, k: usize, query: &str) -> u64 {
    let file = cluster.data_dir(k).join("log.db");
    let connection = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("log.db");
    connection.busy_timeout(Duration::from_secs(5)).expect("a time limit");
    let number: i64 = connection.query_row(query, [], |row| row.get(0)).expect("a row");
    number.cast_unsigned()
}

/// The first entry that node `k` retains, or will.
fn first_index(cluster: &Cluster, k: usize) -> u64 {
    log_says(cluster, k, "SELECT COALESCE((SELECT idx FROM base), 0) + 1")
}

/// The last entry that node `k` has, in its log or, where that is empty as just after a snapshot, in its state.
fn last_index(cluster: &Cluster, k: usize) -> u64 {
    log_says(cluster, k, "SELECT COALESCE((SELECT MAX(idx) FROM log), (SELECT idx FROM base), 0)")
}

/// How far the state is that log.db names, once every page of it was looked at.
fn whole_state(cluster: &Cluster, k: usize) -> u64 {
    let number = log_says(cluster, k, "SELECT state_number FROM self");
    let file = cluster.data_dir(k).join(format!("state/{number}/state.db"));
    let connection = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("state.db");
    let verdict: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict");
    assert_eq!(verdict, "ok", "{}", file.display());
    let applied: i64 =
        connection.query_row("SELECT idx FROM applied", [], |row| row.get(0)).expect("how far it is");
    applied.cast_unsigned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_missed_100_000_entries_is_current_within_a_second() {
    // Three that miss the same, two of them without a vote so that the others go on: to write as much for each would take
    // longer than all the rest.
    let away = [2, 3, 4];
    let mut cluster = Cluster::start_with(5, Options { learners: 2, ..Options::default() }).await;
    put(&cluster, &[0, 1, 2], "before", 100, 20).await;
    cluster.settled().await;
    cluster.kill_all_of(&away);
    put(&cluster, &[0, 1], "missed", 100_000, 20).await;
    let mut tries = Vec::new();
    for k in away {
        cluster.spawn(k);
        tries.push(current(&cluster, k).await);
        println!(
            "measured: a node that missed 100,000 entries: {:?} of processor time",
            processor_time(cluster.pid(k))
        );
    }
    Measured::new(tries).tell_and_assert(
        "a node that missed 100,000 entries, from its start until it has applied them",
        Duration::from_secs(1),
    );
    for k in away {
        assert_eq!(snapshots_installed(&cluster.client(k)).await, 0, "the others held every entry");
    }
    cluster.settled().await;
    cluster.same_rows("SELECT COUNT(*), SUM(idx) FROM store");
}

#[test]
fn who_lacks_very_many_entries_gets_a_snapshot_or_all_of_them_where_none_can_be_fetched() {
    let test =
        "catch_up::who_lacks_very_many_entries_gets_a_snapshot_or_all_of_them_where_none_can_be_fetched";
    let no_loss = Loss { at_hosts: 0.0, at_clients: 0.0 };
    in_a_network_of_its_own(test, 3, no_loss, async |homes| {
        // It connects to nobody, and is connected to all the same.
        filter(&homes[2].namespace, "-A OUTPUT -p tcp --syn -j REJECT");
        let no_pace = ["--writes-per-second", "0"].map(str::to_owned).to_vec();
        let options = Options { homes, learners: 2, arguments: no_pace, ..Options::default() };
        let mut cluster = Cluster::start_with(3, options).await;
        cluster.kill_all_of(&[1, 2]);
        put(&cluster, &[0], "missed", 205_000, 20).await;
        for (k, snapshots) in [(1, 1), (2, 0)] {
            cluster.spawn(k);
            let took = current(&cluster, k).await;
            println!("measured: 205,000 missed entries, {snapshots} snapshots: current after {took:?}");
            if snapshots > 0 {
                went_on_from_a_snapshot(&cluster.client(k)).await;
            }
            assert_eq!(snapshots_installed(&cluster.client(k)).await, snapshots);
        }
        assert!(cluster.talk(1).contains("goes on from a snapshot"));
        assert!(cluster.talk(2).contains("no snapshot: "), "it was offered one");
        cluster.settled().await;
        for query in TABLES {
            cluster.same_rows(query);
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_below_every_log_goes_on_from_a_snapshot_while_writes_go_on() {
    let mut cluster = Cluster::start_with(3, forgetful()).await;
    for n in 0..20 {
        cluster.client(n % 3).quote(&format!("q{n}"), "Ada", &format!("Number {n}.")).await;
    }
    cluster.kill(2);
    put(&cluster, &[0, 1], "missed", 3_000, 100).await;
    out_of_reach(&cluster, 2).await;

    cluster.spawn(2);
    let during = put_at(&cluster, &[0, 1], "during", 300, Duration::from_secs(4));
    let (_, took) = tokio::join!(during, current(&cluster, 2));
    println!(
        "measured: a node below every log, from its start until it is current, with 300 writes/s: {took:?}"
    );
    let client = cluster.client(2);
    went_on_from_a_snapshot(&client).await;
    let talk = cluster.talk(2);
    assert!(talk.contains("fetches a snapshot") && talk.contains("goes on from a snapshot"), "{talk}");

    // It is a voter like any other: with it alone beside it, the leader of the rest goes on.
    client.quote("after", "Grace", "Taken by the one that was away.").await;
    let replayed = client.send_quote("q3", "Ada", "Number 3.").await.expect("an answer");
    assert!(replayed.headers().contains_key("idempotency-replayed"), "outcomes travel with the snapshot");
    cluster.settled().await;
    for query in TABLES {
        assert!(!cluster.same_rows(query).is_empty(), "{query}");
    }
    cluster.kill(0);
    cluster.leader().await;
    cluster.client(2).quote("two-left", "Ada", "Two of three.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_stays_open_while_its_node_goes_on_from_a_snapshot() {
    let cluster = Cluster::start_with(3, forgetful()).await;
    let leader = cluster.leader().await;
    let (sleeper, awake) = (cluster.others(leader)[0], [leader, cluster.others(leader)[1]]);
    let mut feed = Feed::open(cluster.listen(sleeper), None).await;
    cluster.client(sleeper).quote("before", "Ada", "Before the sleep.").await;
    feed.wait_quote("Before the sleep.").await;
    cluster.signal(sleeper, Signal::STOP);
    // More than what its sockets keep for it.
    put(&cluster, &awake, "missed", 400, 40_000).await;
    cluster.client(leader).quote("meanwhile", "Grace", "While it slept.").await;
    for k in awake {
        wait_for("the others to delete entries", async || (first_index(&cluster, k) > 100).then_some(()))
            .await;
    }
    cluster.signal(sleeper, Signal::CONT);
    // The feed asserts by itself that nothing is left out.
    assert_eq!(feed.texts_until("While it slept.").await, ["While it slept."]);
    went_on_from_a_snapshot(&cluster.client(sleeper)).await;
    cluster.client(sleeper).quote("after", "Ada", "After the sleep.").await;
    feed.wait_quote("After the sleep.").await;
    cluster.settled().await;
    for query in TABLES {
        assert!(!cluster.same_rows(query).is_empty(), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_under_a_known_name_follows_and_counts_in_no_majority() {
    let mut cluster = Cluster::start_with(3, forgetful()).await;
    cluster.client(0).quote("kept", "Ada", "Before the disk was lost.").await;
    cluster.kill(2);
    fs::remove_dir_all(cluster.data_dir(2)).expect("the disk is lost");
    put(&cluster, &[0, 1], "missed", 2_000, 100).await;
    wait_for("the others to delete entries", async || {
        [0, 1].into_iter().all(|k| first_index(&cluster, k) > 1).then_some(())
    })
    .await;
    cluster.spawn(2);
    current(&cluster, 2).await;
    let client = cluster.client(2);
    went_on_from_a_snapshot(&client).await;
    let view = client.view().await.expect("a view");
    let roles: Vec<(&str, &str)> =
        view.nodes.iter().map(|node| (node.name.as_str(), node.role.as_str())).collect();
    assert!(roles.contains(&("n3", "learner")), "{roles:?}");
    assert!(client.all_quotes().await.iter().any(|quote| quote.text.starts_with("Before")));
    cluster.settled().await;
    for query in TABLES {
        assert!(!cluster.same_rows(query).is_empty(), "{query}");
    }
    // One voter and a learner under the third one's name are no majority.
    cluster.kill(1);
    let refused = cluster.client(0).send_quote("alone", "Ada", "Nobody agrees.").await.expect("an answer");
    assert!(refused.status().is_server_error(), "{}", refused.status());
    cluster.spawn(1);
    cluster.leader().await;
    cluster.client(0).quote("alone", "Ada", "Nobody agrees.").await;
}

/// In the midst of what a kill found a node, by what lay in its directory.
#[derive(Debug, Default)]
struct Moments {
    /// A snapshot for others was there: half made, or on its way.
    giving: u64,
    /// One of another node's was there in part, or whole and not looked at yet.
    fetching: u64,
    /// There were two states, of which one was in force.
    installing: u64,
}

impl Moments {
    /// Looks at what the process left that was node `k`.
    fn note(&mut self, cluster: &Cluster, k: usize) {
        self.giving += u64::from(files_in(cluster, k, "snapshot") > 0);
        self.fetching += u64::from(files_in(cluster, k, "incoming") > 0);
        self.installing += u64::from(files_in(cluster, k, "state") > 1);
    }
}

fn files_in(cluster: &Cluster, k: usize, directory: &str) -> usize {
    fs::read_dir(cluster.data_dir(k).join(directory)).map_or(0, Iterator::count)
}

/// How often node `k` has said that it goes on from a snapshot.
fn times_gone_on(cluster: &Cluster, k: usize) -> usize {
    cluster.talk(k).matches("goes on from a snapshot").count()
}

/// Waits for the moment at which a node has the snapshot beside its state, or goes on from it already, as it had done `before`
/// times when it was started.
async fn has_a_snapshot(cluster: &Cluster, k: usize, before: usize) {
    let there = || files_in(cluster, k, "state") > 1 || times_gone_on(cluster, k) > before;
    wait_for("a snapshot that has come", async || there().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_of_a_snapshot_a_node_holds_the_old_state_or_the_new() {
    let rounds = if long() { 200 } else { 6 };
    let mut random = Random::new(20);
    let mut cluster = Cluster::start_with(3, forgetful()).await;
    put(&cluster, &[0, 1, 2], "first", 500, 1_000).await;
    let (mut before, mut moments) = (0, Moments::default());
    // How long it takes from the start to the snapshot in force, about: the state grows, and so does this.
    let mut way = Duration::from_millis(300);
    for round in 0..rounds {
        cluster.settled().await;
        cluster.kill(2);
        put(&cluster, &[0, 1], &format!("round-{round}"), 600, 200).await;
        out_of_reach(&cluster, 2).await;
        let gone_on = times_gone_on(&cluster, 2);
        cluster.spawn(2);
        if round % 3 == 0 {
            // Most of the way is fetching: what comes after it takes a few milliseconds.
            has_a_snapshot(&cluster, 2, gone_on).await;
            tokio::time::sleep(random.moment(Duration::from_millis(60))).await;
        } else {
            tokio::time::sleep(random.moment(way)).await;
        }
        // Sometimes the one that makes and sends it: by choice that is not the leader.
        let sender = [0, 1][random.below(2)];
        if random.below(3) == 0 {
            cluster.kill(sender);
            moments.note(&cluster, sender);
            tokio::time::sleep(random.moment(way / 2)).await;
        }
        cluster.kill(2);
        moments.note(&cluster, 2);
        let applied = whole_state(&cluster, 2);
        assert!(applied >= before, "round {round}: the state went back from {before} to {applied}");
        cluster.spawn_all();
        way = (way + current(&cluster, 2).await) / 2;
        before = applied;
    }
    println!(
        "measured: {rounds} rounds of kill -9 around a snapshot, in the midst of it: {moments:?}; n3 went on from {}",
        times_gone_on(&cluster, 2)
    );
    if long() {
        let Moments { giving, fetching, installing } = moments;
        assert!(giving.min(fetching).min(installing) > 0, "a moment that no kill met: {moments:?}");
    }
    cluster.settled().await;
    for query in TABLES {
        cluster.same_rows(query);
    }
    assert_eq!(cluster.same_rows("SELECT COUNT(*) FROM store"), [format!("Integer({})", 500 + 600 * rounds)]);
}

/// Writes a second while a node catches up.
const DURING: u32 = 1_000;

/// Lets node 3 miss something, and measures its way back while writes go on, and what that costs them.
async fn back_under_load(cluster: &mut Cluster, what: &str) -> Duration {
    let alone = put_at(cluster, &[0, 1], "alone", DURING, Duration::from_secs(3)).await;
    cluster.spawn(2);
    let until = Duration::from_secs(if long() { 15 } else { 4 });
    let (during, took) = tokio::join!(put_at(cluster, &[0, 1], "during", DURING, until), current(cluster, 2));
    // What a write takes is the machine's mood too: the slower of before and after counts.
    let again = put_at(cluster, &[0, 1], "alone-again", DURING, Duration::from_secs(3)).await;
    let median = |load: &chorus::load::Load| load.latency.percentile_ms(50.0);
    let alone = if median(&again) > median(&alone) { again } else { alone };
    println!(
        "measured: {what}, with {DURING} writes/s asked for: current after {took:?}, {:?} of processor time; a write took \
         {:.1} ms without and {:.1} ms meanwhile (medians), {:.0} and {:.0} a second; promised 12 s and twice",
        processor_time(cluster.pid(2)),
        median(&alone),
        median(&during),
        alone.rate(),
        during.rate(),
    );
    assert!(
        median(&during) <= 8.0 * median(&alone).max(1.0),
        "a write took {} ms, and {} ms while a node caught up",
        median(&alone),
        median(&during)
    );
    assert!(took <= 4 * Duration::from_secs(12), "{what}: {took:?}");
    cluster.settled().await;
    cluster.same_rows("SELECT COUNT(*), SUM(idx) FROM store");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_entries_are_made_up_for_while_writes_go_on() {
    let count = if long() { 1_000_000 } else { 10_000 };
    let mut cluster = Cluster::start(3).await;
    cluster.kill(2);
    put(&cluster, &[0, 1], "missed", count, 200).await;
    back_under_load(&mut cluster, &format!("{count} entries of 200 bytes")).await;
    // A million are more than the state that they have led to.
    assert_eq!(snapshots_installed(&cluster.client(2)).await, u64::from(long()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_snapshot_comes_while_writes_go_on() {
    // A value is in the state twice: as a row, and as an event.
    let count = if long() { 1_750 } else { 100 };
    let mut cluster = Cluster::start_with(3, forgetful()).await;
    cluster.kill(2);
    put(&cluster, &[0, 1], "large", count, 60_000).await;
    put(&cluster, &[0, 1], "small", 1_000, 20).await;
    out_of_reach(&cluster, 2).await;
    back_under_load(&mut cluster, &format!("a snapshot of about {} MB", count * 120_000 / 1_000_000)).await;
    went_on_from_a_snapshot(&cluster.client(2)).await;
}
