//! Who has many entries to apply reads them ahead on a thread of its own: the state is the same, wherever that ends.

use chorus_proto::raft::{Install, Persist};
use chorus_proto::types::Index;

use super::snapshots::{grow, grown, history, verified};
use super::support::{EPOCH_MS, Node, Said, entry, everything, everything_of, id, open, quote, try_open};

/// Far more than are read ahead at once.
const FAR: u64 = 20_000;

/// So often at most a life is ended amid them.
const TRIES: u32 = 3;

fn behind(path: &std::path::Path) -> Node {
    let mut node = open(path);
    node.append((1..=FAR).map(history).collect());
    node
}

/// Waits until the state is at least so far; how far it is.
fn wait_applied(node: &Node, index: u64) -> u64 {
    let mut far = 0;
    node.wait_for(|said| {
        if let Said::Applied(applied) = said {
            far = applied.index.0;
        }
        far >= index
    });
    far
}

#[test]
fn many_entries_at_once_make_the_same_state_as_few_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let by_few = {
        let mut node = open(&dir.path().join("few"));
        for first in (1..=FAR).step_by(1_000) {
            grow(&mut node, first, first + 999);
        }
        everything(&node.close())
    };
    // The last of them are in memory as well, as those are that came last.
    for (name, cached_from) in [("none", FAR + 1), ("some", FAR - 3_000), ("all", 1)] {
        let node = behind(&dir.path().join(name));
        let told = node.apply_cached(FAR, (cached_from..=FAR).map(history).collect());
        let indexes: Vec<u64> = told.iter().map(|entry| entry.index).collect();
        assert!(indexes.iter().copied().eq(1..=FAR), "each is told once, in order");
        assert_eq!(everything(&node.close()), by_few, "with {name} of them in memory");
    }
}

#[test]
fn a_command_from_the_future_far_ahead_stops_the_state_exactly_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = behind(dir.path());
    let mut future = quote("from-the-future", "one");
    future.v = 9;
    node.append(vec![entry(FAR + 1, EPOCH_MS, &future)]);
    node.append(
        (FAR + 2..=FAR + 3_000)
            .map(|index| entry(index, EPOCH_MS, &quote(&format!("after{index}"), "x")))
            .collect(),
    );
    node.stores().apply(Index(FAR + 3_000), Vec::new());
    let Said::Stuck(why) = node.wait_for(|said| matches!(said, Said::Stuck(_))) else { unreachable!() };
    assert!(why.contains(&format!("entry t1/i{}", FAR + 1)), "{why}");
    node.close();
    assert_eq!(open(dir.path()).opened.durable.applied_id, id(1, FAR));
}

#[test]
fn an_end_in_the_midst_of_many_entries_is_an_end_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let whole = everything(&grown(&dir.path().join("whole"), FAR).close());
    // Whoever ends them may get no turn before all is applied: in one try or two.
    let amid = (0..TRIES).any(|n| {
        let (node, ends) = lives(&dir.path().join(n.to_string()));
        println!("measured: lives that were ended amid {FAR} entries had applied {ends:?}");
        assert_eq!(everything(&node.close()), whole);
        ends.len() > 2
    });
    assert!(amid, "the first life at least was ended amid them");
}

/// One life after the other until all is applied, each ended as soon as it has applied something; how far they came.
fn lives(path: &std::path::Path) -> (Node, Vec<u64>) {
    let mut node = behind(path);
    let mut ends = vec![0];
    while *ends.last().unwrap() < FAR {
        node.stores().apply(Index(FAR), Vec::new());
        wait_applied(&node, ends.last().unwrap() + 1);
        node.close();
        node = open(path);
        ends.push(node.opened.durable.applied_id.index.0);
    }
    (node, ends)
}

#[test]
fn a_snapshot_comes_into_force_amid_many_entries_whose_rest_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let source = grown(&dir.path().join("source"), FAR + 500);
    let snapshot = source.stores().snapshot().unwrap();
    let whole = everything(&source.close());
    for wait_for in [0, 1, 5_000, FAR] {
        let target = dir.path().join(format!("after-{wait_for}"));
        let mut node = try_open(&target, "n2").unwrap();
        node.append((1..=FAR).map(history).collect());
        node.stores().apply(Index(FAR), Vec::new());
        wait_applied(&node, wait_for);
        let install = Install { snapshot: verified(&snapshot, node.stores()), keep_tail: false };
        let token = node.persist(Persist { install: Some(install), ..Persist::default() });
        node.wait_for(|said| matches!(said, Said::Persisted(at) if *at >= token));
        assert_eq!(everything_of(&node.close(), 2), whole, "after {wait_for} were applied");
    }
}
