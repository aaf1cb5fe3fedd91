//! The bookstore under a rush: as many orders as there were copies, whatever happens to the leaders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::wait::{PATIENCE, wait_for};

const BUYERS: usize = 64;
const ATTEMPTS: u64 = 2_000;
const COPIES: u64 = 1_000;

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Bought,
    SoldOut,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_attempts_buy_a_thousand_copies_while_two_leaders_are_killed() {
    let mut cluster = Cluster::start(5).await;
    let seeded =
        cluster.client(0).request(Method::POST, "/api/v1/books/seed").send().await.expect("an answer");
    assert_eq!(seeded.status(), StatusCode::CREATED);

    let (next, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<Client> = (0..cluster.len()).map(|k| cluster.client(k)).collect();
    let begun = Instant::now();
    let buyers: Vec<_> = (0..BUYERS)
        .map(|buyer| tokio::spawn(buy(clients.clone(), buyer, Arc::clone(&next), Arc::clone(&done))))
        .collect();
    for part in [4, 2] {
        wait_for("a part of the attempts", async || {
            (done.load(Ordering::SeqCst) > ATTEMPTS / part).then_some(())
        })
        .await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        wait_for("another leader", async || {
            let view = cluster.client(cluster.others(leader)[0]).view().await?;
            view.leader.filter(|name| name != cluster.name(leader))
        })
        .await;
        cluster.spawn(leader);
    }
    let mut attempts = Vec::new();
    for buyer in buyers {
        attempts.extend(buyer.await.expect("a buyer comes to an end"));
    }
    println!(
        "measured: {ATTEMPTS} attempts to buy {COPIES} copies through two killed leaders: {:?}",
        begun.elapsed()
    );

    let bought = attempts.iter().filter(|attempt| **attempt == Attempt::Bought).count() as u64;
    assert_eq!((bought, attempts.len() as u64 - bought), (COPIES, ATTEMPTS - COPIES));
    cluster.settled().await;
    let told = "SELECT format('%d %d %d', count(*), sum(quantity), count(DISTINCT id)) FROM orders";
    assert!(cluster.same_rows(told)[0].contains(&format!("{COPIES} {COPIES} {COPIES}")));
    assert!(
        cluster.same_rows("SELECT format('%d left', stock) FROM books WHERE id = 3")[0].contains("\"0 left")
    );
    for k in cluster.running() {
        let book: Value =
            serde_json::from_str(&cluster.client(k).text("/api/v1/books/3").await).expect("JSON");
        assert_eq!(book["stock"], 0, "{}", cluster.name(k));
    }
}

/// Takes attempts until there are none left; each is repeated under its key, at one node after another, until somebody
/// says what became of it.
async fn buy(clients: Vec<Client>, buyer: usize, next: Arc<AtomicU64>, done: Arc<AtomicU64>) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    loop {
        let attempt = next.fetch_add(1, Ordering::SeqCst);
        if attempt >= ATTEMPTS {
            return attempts;
        }
        let begun = Instant::now();
        let mut at = buyer + usize::try_from(attempt).expect("a small number");
        let outcome = loop {
            assert!(begun.elapsed() < PATIENCE, "attempt {attempt} never came to an end");
            if let Some(outcome) = ask(&clients[at % clients.len()], attempt).await {
                break outcome;
            }
            at += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        attempts.push(outcome);
        done.fetch_add(1, Ordering::SeqCst);
    }
}

async fn ask(client: &Client, attempt: u64) -> Option<Attempt> {
    let request = client.request(Method::POST, "/api/v1/books/3/purchase");
    let request =
        request.header("Idempotency-Key", format!("attempt-{attempt}")).json(&json!({ "quantity": 1 }));
    let answer = request.send().await.ok()?;
    match answer.status() {
        StatusCode::CREATED => Some(Attempt::Bought),
        StatusCode::CONFLICT => {
            let problem: Value = answer.json().await.ok()?;
            assert_eq!(problem["code"], "out_of_stock", "{problem}");
            Some(Attempt::SoldOut)
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => None,
        other => panic!("attempt {attempt} was answered {other}"),
    }
}
