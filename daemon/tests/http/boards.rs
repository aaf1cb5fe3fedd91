//! The boards besides quotes and store: their routes, and those of the bookstores of old.

use serde_json::{Value, json};

use crate::stage::{Reply, Stage};

async fn send(stage: &Stage, method: &str, path: &str, body: Value) -> Reply {
    let method = method.parse().expect("a method");
    stage.ask(stage.http.request(method, stage.at(path)).json(&body)).await
}

#[tokio::test]
async fn a_title_is_bought_until_it_is_sold_out_and_each_purchase_counts_once() {
    let stage = Stage::open(64).await;
    let seeded = send(&stage, "POST", "/api/v1/books/seed", json!({})).await;
    assert_eq!(seeded.status, 201, "{seeded:?}");
    let shelf = stage.get("/api/v1/books?topic=GraduateSchool").await.json();
    assert_eq!(shelf["books"].as_array().map(Vec::len), Some(4), "{shelf}");
    assert!(shelf["seq"].is_u64());
    let unknown = stage.get("/api/v1/books?topic=Gardening").await;
    assert_eq!((unknown.status, &unknown.json()["errors"][0]["field"]), (422, &json!("topic")));

    let changed = send(&stage, "PATCH", "/api/v1/books/2", json!({ "stock": 3 })).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let buy = |quantity: u64| {
        let request =
            stage.http.post(stage.at("/api/v1/books/2/purchase")).header("Idempotency-Key", "buy-1");
        stage.ask(request.json(&json!({ "quantity": quantity })))
    };
    let bought = buy(2).await;
    assert_eq!(bought.status, 201, "{bought:?}");
    let again = buy(2).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!(buy(1).await.json()["code"], "id_reused");
    let loser = send(&stage, "POST", "/api/v1/books/2/purchase", json!({ "quantity": 2 })).await;
    assert_eq!((loser.status, &loser.json()["code"]), (409, &json!("out_of_stock")));
    let book = stage.get("/api/v1/books/2").await;
    assert_eq!(book.json()["stock"], 1);
    assert_eq!(book.header("etag"), Some(format!("\"{}\"", book.json()["version"]).as_str()));
    let orders = stage.get("/api/v1/orders").await.json();
    assert_eq!(orders["items"].as_array().map(Vec::len), Some(1), "{orders}");
    assert_eq!(orders["items"][0]["id"], bought.json()["id"]);
    for quantity in [json!(0), json!(-1), json!("2"), json!(1e9)] {
        let bad = send(&stage, "POST", "/api/v1/books/2/purchase", json!({ "quantity": quantity })).await;
        assert_eq!((bad.status, &bad.json()["errors"][0]["field"]), (422, &json!("quantity")));
    }
    assert_eq!(stage.get("/api/v1/books/77").await.status, 404);
    assert_eq!(send(&stage, "POST", "/api/v1/books/77/purchase", json!({})).await.status, 404);
}

#[tokio::test]
async fn programs_that_know_the_first_bookstores_find_their_routes() {
    let stage = Stage::open(64).await;
    send(&stage, "POST", "/api/v1/books/seed", json!({})).await;
    let found = stage.get("/search?topic=DistributedSystems").await.json();
    let ids: Vec<_> =
        found["books"].as_array().expect("books").iter().map(|book| book["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 7]);
    let second = json!({ "cost": 200, "id": 2, "stock": 1_000, "title": "RPCs for Dummies", "topic": "DistributedSystems" });
    assert_eq!(found["books"][1], second);
    assert_eq!(stage.get("/lookup?item=2").await.json(), second);
    assert_eq!(stage.get("/info/2").await.json(), second);
    assert_eq!(stage.get("/info/99").await.status, 404);
    assert_eq!(stage.get("/lookup").await.json()["errors"][0]["field"], "item");
    for path in ["/buy?item=2", "/purchase/2"] {
        let refused = stage.get(path).await;
        assert_eq!(refused.status, 405);
        assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("POST or PUT")));
        assert_eq!(stage.ask(stage.http.put(stage.at(path))).await.status, 201, "{path}");
    }
    assert_eq!(stage.get("/info/2").await.json()["stock"], 998);
}

