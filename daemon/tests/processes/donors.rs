//! Many donors: an import by the command line, its repetition, and what the table answers then.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::long;
use crate::measure::{Measured, resident_mib};

/// How often the nodes' memory is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How many are imported; a million in the long run.
fn donors() -> u64 {
    if long() { 1_000_000 } else { 100_000 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_donors_are_imported_once_and_the_table_stays_quick() {
    let cluster = Cluster::start(3).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut text = String::from("name,email,amount_minor,currency\n");
    for n in 0..donors() {
        let currency = if n % 4 == 0 { "CHF" } else { "EUR" };
        // In another order than that of the file by each column.
        writeln!(
            text,
            "Donor {:07},d{}@example.org,{},{currency}",
            n * 7 % donors(),
            n * 3 % donors(),
            n % 1_000 + 1
        )
        .expect("memory");
    }
    std::fs::write(file.path(), text).expect("the file is written");
    let path = file.path().to_str().expect("a name in UTF-8");
    let begun = Instant::now();
    let memory = import(&cluster, path).await;
    let took = begun.elapsed();
    let rate = donors() as f64 / took.as_secs_f64();
    println!(
        "measured: import of {} donors into 3 nodes: {took:?}, {rate:.0}/s (promised 20,000/s)",
        donors()
    );
    assert!(rate * 4.0 >= 20_000.0, "{rate:.0} donors a second");
    let (early, late) = memory.split_at(memory.len() / 2);
    let [early, late] = [early, late].map(|part| part.iter().copied().fold(0.0_f64, f64::max));
    println!(
        "measured: memory of the largest node in the first half of the import: {early:.1} MiB, in the second: {late:.1} MiB"
    );
    assert!(late <= early * 1.5, "memory grows: {memory:?}");

    // Begun again, it adds nothing.
    import(&cluster, path).await;
    cluster.settled().await;
    let (all, amount) = (donors(), (0..donors()).map(|n| n % 1_000 + 1).sum::<u64>());
    let told = "SELECT format('%d %d %d', count(*), count(DISTINCT email), sum(amount_minor)) FROM donors";
    let counted = cluster.same_rows(told);
    assert!(counted[0].contains(&format!("{all} {all} {amount}")), "{counted:?}");

    let mut tries = Vec::new();
    for (sort, first) in
        [("name", "Donor 0000000"), ("-name", ""), ("email", ""), ("-amount", ""), ("newest", "")]
    {
        let (mut after, mut keys) = (String::new(), Vec::new());
        for page in 0..4 {
            let begun = Instant::now();
            let text = cluster.client(1).text(&format!("/api/v1/donors?limit=100&sort={sort}{after}")).await;
            tries.push(begun.elapsed());
            let list: Value = serde_json::from_str(&text).expect("JSON");
            let items = list["items"].as_array().expect("a list");
            assert_eq!(items.len(), 100, "{sort}");
            keys.extend(items.iter().map(|donor| key(donor, sort)));
            if page == 0 && !first.is_empty() {
                assert_eq!(list["items"][0]["name"], first);
            }
            let totals: u64 = list["totals"]
                .as_array()
                .expect("totals")
                .iter()
                .map(|total| total["amount_minor"].as_u64().expect("a sum"))
                .sum();
            assert_eq!(totals, amount);
            after = format!("&after={}", list["next"].as_str().expect("there are more"));
        }
        if sort.starts_with('-') || sort == "newest" {
            keys.reverse();
        }
        assert!(keys.is_sorted(), "{sort}: {keys:?}");
    }
    Measured::new(tries).tell_and_assert("a page of 100 donors in any order", Duration::from_millis(20));
}

/// What a donor is sorted by, such that texts are in its order.
fn key(donor: &Value, sort: &str) -> String {
    match sort.trim_start_matches('-') {
        "newest" => format!("{:020}", donor["seq"].as_u64().expect("a number")),
        "amount" => format!("{:020}", donor["amount_minor"].as_u64().expect("a number")),
        column => donor[column].as_str().expect("a text").to_owned(),
    }
}

/// Imports the file; what the largest node had of memory from look to look, in MiB.
async fn import(cluster: &Cluster, path: &str) -> Vec<f64> {
    let mut command = cluster.chorus(&["donor", "import", "--json", path]);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("chorus runs");
    let mut memory = Vec::new();
    loop {
        memory.push((0..cluster.len()).map(|k| resident_mib(cluster.pid(k))).fold(0.0, f64::max));
        if let Some(ended) = running.try_wait().expect("a child of ours") {
            assert!(ended.success(), "{ended}");
            return memory;
        }
        sleep(LOOK).await;
    }
}
