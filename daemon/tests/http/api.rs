//! The API.

use serde_json::{Value, json};

use crate::stage::Stage;

#[tokio::test]
async fn a_quote_is_created_once_and_its_repetition_answered_the_same() {
    let stage = Stage::open(64).await;
    let body = json!({"author": "Ada", "text": "The engine weaves."});
    let first = stage.post("key-1", body.clone()).await;
    assert_eq!(first.status, 201, "{first:?}");
    let id = first.json()["id"].as_str().map(str::to_owned).expect("an id");
    assert_eq!(first.header("location"), Some(format!("/api/v1/quotes/{id}").as_str()));
    assert_eq!(first.header("chorus-node"), Some("n2"));
    assert_eq!(first.header("idempotency-replayed"), None);

    let again = stage.post("key-1", body).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));

    let other = stage.post("key-1", json!({"author": "Ada", "text": "Another."})).await;
    assert_eq!((other.status, &other.json()["code"]), (409, &json!("id_reused")));

    let list = stage.get("/api/v1/quotes").await;
    let items = list.json()["items"].as_array().cloned().expect("items");
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["id"], json!(id));
    assert_eq!(list.header("chorus-index").map(str::to_owned), Some(list.json()["seq"].to_string()));
    let one = stage.get(&format!("/api/v1/quotes/{id}")).await;
    assert_eq!((one.status, one.json()), (200, items[0].clone()));
}

#[tokio::test]
async fn a_list_is_newest_first_and_goes_on_where_it_ended() {
    let stage = Stage::open(64).await;
    let seqs: Vec<_> = (1..=5).map(|n| stage.log.quote(&n.to_string())).collect();
    let newest = seqs[4];
    let first = stage.get(&format!("/api/v1/quotes?limit=2&min_index={newest}")).await.json();
    assert_eq!(first["seq"], json!(newest));
    let texts = |list: &serde_json::Value| {
        list["items"].as_array().expect("items").iter().map(|item| item["text"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&first), [json!("5"), json!("4")]);
    let second = stage.get(&format!("/api/v1/quotes?limit=3&before={}", first["next"])).await.json();
    assert_eq!(texts(&second), [json!("3"), json!("2"), json!("1")]);
    assert_eq!(second["next"], json!(null));
}

#[tokio::test]
async fn errors_name_the_field() {
    let stage = Stage::open(64).await;
    let long = "x".repeat(2_001);
    let named = [
        (json!({"author": "Ada", "text": ""}), "text"),
        (json!({"author": "Ada"}), "text"),
        (json!({"author": "Ada", "text": long}), "text"),
        (json!({"author": "", "text": "x"}), "author"),
        (json!({"author": 7, "text": "x"}), "author"),
    ];
    for (body, field) in named {
        let reply = stage.post("k", body).await;
        assert_eq!(reply.status, 422, "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/problem+json"));
        assert_eq!(reply.json()["errors"][0]["field"], json!(field), "{reply:?}");
    }
    let broken =
        stage.http.post(stage.at("/api/v1/quotes")).body(b"{\"author\":\"Ada\",\"text\":\"\xff\"}".to_vec());
    let broken = stage.ask(broken).await;
    assert_eq!((broken.status, &broken.json()["errors"][0]["field"]), (422, &json!("text")));
    let no_json = stage.ask(stage.http.post(stage.at("/api/v1/quotes")).body("{")).await;
    assert_eq!((no_json.status, &no_json.json()["code"]), (400, &json!("bad_json")));
    let key = stage.post("not visible", json!({"author": "Ada", "text": "x"})).await;
    assert_eq!((key.status, &key.json()["errors"][0]["field"]), (422, &json!("Idempotency-Key")));
    for query in ["limit=0", "limit=501", "before=x", "consistency=strong", "min_index=-1"] {
        let reply = stage.get(&format!("/api/v1/quotes?{query}")).await;
        let field = query.split('=').next().expect("a field");
        assert_eq!((reply.status, &reply.json()["errors"][0]["field"]), (422, &json!(field)));
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_an_answer() {
    let stage = Stage::open(64).await;
    for bytes in [131_073, 1_000_000] {
        let reply = stage.ask(stage.http.post(stage.at("/api/v1/quotes")).body(vec![b'x'; bytes])).await;
        assert_eq!((reply.status, &reply.json()["code"]), (413, &json!("too_large")), "{bytes}");
    }
}

#[tokio::test]
async fn without_a_leader_a_write_says_when_to_try_again_and_the_key_may() {
    let stage = Stage::open(64).await;
    stage.lead(false);
    let body = json!({"author": "Ada", "text": "x"});
    let refused = stage.post("key", body.clone()).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("no_leader")));
    assert_eq!(refused.json()["retry_ms"], json!(300));
    let ready = stage.get("/readyz?verbose").await;
    assert_eq!((ready.status, &ready.json()["code"]), (503, &json!("no_leader")));
    assert_eq!(stage.get("/livez").await.status, 200);
    let read = stage.get("/api/v1/quotes?consistency=linearizable").await;
    assert_eq!(read.status, 503, "{read:?}");
    assert_eq!(stage.get("/api/v1/quotes").await.status, 200, "what is here can be read");
    stage.lead(true);
    assert_eq!(stage.post("key", body).await.status, 201);
    assert_eq!(stage.get("/readyz").await.status, 200);
    assert_eq!(stage.get("/api/v1/quotes?consistency=linearizable").await.status, 200);
}