#[tokio::test]
async fn a_task_is_changed_from_the_version_that_was_seen_and_tells_its_history() {
    let stage = Stage::open(64).await;
    let made = send(&stage, "POST", "/api/v1/tasks", json!({ "title": "Sweep", "created_by": "Ada" })).await;
    assert_eq!((made.status, made.header("location")), (201, Some("/api/v1/tasks/1")));
    let version = stage.get("/api/v1/tasks/1").await.json()["version"].clone();
    let change = |status: &str| {
        let request =
            stage.http.patch(stage.at("/api/v1/tasks/1")).header("If-Match", format!("\"{version}\""));
        stage.ask(request.json(&json!({ "status": status })))
    };
    assert_eq!(change("doing").await.status, 200);
    let stale = change("done").await;
    assert_eq!((stale.status, &stale.json()["code"]), (412, &json!("stale_version")));
    let history = stage.get("/api/v1/tasks/1/history").await.json();
    assert_eq!(history["items"][1]["change"]["status"], json!({ "from": "todo", "to": "doing" }));
    assert_eq!(stage.get("/api/v1/tasks/9/history").await.status, 404);
    let bad = send(&stage, "PATCH", "/api/v1/tasks/1", json!({ "status": "later" })).await;
    assert_eq!((bad.status, &bad.json()["errors"][0]["field"]), (422, &json!("status")));
    let bad = stage.get("/api/v1/tasks?status=later").await;
    assert_eq!((bad.status, &bad.json()["errors"][0]["field"]), (422, &json!("status")));
    assert_eq!(stage.ask(stage.http.delete(stage.at("/api/v1/tasks/1"))).await.status, 200);
    assert_eq!(stage.get("/api/v1/tasks").await.json()["items"], json!([]));
}

#[tokio::test]
async fn donors_are_added_imported_and_added_up() {
    let stage = Stage::open(64).await;
    let ada = json!({ "name": "Ada", "email": "ada@example.org", "amount_minor": 1250, "currency": "EUR" });
    assert_eq!(send(&stage, "POST", "/api/v1/donors", ada.clone()).await.status, 201);
    let rows =
        json!({ "rows": [ada, { "name": "Bob", "email": "bob@", "amount_minor": 1, "currency": "EUR" }] });
    let bad = send(&stage, "POST", "/api/v1/donors/import", rows).await;
    assert_eq!((bad.status, &bad.json()["errors"][0]["field"]), (422, &json!("rows 2: email")));
    let all = stage.get("/api/v1/donors?sort=-amount").await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1), "nothing half done");
    assert_eq!(all["totals"], json!([{ "currency": "EUR", "donors": 1, "amount_minor": 1250 }]));
    assert_eq!(stage.get("/api/v1/donors?sort=colour").await.json()["errors"][0]["field"], "sort");
    assert_eq!(stage.get("/api/v1/donors?after=x").await.json()["errors"][0]["field"], "after");
}

