//! A cluster in which two versions of the program run: an earlier one, which `CHORUS_EARLIER` names, and this one.
//!
//! What this program writes the earlier one reads as long as no format and no version of the commands was raised between
//! them. Once a format was, the earlier one does not start on what this one has touched, and says why: the last test here
//! looks that it does, now by a format that nobody has yet.

use std::collections::BTreeSet;
use std::path::PathBuf;

use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::catch_up::{current, forgetful, log_says, out_of_reach, went_on_from_a_snapshot};
use crate::client::Client;
use crate::cluster::{CHORUS, Cluster, Options, state_file};
use crate::feed::Feed;
use crate::posts::Posts;
use crate::puts::put;
use crate::verb::{lead, said, talk};

/// The tables of a state, but for `applied`, which says how far it is.
const TABLES: &str =
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'applied'";
/// The one to which nothing here writes: no key is rotated.
const KEYS: &str = "keys";

/// Three nodes of the earlier program, and a learner of it.
async fn earlier_cluster(options: Options) -> Cluster {
    let mut cluster = Cluster::prepare(4, Options { learners: 1, ..options });
    for k in 0..cluster.len() {
        cluster.install(k, &earlier());
    }
    cluster.spawn_all();
    cluster.settled().await;
    cluster
}

fn earlier() -> PathBuf {
    let named = std::env::var_os("CHORUS_EARLIER");
    named.expect("CHORUS_EARLIER names the program of an earlier version; `./test long` builds it").into()
}

/// Node `k` goes to another program, as an operator does it: an end in order, and a start on the same directory.
async fn change(cluster: &mut Cluster, k: usize, program: PathBuf) {
    cluster.stop(k).await;
    cluster.install(k, &program);
    cluster.spawn(k);
    cluster.settled().await;
}

/// A row of every board, each written through this node.
async fn write_everywhere(client: &Client, word: &str) {
    let quote = client.quote(&format!("quote-{word}"), "Ada", "Before and after.").await.id;
    let (path, by) = (format!("/api/v1/quotes/{quote}/hide"), json!({ "by": "Eve" }));
    write(client, (Method::POST, &path), (&format!("hidden-{word}"), by)).await;
    let donor =
        json!({ "name": "Ada", "amount_minor": 1_250, "currency": "EUR", "email": "ada@example.org" });
    write(client, (Method::POST, "/api/v1/donors"), (&format!("donor-{word}"), donor)).await;
    let title = json!({ "title": "Notes", "topic": "Engines", "cost_minor": 900, "stock": 3 });
    let book = write(client, (Method::POST, "/api/v1/books"), (&format!("book-{word}"), title)).await;
    let id = book["id"].as_str().expect("an id");
    let path = format!("/api/v1/books/{id}/purchase");
    write(client, (Method::POST, &path), (&format!("order-{word}"), json!({ "quantity": 1 }))).await;
    let task = json!({ "title": "Check the engine", "created_by": "Ada" });
    write(client, (Method::POST, "/api/v1/tasks"), (&format!("task-{word}"), task)).await;
    let pair = (Method::PUT, format!("/api/v1/store/{word}"));
    write(client, (pair.0, &pair.1), (&format!("pair-{word}"), json!({ "value": word }))).await;
}

