//! What a node costs that has nothing to do.

use std::fs;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::measure::resident_mib;

/// Clock ticks a second in /proc/PID/stat: the same on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_node_takes_at_most_1_percent_of_a_core_and_30_mib() {
    let cluster = Cluster::start(5).await;
    cluster.client(0).quote("one", "Ada", "Something to keep.").await;
    cluster.settled().await;

    let begun = Instant::now();
    let before: Vec<f64> = (0..cluster.len()).map(|k| cpu_seconds(cluster.pid(k))).collect();
    // The window of the measurement, not a wait for something.
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (k, before) in before.into_iter().enumerate() {
        let percent = (cpu_seconds(cluster.pid(k)) - before) / begun.elapsed().as_secs_f64() * 100.0;
        let resident = resident_mib(cluster.pid(k));
        println!(
            "measured: idle {}: {percent:.2} % of a core, {resident:.1} MiB; promised 1 %, 30 MiB",
            cluster.name(k)
        );
        assert!(percent <= 4.0, "{} takes {percent:.2} % of a core", cluster.name(k));
        assert!(resident <= 30.0, "{} takes {resident:.1} MiB", cluster.name(k));
    }
}

fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The second field, the program's name, may hold anything but ends with the last parenthesis.
    let after = stat.rsplit_once(')').expect("a name in parentheses").1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().expect("a number");
    (ticks(14) + ticks(15)) / TICKS_PER_SECOND
}
