//! A cluster whose nodes run two versions of the program: what not all voters know is not for the log.

use std::sync::{LazyLock, OnceLock};

use chorus::boards::{Board, Boards, Facts, Input, ListQuery, Listed, Operation, Outcome, Shapes};
use chorus::node::Submission;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::cluster::{Cluster, refusal, request_id, wait_for};

/// The store as a next version of the program may have it: values are put in another way too.
struct NextStore;

/// As this program knows it, and as the next one does.
static NEXT: LazyLock<[Operation; 2]> = LazyLock::new(|| {
    let now = *store().operation("put", 1).expect("the store is put to");
    [now, Operation { v: 2, since: 2, ..now }]
});
static FACTS: LazyLock<Facts> = LazyLock::new(|| Facts { operations: &*NEXT, ..*store().facts() });

fn store() -> &'static dyn Board {
    Boards::all().named("store").expect("the board of keys and values")
}

impl Board for NextStore {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn shapes(&self) -> Shapes {
        store().shapes()
    }

    fn list(&self, connection: &Connection, query: &ListQuery) -> rusqlite::Result<Listed> {
        store().list(connection, query)
    }

    fn find(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Value>> {
        store().find(connection, key)
    }
}

/// The boards of the next version.
fn next() -> Boards {
    static BOARDS: OnceLock<Vec<&'static dyn Board>> = OnceLock::new();
    let boards = BOARDS.get_or_init(|| {
        let others = Boards::all().iter().filter(|board| board.name() != "store");
        others.chain([&NextStore as &dyn Board]).collect()
    });
    Boards::of(boards)
}

/// A put of the next version.
fn new_put(id: &str) -> Submission {
    let input = Input { key: Some("k".into()), body: json!({ "value": id }), ..Input::default() };
    let body = store().check(&store().operations()[0], input).expect("a good pair");
    Submission { id: request_id(id), fresh: false, board: "store", op: "put", v: 2, body }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_voter_does_not_know_waits_until_it_is_upgraded() {
    let mut cluster = Cluster::prepare(3, 3, 0.0);
    for place in 0..3 {
        if place != 2 {
            cluster.places[place].boards = next();
        }
        cluster.run(place);
    }
    cluster.leader().await;
    for place in 0..3 {
        cluster.post(place, &format!("q{place}"), "What all know.").await;
    }
    // By whichever node it comes, and whoever leads.
    for place in 0..2 {
        let refused = refusal(cluster.handle(place).submit(new_put(&format!("early-{place}"))).await);
        assert_eq!(refused.code, "catching_up", "{refused:?}");
        assert!(refused.detail.contains("'store.put' version 2"), "{refused:?}");
        assert!(refused.detail.contains("an older Chorus runs at n3"), "{refused:?}");
    }
    cluster.post(2, "still", "The older one applies all there is.").await;

    cluster.stop(2).await;
    let refused = refusal(cluster.handle(0).submit(new_put("away")).await);
    assert!(refused.detail.contains("n3"), "who is away has not said that it knows: {refused:?}");
    // Whoever started after n3 had gone cannot know what runs there.
    cluster.stop(0).await;
    cluster.run(0);
    let refused = wait_for("n1 to hear n2 and not n3", || async {
        let refused = cluster.handle(0).submit(new_put("unheard")).await.err()?;
        (refused.detail.contains("not taken yet") && !refused.detail.contains("n2")).then_some(refused)
    })
    .await;
    assert!(refused.detail.contains("has not heard n3 since its start"), "{refused:?}");
    assert!(refused.detail.contains("`chorus members replace`"), "{refused:?}");
    assert!(!refused.detail.contains("older Chorus"), "{refused:?}");
    cluster.places[2].boards = next();
    cluster.run(2);
    let taken =
        wait_for("all to know it", || async { cluster.handle(0).submit(new_put("now")).await.ok() }).await;
    assert!(matches!(taken.outcome, Outcome::Done { .. }), "{taken:?}");
    // Itself it has to hear first that the others know it.
    let taken =
        wait_for("n3 to hear it", || async { cluster.handle(2).submit(new_put("from-n3")).await.ok() }).await;
    assert!(matches!(taken.outcome, Outcome::Done { .. }), "{taken:?}");
}