#[tokio::test]
async fn a_key_is_put_compared_and_deleted() {
    let stage = Stage::open(64).await;
    let put = |value: &str, tag: Option<String>| {
        let request =
            stage.http.put(stage.at("/api/v1/store/config%2Fdb/url")).json(&json!({ "value": value }));
        let request = match tag {
            Some(tag) => request.header("If-Match", tag),
            None => request,
        };
        stage.ask(request)
    };
    let first = put("a", None).await;
    assert_eq!(first.status, 201, "{first:?}");
    let read = stage.get("/api/v1/store/config/db/url").await;
    assert_eq!(
        (read.status, read.json()),
        (200, json!({"key": "config/db/url", "value": "a", "index": first.json()["index"]}))
    );
    let tag = read.header("etag").map(str::to_owned).expect("a version");
    assert_eq!(put("b", Some(tag.clone())).await.status, 201);
    let stale = put("c", Some(tag)).await;
    assert_eq!((stale.status, &stale.json()["code"]), (412, &json!("stale_version")));
    let gone = stage.ask(stage.http.delete(stage.at("/api/v1/store/config/db/url"))).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    let read = stage.get("/api/v1/store/config/db/url").await;
    assert_eq!((read.status, &read.json()["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn the_log_shows_what_was_committed() {
    let stage = Stage::open(64).await;
    let index = stage.post("k-1", json!({"author": "Ada", "text": "x"})).await.json()["index"].clone();
    let log = stage.get("/api/v1/log?limit=1").await.json();
    assert_eq!((&log["entries"][0]["index"], &log["next"]), (&json!(1), &json!(1)));
    let log = stage.get("/api/v1/log?after=1").await.json();
    let entry = &log["entries"][0];
    assert_eq!((&entry["index"], &entry["board"], &entry["id"]), (&index, &json!("quotes"), &json!("k-1")));
    assert_eq!((&entry["command"], &log["next"]), (&json!("post"), &json!(null)));
}

#[tokio::test]
async fn foreign_pages_and_names_are_kept_out() {
    let stage = Stage::open(64).await;
    let post = |name: &'static str, value: &str| {
        let body = json!({"author": "Ada", "text": "x"});
        stage.ask(stage.http.post(stage.at("/api/v1/quotes")).header(name, value).json(&body))
    };
    let foreign = post("Origin", "https://evil.example").await;
    assert_eq!((foreign.status, &foreign.json()["code"]), (403, &json!("foreign_origin")));
    let rebound = post("Host", "evil.example").await;
    assert_eq!((rebound.status, &rebound.json()["code"]), (403, &json!("foreign_host")));
    assert_eq!(post("Origin", &stage.url.clone()).await.status, 201);
    assert_eq!(post("Origin", "http://n1.example").await.status, 201, "a member's page");
    let read = stage.http.get(stage.at("/api/v1/quotes")).header("Origin", "http://n1.example");
    assert_eq!(stage.ask(read).await.header("access-control-allow-origin"), Some("http://n1.example"));
}

#[tokio::test]
async fn whatever_is_asked_is_answered_with_its_headers() {
    let stage = Stage::open(64).await;
    for (path, status) in [
        ("/", 200),
        ("/cluster", 200),
        ("/api/v1/cluster", 200),
        ("/version", 200),
        ("/metrics", 200),
        ("/no", 404),
    ] {
        let reply = stage.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        for name in ["chorus-index", "chorus-node", "content-security-policy", "referrer-policy"] {
            assert!(reply.header(name).is_some(), "{path} {name}");
        }
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
    let cluster = stage.get("/api/v1/cluster").await.json();
    assert_eq!((&cluster["node"], &cluster["nodes"][2]["role"]), (&json!("n2"), &json!("dead")));
    let index = stage.log.quote("told of a moment ago");
    let cluster = stage.get(&format!("/api/v1/cluster?min_index={index}")).await.json();
    assert_eq!(cluster["commit_index"], json!(index), "a view is made ten times a second");
    assert_eq!(cluster["nodes"][1]["applied_index"], json!(index), "{cluster}");
    let far = stage.get("/api/v1/cluster?consistency=sometimes").await;
    assert_eq!((far.status, &far.json()["errors"][0]["field"]), (422, &json!("consistency")));
    let wrong = stage.ask(stage.http.delete(stage.at("/api/v1/quotes"))).await;
    assert_eq!((wrong.status, &wrong.json()["code"]), (405, &json!("bad_method")));
    let metrics = stage.get("/metrics").await.text;
    assert!(metrics.contains("chorus_datagrams_dropped_total{reason=\"replay\"} 0"), "{metrics}");
    assert!(metrics.contains("chorus_http_answers_total{method=\"DELETE\",status=\"405\"} 1"), "{metrics}");
}

#[tokio::test]
async fn what_is_ready_has_applied_no_more_than_is_committed() {
    let stage = Stage::open(64).await;
    // The stage's view of the cluster stays at the first entry, as one does that is looked at less often.
    for key in ["one", "two", "three"] {
        assert_eq!(stage.post(key, json!({"author": "Ada", "text": "x"})).await.status, 201);
    }
    let ready = stage.get("/readyz?verbose").await.json();
    assert_eq!(ready["checks"][2]["detail"], "applied 4 of 4", "{ready}");
}

/// What the answer to a list may weigh, in bytes, whatever its rows are: half of it is the rows' own.
const LIST_BYTES_MAX: usize = 1 << 20;

/// The rows of a board, page by page, as many at once as may be asked for; and how many pages that took.
async fn all_rows(stage: &Stage, board: &str, go_on: &str) -> (Vec<Value>, usize) {
    let (mut rows, mut pages, mut place) = (Vec::new(), 0, String::new());
    loop {
        let page = stage.get(&format!("/api/v1/{board}?limit=500{place}")).await;
        assert!(page.text.len() <= LIST_BYTES_MAX, "{board}: a page of {} bytes", page.text.len());
        let page = page.json();
        let items = page["items"].as_array().expect("items");
        assert!(!items.is_empty(), "a page that others follow has a row");
        rows.extend(items.iter().cloned());
        pages += 1;
        match &page["next"] {
            Value::Null => return (rows, pages),
            Value::String(next) => place = format!("&{go_on}={next}"),
            next => place = format!("&{go_on}={next}"),
        }
    }
}

#[tokio::test]
async fn a_list_of_heavy_rows_ends_early_and_goes_on_where_it_ended() {
    let stage = Stage::open(64).await;
    let value = "x".repeat(64 * 1024);
    for n in 10..30 {
        let put = stage.http.put(stage.at(&format!("/api/v1/store/{n}"))).json(&json!({ "value": value }));
        assert_eq!(stage.ask(put).await.status, 201);
    }
    let (pairs, pages) = all_rows(&stage, "store", "after").await;
    let keys: Vec<_> = pairs.iter().map(|pair| pair["key"].as_str().expect("a key").to_owned()).collect();
    assert_eq!(keys, (10..30).map(|n| n.to_string()).collect::<Vec<_>>());
    println!("measured: 20 values of 64 KiB in {pages} pages");
    assert!(pages > 1);

    let mut after = 0;
    let mut values = 0;
    while values < 20 {
        let page = stage.get(&format!("/api/v1/log?limit=500&after={after}")).await;
        assert!(page.text.len() <= LIST_BYTES_MAX, "a page of {} bytes", page.text.len());
        let page = page.json();
        let entries = page["entries"].as_array().expect("entries");
        values += entries.iter().filter(|entry| entry["value"] == json!(value)).count();
        after = entries.last().expect("a page has an entry")["index"].as_u64().expect("an index");
    }

    // Four bytes each.
    let text = "\u{1F41F}".repeat(2_000);
    let seqs: Vec<_> = (0..150).map(|_| stage.log.quote(&text)).collect();
    stage.get(&format!("/api/v1/quotes?limit=1&min_index={}", seqs[149])).await;
    let (quotes, pages) = all_rows(&stage, "quotes", "before").await;
    let told: Vec<_> = quotes.iter().rev().map(|quote| quote["seq"].as_u64().expect("a seq")).collect();
    assert_eq!(told, seqs);
    assert!(pages > 1, "{pages}");
}