async fn write(client: &Client, (method, path): (Method, &str), (key, body): (&str, Value)) -> Value {
    let request = client.request(method, path).header("Idempotency-Key", key).json(&body);
    let answer = request.send().await.expect("the node answers");
    let (status, text) = (answer.status(), answer.text().await.expect("a body"));
    assert!(status.is_success(), "{path}: {status} {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Every table that both programs have holds the same in all nodes.
fn everything_is_the_same(cluster: &Cluster) {
    let of = |k| cluster.rows(k, TABLES).into_iter().collect::<BTreeSet<_>>();
    let tables = cluster.running().into_iter().map(of).reduce(|some, others| &some & &others);
    let tables = tables.expect("a node runs");
    assert!(tables.len() > 10, "{tables:?}");
    for name in tables.iter().filter_map(|cell| cell.strip_prefix("Text(\"")?.strip_suffix("\")")) {
        let rows = cluster.same_rows(&format!("SELECT * FROM {name} ORDER BY 1, 2"));
        assert!(rows.is_empty() == (name == KEYS), "{name} has {} rows", rows.len());
    }
}

/// The formats of node `k`'s two databases.
fn formats(cluster: &Cluster, k: usize) -> [String; 2] {
    const FORMAT: &str = "SELECT user_version FROM pragma_user_version";
    [format!("Integer({})", log_says(cluster, k, FORMAT)), cluster.rows(k, FORMAT).concat()]
}

/// The earlier program does not start on the directory of node `k`, of which something is in a later format, and says so.
async fn earlier_refuses(cluster: &mut Cluster, k: usize) {
    cluster.install(k, &earlier());
    cluster.spawn(k);
    let code = cluster.wait_gone(k).await;
    let told = cluster.talk(k);
    let last = told.lines().rfind(|line| line.contains("was written by a newer Chorus (format "));
    let last = last.unwrap_or_else(|| panic!("it ended with {code:?}, and said: {told}"));
    assert!(code != Some(0) && last.contains(", this program knows "), "{code:?}: {last}");
    assert!(last.contains("); upgrade this program"), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_change_to_this_program_one_after_another_while_each_leads_the_others() {
    let mut cluster = earlier_cluster(Options::default()).await;
    write_everywhere(&cluster.client(0), "earlier").await;
    let mut feed = Feed::open(cluster.listen(0), None).await;
    cluster.client(1).quote("told", "Ada", "Told by the earlier one.").await;
    feed.wait_quote("Told by the earlier one.").await;
    let load = Posts::start(&cluster, &cluster.running());

    change(&mut cluster, 3, CHORUS.into()).await;
    change(&mut cluster, 2, CHORUS.into()).await;
    lead(&cluster, 2).await;
    write_everywhere(&cluster.client(0), "new-leads").await;
    change(&mut cluster, 1, CHORUS.into()).await;
    lead(&cluster, 0).await;
    write_everywhere(&cluster.client(1), "earlier-leads").await;
    change(&mut cluster, 0, CHORUS.into()).await;
    write_everywhere(&cluster.client(0), "all-new").await;

    let posted = load.stop().await;
    println!(
        "measured: {} quotes were posted while four nodes changed the program; {} times one was sent again",
        posted.keys.len(),
        posted.repeated
    );
    // The page of the earlier program goes on where it was, and asserts by itself that nothing is left out.
    let (epoch, cursor) = (feed.epoch().clone(), feed.cursor);
    let mut feed = Feed::connect(cluster.listen(1)).await;
    feed.resume(&epoch, Some(cursor)).await;
    cluster.client(0).quote("last", "Ada", "Told by the new one.").await;
    feed.wait_quote("Told by the new one.").await;
    cluster.settled().await;
    everything_is_the_same(&cluster);
    let quotes = cluster.same_rows("SELECT id FROM quotes ORDER BY seq");
    // Besides the load: four by `write_everywhere`, and two that the feed waited for.
    assert_eq!(quotes.len(), posted.keys.len() + 6, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_and_snapshots_go_from_either_program_to_the_other() {
    let mut cluster = earlier_cluster(forgetful()).await;
    write_everywhere(&cluster.client(0), "first").await;
    change(&mut cluster, 2, CHORUS.into()).await;
    far_behind(&mut cluster, 2).await;
    change(&mut cluster, 1, CHORUS.into()).await;
    change(&mut cluster, 3, CHORUS.into()).await;
    far_behind(&mut cluster, 0).await;
    everything_is_the_same(&cluster);
}

/// Node `k` misses what the others write: first so little that they hold it, then more than they keep.
async fn far_behind(cluster: &mut Cluster, k: usize) {
    let others = cluster.others(k);
    for (name, count) in [("few", 200), ("many", 3_000)] {
        cluster.kill(k);
        put(cluster, &others, &format!("{name}-{k}"), count, 100).await;
        if name == "many" {
            out_of_reach(cluster, k).await;
        }
        cluster.spawn(k);
        current(cluster, k).await;
    }
    went_on_from_a_snapshot(&cluster.client(k)).await;
    cluster.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_earlier_program_goes_on_with_what_this_one_wrote() {
    let mut cluster = earlier_cluster(Options::default()).await;
    write_everywhere(&cluster.client(0), "first").await;
    let before = formats(&cluster, 0);
    for k in 0..cluster.len() {
        change(&mut cluster, k, CHORUS.into()).await;
    }
    write_everywhere(&cluster.client(1), "under-this-one").await;
    if formats(&cluster, 0) != before {
        cluster.stop(0).await;
        return earlier_refuses(&mut cluster, 0).await;
    }
    for k in 0..cluster.len() {
        change(&mut cluster, k, earlier()).await;
    }
    write_everywhere(&cluster.client(1), "under-the-earlier-one").await;
    cluster.settled().await;
    everything_is_the_same(&cluster);

    // What the earlier one saved, this one restores.
    let saved = tempfile::tempdir().expect("a temporary directory");
    let file = saved.path().join("backup");
    let backup = std::process::Command::new(earlier())
        .args(["backup".as_ref(), file.as_os_str(), "--data-dir".as_ref(), cluster.data_dir(0).as_os_str()])
        .output()
        .expect("it runs");
    assert!(backup.status.success(), "{}", talk(&backup));
    let checked = std::process::Command::new(CHORUS)
        .args(["restore".as_ref(), file.as_os_str(), "--dry-run".as_ref()])
        .output()
        .expect("it runs");
    assert!(checked.status.success(), "{}{}", said(&checked), talk(&checked));

    cluster.stop(0).await;
    let state = Connection::open(state_file(&cluster.data_dir(0))).expect("state.db");
    state.pragma_update(None, "user_version", 1_000).expect("a format of the future");
    drop(state);
    earlier_refuses(&mut cluster, 0).await;
}