#[tokio::test]
async fn an_answer_comes_from_memory_until_what_it_rests_on_has_changed() {
    let stage = Stage::open(64).await;
    send(&stage, "POST", "/api/v1/books/seed", json!({})).await;
    let systems = "/api/v1/books?topic=DistributedSystems";
    let school = "/api/v1/books?topic=GraduateSchool";
    let all = [systems, school, "/api/v1/books", "/api/v1/books/1", "/api/v1/books/3"];
    let ask = async |path: &str| {
        let reply = stage.get(path).await;
        let known = reply.header("chorus-cache").map(str::to_owned).expect("it says where it comes from");
        (known, reply)
    };
    for path in all {
        assert_eq!(ask(path).await.0, "miss", "{path}");
        let (known, reply) = ask(path).await;
        assert_eq!(known, "hit", "{path}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
    send(&stage, "POST", "/api/v1/books/1/purchase", json!({})).await;
    let known = async |path: &str| ask(path).await.0;
    assert_eq!((known(systems).await, known(school).await), ("miss".into(), "hit".into()));
    assert_eq!(
        (known("/api/v1/books/1").await, known("/api/v1/books/3").await),
        ("miss".into(), "hit".into())
    );
    assert_eq!(known("/api/v1/books").await, "miss");
    let (_, reply) = ask("/api/v1/books/3").await;
    let (applied, book) = (reply.header("chorus-index").map(str::to_owned), reply.json());
    assert_eq!(
        applied,
        Some(stage.get("/api/v1/quotes").await.json()["seq"].to_string()),
        "it holds until now"
    );
    assert_eq!(book["stock"], 1_000);

    // A title that moves to another topic is missing from the one and found in the other.
    ask(systems).await;
    send(&stage, "PATCH", "/api/v1/books/3", json!({ "topic": "DistributedSystems" })).await;
    let ids = async |path: &str| {
        let books = stage.get(path).await.json()["books"].as_array().cloned().expect("books");
        books.iter().map(|book| book["id"].as_u64().expect("an id")).collect::<Vec<_>>()
    };
    assert_eq!((ids(systems).await, ids(school).await), (vec![1, 2, 3, 7], vec![4, 5, 6]));

    // Who wants an answer anew gets one, and leaves what is kept as it is.
    ask(school).await;
    for wish in ["no-cache", "max-age=0, No-Cache"] {
        for path in ["/api/v1/books/3", school] {
            let reply = stage.ask(stage.http.get(stage.at(path)).header("Cache-Control", wish)).await;
            assert_eq!(reply.header("chorus-cache"), Some("miss"), "{path}");
        }
    }
    stage.ask(stage.http.get(stage.at("/api/v1/books/2")).header("Cache-Control", "no-cache")).await;
    assert_eq!((known(school).await, known("/api/v1/books/2").await), ("hit".into(), "miss".into()));

    let metrics = stage.get("/metrics").await.text;
    assert!(metrics.contains("chorus_cache_reads_total{result=\"hit\"}"), "{metrics}");
}

/// Writers change what readers ask for; no answer is older than the index that its reader waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_from_memory_is_older_than_what_is_applied() {
    let stage = Stage::open(64).await;
    send(&stage, "POST", "/api/v1/books/seed", json!({})).await;
    let (sold, buyers) = (std::sync::atomic::AtomicU64::new(0), 300_u64);
    let buy = async {
        for n in 0..buyers {
            assert_eq!(send(&stage, "POST", "/api/v1/books/5/purchase", json!({})).await.status, 201, "{n}");
            sold.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    };
    let read = async {
        let mut hits = 0;
        loop {
            // What was sold before the question is in the answer.
            let before = sold.load(std::sync::atomic::Ordering::SeqCst);
            let reply = stage.get("/api/v1/books/5").await;
            let stock = reply.json()["stock"].as_u64().expect("a stock");
            assert!(stock <= 1_000 - before, "{stock} are left after {before} were sold");
            hits += u64::from(reply.header("chorus-cache") == Some("hit"));
            if before == buyers {
                return hits;
            }
        }
    };
    let ((), first, second, third) = tokio::join!(buy, read, read_again(&stage), read_again(&stage));
    assert!(first + second + third > 0, "the cache took part");
    assert_eq!(stage.get("/api/v1/books/5").await.json()["stock"], 1_000 - buyers);
}

/// Asks until the shelf has sold its 300; how often the answer came from memory.
async fn read_again(stage: &Stage) -> u64 {
    let (mut hits, mut least) = (0, u64::MAX);
    while least > 700 {
        let reply = stage.get("/api/v1/books/5").await;
        let stock = reply.json()["stock"].as_u64().expect("a stock");
        assert!(stock <= least, "a reader never sees an older state than before");
        least = stock;
        hits += u64::from(reply.header("chorus-cache") == Some("hit"));
    }
    hits
}
