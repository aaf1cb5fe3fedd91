//! What a node costs that has nothing to do.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::measure::{processor_time, resident_mib};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_node_takes_at_most_1_percent_of_a_core_and_30_mib() {
    let cluster = Cluster::start(5).await;
    cluster.client(0).quote("one", "Ada", "Something to keep.").await;
    cluster.settled().await;

    let begun = Instant::now();
    let before: Vec<Duration> = (0..cluster.len()).map(|k| processor_time(cluster.pid(k))).collect();
    // The window of the measurement, not a wait for something.
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (k, before) in before.into_iter().enumerate() {
        let used = processor_time(cluster.pid(k)) - before;
        let percent = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        let resident = resident_mib(cluster.pid(k));
        println!(
            "measured: idle {}: {percent:.2} % of a core, {resident:.1} MiB; promised 1 %, 30 MiB",
            cluster.name(k)
        );
        assert!(percent <= 4.0, "{} takes {percent:.2} % of a core", cluster.name(k));
        assert!(resident <= 30.0, "{} takes {resident:.1} MiB", cluster.name(k));
    }
}
