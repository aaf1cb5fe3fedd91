//! `/openapi.json` and `/asyncapi.yaml` say what is true: every route, every answer, every frame.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use chorus::boards::Boards;
use reqwest::Method;
use serde_json::{Value, json};

use crate::python::python;
use crate::stage::{EPOCH, Reply, Stage, within};

/// The methods that a route may have.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas")
}

/// Asserts that the samples fit what the document says of them.
fn assert_described(kind: &str, document: &str, samples: &[Value]) {
    let directory = tempfile::tempdir().expect("a directory");
    let (described, said) = (directory.path().join("document"), directory.path().join("samples.json"));
    std::fs::write(&described, document).expect("a file");
    std::fs::write(&said, Value::from(samples).to_string()).expect("a file");
    let python = python("schemas-venv", &schemas().join("requirements.txt"));
    let mut validate = Command::new(python);
    validate.env("PYTHONUTF8", "1").arg(schemas().join("validate.py")).arg(kind).args([described, said]);
    let ended = validate.output().expect("python runs");
    let (out, talk) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{out}{talk}");
}

/// A stage, and what was asked and answered on it.
struct Talk {
    stage: Stage,
    samples: Vec<Value>,
}

impl Talk {
    /// Asks `path`, which is of the route `route`.
    async fn ask(&mut self, method: &str, route: &str, path: &str, body: Option<Value>) -> Reply {
        self.ask_with(method, route, path, &[], body).await
    }

    async fn ask_with(
        &mut self,
        method: &str,
        route: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Reply {
        let method: Method = method.parse().expect("a method");
        let mut request = self.stage.http.request(method.clone(), self.stage.at(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let reply = self.stage.ask(request).await;
        let kind = reply.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        let body = if kind.ends_with("json") { reply.json() } else { json!(reply.text) };
        let headers: Vec<&str> = reply.headers.keys().map(|name| name.as_str()).collect();
        self.samples.push(json!({
            "method": method.as_str(), "path": route, "status": reply.status, "type": kind, "headers": headers, "body": body,
        }));
        reply
    }

    /// Asks for a route without variables.
    async fn get(&mut self, path: &str) -> Reply {
        self.ask("GET", path.split('?').next().expect("a path"), path, None).await
    }

    /// What was made last on a board.
    fn last_id(&self) -> String {
        let made = self.samples.last().expect("something was asked");
        made["body"]["id"].as_str().unwrap_or_else(|| panic!("nothing was made: {made}")).to_owned()
    }
}

#[tokio::test]
async fn real_answers_are_as_described() {
    let mut talk = Talk { stage: Stage::open(64).await, samples: Vec::new() };
    let document = talk.get("/openapi.json").await.text;
    for path in [
        "/api/v1/cluster",
        "/api/v1/token",
        "/version",
        "/livez",
        "/readyz",
        "/readyz?verbose",
        "/metrics",
        "/asyncapi.yaml",
    ] {
        talk.get(path).await;
    }
    for path in ["/", "/cluster"] {
        talk.get(path).await;
    }
    use_every_board(&mut talk).await;
    talk.get("/api/v1/log?limit=3").await;
    for path in ["/search?topic=systems", "/lookup?item=1"] {
        talk.get(path).await;
    }
    meet_problems(&mut talk).await;
    assert_nothing_left_out(&serde_json::from_str(&document).expect("JSON"), &talk.samples);
    // What is not described must not be said: the two above are the document itself.
    let samples: Vec<Value> =
        talk.samples.into_iter().filter(|sample| sample["path"] != "/openapi.json").collect();
    assert_described("openapi", &document, &samples);
}

async fn use_every_board(talk: &mut Talk) {
    const QUOTES: &str = "/api/v1/quotes";
    talk.ask("POST", QUOTES, QUOTES, Some(json!({"author": "Ada", "text": "x"}))).await;
    let id = talk.last_id();
    let (quote, route) = (format!("{QUOTES}/{id}"), "/api/v1/quotes/{key}");
    talk.ask("GET", route, &quote, None).await;
    talk.ask("POST", "/api/v1/quotes/{key}/hide", &format!("{quote}/hide"), Some(json!({"by": "Eve"}))).await;
    talk.ask("GET", route, &quote, None).await;
    talk.ask("POST", "/api/v1/quotes/{key}/restore", &format!("{quote}/restore"), Some(json!({"by": "Eve"})))
        .await;

    const DONORS: &str = "/api/v1/donors";
    let donor = json!({"name": "Ada", "email": "ada@example.org", "amount_minor": 500, "currency": "EUR"});
    talk.ask("POST", DONORS, DONORS, Some(donor.clone())).await;
    let path = format!("{DONORS}/{}", talk.last_id());
    talk.ask("GET", "/api/v1/donors/{key}", &path, None).await;
    talk.ask("POST", "/api/v1/donors/import", "/api/v1/donors/import", Some(json!({"rows": [donor]}))).await;

    const BOOKS: &str = "/api/v1/books";
    talk.ask("POST", "/api/v1/books/seed", "/api/v1/books/seed", None).await;
    let book = json!({"title": "The Log", "topic": "systems", "cost_minor": 1_000, "stock": 2});
    talk.ask("POST", BOOKS, BOOKS, Some(book)).await;
    let (path, route) = (format!("{BOOKS}/{}", talk.last_id()), "/api/v1/books/{key}");
    talk.ask("PATCH", route, &path, Some(json!({"cost_minor": 900}))).await;
    let quantity = || Some(json!({"quantity": 1}));
    talk.ask("POST", "/api/v1/books/{key}/purchase", &format!("{path}/purchase"), quantity()).await;
    talk.ask("POST", "/api/v1/books/{key}/restock", &format!("{path}/restock"), quantity()).await;
    talk.ask("GET", route, &path, None).await;
    let orders = talk.get("/api/v1/orders").await.json();
    let order = orders["items"][0]["id"].as_str().expect("an order").to_owned();
    talk.ask("GET", "/api/v1/orders/{key}", &format!("/api/v1/orders/{order}"), None).await;

    const TASKS: &str = "/api/v1/tasks";
    talk.ask("POST", TASKS, TASKS, Some(json!({"title": "Sweep", "created_by": "Ada"}))).await;
    let (path, route) = (format!("{TASKS}/{}", talk.last_id()), "/api/v1/tasks/{key}");
    talk.ask("PATCH", route, &path, Some(json!({"assignee": "Eve"}))).await;
    talk.ask("GET", route, &path, None).await;
    talk.ask("GET", "/api/v1/tasks/{key}/history", &format!("{path}/history"), None).await;
    let tasks = talk.get("/api/v1/tasks").await.json();
    assert_eq!(tasks["items"][0]["assignee"], "Eve");
    talk.ask("DELETE", route, &path, None).await;

    let (route, path) = ("/api/v1/store/{key}", "/api/v1/store/a/b");
    talk.ask("PUT", route, path, Some(json!({"value": "green"}))).await;
    talk.ask("GET", route, path, None).await;
    talk.get("/api/v1/store?prefix=a&limit=1").await;
    talk.ask_with("PUT", route, path, &[("If-Match", "\"1\"")], Some(json!({"value": "red"}))).await;
    talk.ask_with("DELETE", route, path, &[("If-Match", "*")], None).await;
    for board in Boards::all().iter() {
        talk.get(&format!("/api/v1/{}?limit=2", board.name())).await;
    }
}

async fn meet_problems(talk: &mut Talk) {
    const QUOTES: &str = "/api/v1/quotes";
    let body = |text: &str| Some(json!({"author": "Ada", "text": text}));
    let key = [("Idempotency-Key", "one")];
    let statuses = [
        talk.ask_with("POST", QUOTES, QUOTES, &key, body("x")).await.status,
        talk.ask_with("POST", QUOTES, QUOTES, &key, body("x")).await.status,
        talk.ask_with("POST", QUOTES, QUOTES, &key, body("y")).await.status,
        talk.ask("POST", QUOTES, QUOTES, body("")).await.status,
        talk.ask("POST", QUOTES, QUOTES, Some(json!([]))).await.status,
        talk.ask("GET", "/api/v1/store/{key}", "/api/v1/store/nothing", None).await.status,
        talk.get("/api/v1/log?limit=0").await.status,
        talk.ask("POST", QUOTES, QUOTES, body(&"x".repeat(200_000))).await.status,
    ];
    assert_eq!(statuses, [201, 201, 409, 422, 400, 404, 422, 413]);
    talk.stage.lead(false);
    let statuses = [
        talk.ask("POST", QUOTES, QUOTES, body("z")).await.status,
        talk.get("/api/v1/quotes?consistency=linearizable").await.status,
        talk.get("/api/v1/cluster").await.status,
    ];
    assert_eq!(statuses, [503, 503, 200]);
}

/// Every operation of every board was carried out, so that a new board shows its answers here too.
fn assert_nothing_left_out(document: &Value, samples: &[Value]) {
    let done = |sample: &&Value| sample["status"].as_u64().is_some_and(|status| status < 300);
    let asked: BTreeSet<(String, String)> = samples
        .iter()
        .filter(done)
        .map(|sample| {
            let text = |member: &str| sample[member].as_str().expect("text").to_owned();
            (text("method").to_lowercase(), text("path"))
        })
        .collect();
    let paths = document["paths"].as_object().expect("paths");
    for (path, method) in operations(paths) {
        if path.starts_with("/api/v1/") && !ENDLESS.contains(&path) {
            assert!(asked.contains(&(method.to_owned(), path.to_owned())), "no sample of {method} {path}");
        }
    }
}

/// Answers that never end are looked at where they are read.
const ENDLESS: [&str; 2] = ["/api/v1/feed", "/api/v1/cluster/live"];

fn operations(paths: &serde_json::Map<String, Value>) -> impl Iterator<Item = (&str, &'static str)> {
    paths.iter().flat_map(|(path, item)| {
        METHODS
            .into_iter()
            .filter(|method| item.get(method).is_some())
            .map(move |method| (path.as_str(), method))
    })
}

#[tokio::test]
async fn every_route_has_the_methods_that_are_described_and_no_others() {
    let stage = Stage::open(64).await;
    let document = stage.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    for path in paths.keys().filter(|path| !ENDLESS.contains(&path.as_str())) {
        let variables = [("{key}", "1"), ("{id}", "1"), ("{version}", "v"), ("{name}", "chorus.css")];
        let asked = variables.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        for method in METHODS {
            let request =
                stage.http.request(method.to_uppercase().parse().expect("a method"), stage.at(&asked));
            let reply = stage.ask(request).await;
            assert!(!reply.text.contains("There is nothing at"), "{path} is described, but not there");
            let described = paths[path].get(method).is_some();
            assert_eq!(described, reply.status != 405, "{method} {path}: {}", reply.status);
        }
    }
}

#[tokio::test]
async fn who_asks_by_a_method_that_a_route_does_not_have_is_told_those_that_it_has() {
    let stage = Stage::open(64).await;
    let document = stage.get("/openapi.json").await.json();
    let mut refused = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        let mut has: BTreeSet<String> =
            METHODS.into_iter().filter(|method| item.get(method).is_some()).map(str::to_uppercase).collect();
        if has.contains("GET") {
            has.insert("HEAD".to_owned());
        }
        let others = METHODS.into_iter().chain(["head", "options", "purge"]).map(str::to_uppercase);
        for method in others.filter(|method| !has.contains(method)) {
            let request = stage
                .http
                .request(method.parse().expect("a method"), stage.at(&path.replace(['{', '}'], "")));
            let reply = stage.ask(request).await;
            let allowed = reply.header("allow").unwrap_or_default();
            let allowed: BTreeSet<String> =
                allowed.split(',').map(|method| method.trim().to_owned()).collect();
            assert_eq!((reply.status, &allowed), (405, &has), "{method} {path}: {reply:?}");
            refused += 1;
        }
    }
    println!("measured: {refused} methods refused, each with those that are allowed");
}

#[tokio::test]
async fn real_frames_are_as_described() {
    let stage = Stage::open(64).await;
    let document = stage.get("/asyncapi.yaml").await.text;
    let mut samples = Vec::new();
    let mut socket = stage.socket(None).await.expect("a websocket");
    let mut said = |frame: Value| {
        samples.push(json!({ "message": frame["t"], "body": frame }));
        frame
    };
    said(socket.frame().await);
    stage.log.quote("before");
    let resume = json!({"t": "resume", "epoch": EPOCH, "after": 0, "topics": null});
    socket.say(said(resume)).await;
    said(socket.frame_of("batch").await);
    for (id, text) in [("good", "x"), ("bad", "")] {
        let post = json!({"t": "post", "id": id, "topic": "quotes", "body": {"author": "Ada", "text": text}});
        socket.say(said(post)).await;
    }
    within(async {
        let mut awaited = BTreeSet::from(["ack", "nack", "event", "tick"]);
        while !awaited.is_empty() {
            let frame = said(socket.frame().await);
            let kind = frame["t"].as_str().expect("a kind");
            awaited.remove(kind);
            if kind == "tick" && awaited.contains("event") {
                // What was applied while the follower read the store came by a batch; the next comes alone.
                stage.log.quote("again");
            }
        }
    })
    .await;
    stage.lead(false);
    socket
        .say(said(
            json!({"t": "post", "id": "late", "topic": "quotes", "body": {"author": "Ada", "text": "y"}}),
        ))
        .await;
    said(socket.frame_of("nack").await);
    let mut stranger = stage.feed().await;
    stranger
        .say(said(json!({"t": "resume", "epoch": "00000000000000000000000000000000.9", "after": 1})))
        .await;
    said(stranger.frame_of("reset").await);
    let kinds: BTreeSet<&str> = samples.iter().filter_map(|sample| sample["message"].as_str()).collect();
    assert_eq!(kinds.len(), 9, "every message was said: {kinds:?}");
    assert_described("asyncapi", &document, &samples);
}
