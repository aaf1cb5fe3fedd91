//! Who gets in, and who does not: names, origins, tokens, what is private, and how often.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chorus::guard::{Files, Guard};
use futures_util::future::join_all;
use reqwest::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, SET_COOKIE};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{EPOCH, Reply, Stage, within};

const READER: &str = "a-reader's-token-0001";
const WRITER: &str = "a-writer's-token-0001";
const MODERATOR: &str = "a-moderator's-token-1";
const GATEWAY: &str = "the-gateway's-secret-1";
/// A member's page; the stage names it so.
const MEMBER: &str = "http://n1.example";
const EMAIL: &str = "ada@lovelace.example";

/// A file for this user alone.
fn private(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("a file");
    file.write_all(text.as_bytes()).expect("it is written");
    path
}

/// A stage where readers, writers, moderators and a gateway have secrets.
async fn guarded() -> (Stage, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name, text| Some(private(directory.path(), name, text));
    let files = Files {
        readers: file("readers", READER),
        writers: file("writers", WRITER),
        moderators: file("moderators", MODERATOR),
        gateway: file("gateway", GATEWAY),
        tls: None,
    };
    (Stage::open_guarded(Guard::read(files).expect("good files")).await, directory)
}

fn quote() -> Value {
    json!({ "author": "Ada", "text": "x" })
}

fn bearer(request: RequestBuilder, token: &str) -> RequestBuilder {
    request.header(AUTHORIZATION, format!("Bearer {token}"))
}

async fn post(stage: &Stage, path: &str, token: &str, body: Value) -> Reply {
    stage.ask(bearer(stage.http.post(stage.at(path)), token).json(&body)).await
}

/// All routes, each with its methods.
async fn routes(stage: &Stage) -> Vec<(Method, String)> {
    let document = stage.get("/openapi.json").await.json();
    let variables = [("{key}", "1"), ("{id}", "1"), ("{version}", "v"), ("{name}", "chorus.css")];
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let asked = variables.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_some() {
                routes.push((method.to_uppercase().parse().expect("a method"), asked.clone()));
            }
        }
    }
    assert!(routes.len() > 40, "{routes:?}");
    routes
}

fn refused(reply: &Reply, code: &str) {
    assert_eq!((reply.status, &reply.json()["code"]), (403, &json!(code)), "{reply:?}");
}

/// Under a foreign name a page may read the answer.
fn tells_nothing_of_the_node(reply: &Reply) {
    let own = reply.headers.keys().find(|name| name.as_str().starts_with("chorus-"));
    assert!(own.is_none(), "{own:?} under a foreign name: {reply:?}");
}

#[tokio::test]
async fn under_a_foreign_name_health_is_a_word_and_a_status() {
    let stage = Stage::open(64).await;
    let asked = async |path: &str, host: &str| {
        stage.ask(stage.http.get(stage.at(path)).header(HOST, host.to_owned())).await
    };
    let own = asked("/readyz?verbose", "localhost").await;
    assert!(own.text.contains("n2 leads in term 7") && own.header("chorus-node") == Some("n2"), "{own:?}");
    stage.lead(false);
    let own = asked("/readyz", "localhost").await;
    assert!(own.status == 503 && own.text.contains("missing n1, n3"), "{own:?}");
    for path in ["/readyz", "/readyz?verbose", "/readyz?verbose=1"] {
        let reply = asked(path, "evil.example").await;
        assert_eq!((reply.status, reply.text.as_str()), (503, "not ready\n"), "{path}");
        tells_nothing_of_the_node(&reply);
    }
    stage.lead(true);
    for path in ["/readyz", "/readyz?verbose", "/livez", "/livez?verbose"] {
        let reply = asked(path, "evil.example").await;
        assert_eq!((reply.status, reply.text.as_str()), (200, "ok\n"), "{path}");
        tells_nothing_of_the_node(&reply);
    }
    let posted = stage.ask(stage.http.post(stage.at("/readyz")).header(HOST, "evil.example")).await;
    refused(&posted, "foreign_host");
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused_on_every_route() {
    let stage = Stage::open(64).await;
    let port = stage.url.rsplit(':').next().expect("a port").to_owned();
    let origins =
        ["http://evil.example", "null", "http://127.0.0.1.evil.example", "file://", "http://127.0.0.1:1"];
    let mut cases = 0;
    for (method, path) in routes(&stage).await {
        let request = || stage.http.request(method.clone(), stage.at(&path));
        for host in [
            "evil.example".to_owned(),
            format!("evil.example:{port}"),
            format!("localhost.evil.example:{port}"),
        ] {
            let reply = stage.ask(request().header(HOST, host)).await;
            // Whoever watches over nodes asks for one word by whatever name.
            if ["/livez", "/readyz"].contains(&path.as_str()) {
                assert_eq!((reply.status, reply.text.as_str()), (200, "ok\n"), "{path}");
            } else {
                refused(&reply, "foreign_host");
            }
            tells_nothing_of_the_node(&reply);
            cases += 1;
        }
        for origin in origins {
            refused(&stage.ask(request().header(ORIGIN, origin)).await, "foreign_origin");
            cases += 1;
        }
        if method != Method::GET {
            for site in ["cross-site", "same-site"] {
                refused(&stage.ask(request().header("sec-fetch-site", site)).await, "foreign_origin");
                cases += 1;
            }
            // Forms go to the node that they came from; but for a drill, which ends the node that shows its button.
            let from_member = stage.ask(request().header(ORIGIN, MEMBER));
            if path == "/cluster/drill" {
                assert_eq!(from_member.await.status, 404, "no supervisor has this node in its care");
            } else if !path.starts_with("/api/") {
                refused(&from_member.await, "foreign_origin");
            }
        }
    }
    for origin in origins {
        assert_eq!(stage.socket(Some(origin)).await.err(), Some(403), "{origin}");
    }
    assert!(stage.socket(Some(MEMBER)).await.is_ok(), "a member's page may follow the feed");
    println!("measured: {cases} foreign requests, each answered 403");
    let written = stage.get("/api/v1/quotes").await.json();
    assert_eq!(written["items"], json!([]), "nothing of it was done");
}

#[tokio::test]
async fn a_token_opens_what_it_is_for_and_no_more() {
    let (stage, _files) = guarded().await;
    for path in ["/", "/donors", "/api/v1/quotes", "/api/v1/log"] {
        assert_eq!(stage.get(path).await.status, 200, "{path}: everyone may read what is not private");
    }
    let nobody = stage.ask(stage.http.post(stage.at("/api/v1/quotes")).json(&quote())).await;
    assert_eq!((nobody.status, &nobody.json()["code"]), (401, &json!("bad_token")));
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    for token in ["", "a guess of some length", READER] {
        assert_eq!(post(&stage, "/api/v1/quotes", token, quote()).await.status, 401, "{token}");
    }
    let wrong = stage.ask(bearer(stage.http.get(stage.at("/api/v1/quotes")), "a guess of some length")).await;
    assert_eq!(wrong.status, 401, "a wrong token is said also where none was needed");
    for (method, path) in routes(&stage).await.into_iter().filter(|(method, _)| method != Method::GET) {
        let reply = stage.ask(stage.http.request(method.clone(), stage.at(&path))).await;
        // The page that takes tokens is open to all: it says that no token was forgotten.
        assert_eq!(reply.status, if path == "/token" { 303 } else { 401 }, "{method} {path}");
    }

    let posted = post(&stage, "/api/v1/quotes", WRITER, quote()).await;
    assert_eq!(posted.status, 201);
    let path = format!("/api/v1/quotes/{}/hide", posted.json()["id"].as_str().expect("an id"));
    let by = || json!({ "by": "Eve" });
    assert_eq!(post(&stage, &path, WRITER, by()).await.status, 401, "a writer hides nothing");
    assert_eq!(post(&stage, "/cluster/drill", WRITER, by()).await.status, 401, "nor orders a drill");
    assert_eq!(post(&stage, &path, MODERATOR, by()).await.status, 200);
}

#[tokio::test]
async fn without_token_files_everything_is_everyones() {
    let stage = Stage::open(64).await;
    let reply = post(&stage, "/api/v1/quotes", "of another cluster", quote()).await;
    assert_eq!(reply.status, 201, "a token that nobody asks for changes nothing");
    let rights = stage.get("/api/v1/token").await.json();
    assert_eq!(rights, json!({ "reads": true, "writes": true, "moderates": true, "session": null }));
    let mut socket = stage.feed().await;
    socket.say(json!({ "t": "resume", "token": "of another cluster" })).await;
    socket.frame_of("tick").await;
}

#[tokio::test]
async fn a_page_takes_a_token_for_a_cookie_that_counts_on_its_own_node_alone() {
    let (stage, _files) = guarded().await;
    let give = |token: &str| {
        let form = format!("token={}", token.replace('\'', "%27"));
        stage.ask(stage.http.post(stage.at("/token")).header(ORIGIN, &stage.url).body(form))
    };
    let wrong = give("a guess of some length").await;
    assert!(wrong.status == 401 && wrong.text.contains("none of those"), "{wrong:?}");
    assert!(wrong.header(SET_COOKIE.as_str()).is_none());
    let given = give(WRITER).await;
    assert_eq!((given.status, given.header("location")), (303, Some("/token")));
    let cookie = given.header(SET_COOKIE.as_str()).expect("a cookie").to_owned();
    for promise in ["Path=/", "Max-Age=604800", "HttpOnly", "SameSite=Strict"] {
        assert!(cookie.contains(promise), "{cookie}");
    }
    assert!(!cookie.contains(WRITER), "the token itself is not in it");
    let cookie = cookie.split(';').next().expect("its value").to_owned();

    let with_cookie = |path: &str, origin: &str| {
        stage.http.post(stage.at(path)).header(COOKIE, &cookie).header(ORIGIN, origin)
    };
    let form = "author=Ada&text=by+cookie";
    assert_eq!(stage.ask(with_cookie("/quotes", &stage.url).body(form)).await.status, 303);
    let from_elsewhere = with_cookie("/api/v1/quotes", MEMBER).json(&quote());
    assert_eq!(
        stage.ask(from_elsewhere).await.status,
        401,
        "a cookie that a member's page sends along is none"
    );

    // What the page takes along in its place.
    let asked = stage.http.get(stage.at("/api/v1/token")).header(COOKIE, &cookie);
    let session = stage.ask(asked).await.json()["session"].as_str().expect("a session").to_owned();
    let moved = stage.http.post(stage.at("/api/v1/quotes")).header(ORIGIN, MEMBER);
    assert_eq!(stage.ask(bearer(moved, &session).json(&quote())).await.status, 201);
    let preflight = stage.http.request(Method::OPTIONS, stage.at("/api/v1/quotes")).header(ORIGIN, MEMBER);
    let preflight = stage.ask(preflight.header("access-control-request-method", "POST")).await;
    let allowed = preflight.header("access-control-allow-headers").unwrap_or_default();
    assert!(preflight.status == 204 && allowed.contains("authorization"), "{preflight:?}");
    let as_cookie = stage.http.post(stage.at("/quotes")).header(ORIGIN, &stage.url);
    let as_cookie = as_cookie.header(COOKIE, format!("chorus-token={session}")).body(form);
    assert_eq!(stage.ask(as_cookie).await.status, 401, "a page's session is no cookie");

    let forgotten = give("").await;
    assert!(forgotten.header(SET_COOKIE.as_str()).is_some_and(|cookie| cookie.contains("Max-Age=0")));
    let html = stage.http.post(stage.at("/quotes")).header("Accept", "text/html").body(form);
    let page = stage.ask(html).await;
    assert!(page.status == 401 && page.text.contains("href=\"/token\""), "a person is told where: {page:?}");
}

#[tokio::test]
async fn the_feed_asks_for_the_same_tokens() {
    let (stage, _files) = guarded().await;
    let body = || json!({ "t": "post", "id": "a", "topic": "quotes", "body": quote() });
    let resume =
        |token: Option<&str>| json!({ "t": "resume", "epoch": EPOCH, "after": null, "token": token });
    let mut socket = stage.feed().await;
    socket.say(resume(None)).await;
    socket.say(body()).await;
    assert_eq!(socket.frame_of("nack").await["code"], "bad_token");
    let mut socket = stage.feed().await;
    socket.say(resume(Some("a guess of some length"))).await;
    assert_eq!(socket.close_code().await, 4401);
    let mut socket = stage.feed().await;
    socket.say(resume(Some(WRITER))).await;
    socket.say(body()).await;
    assert_eq!(socket.frame_of("ack").await["id"], "a");
}

#[tokio::test]
async fn what_is_private_is_hidden_from_those_without_the_readers_token() {
    let (stage, _files) = guarded().await;
    let donor = json!({ "name": "Ada", "email": EMAIL, "amount_minor": 5, "currency": "EUR" });
    let added = post(&stage, "/api/v1/donors", WRITER, donor.clone()).await.json();
    let rows = json!({ "rows": [donor] });
    assert_eq!(post(&stage, "/api/v1/donors/import", WRITER, rows).await.status, 201);
    let one = format!("/api/v1/donors/{}", added["id"].as_str().expect("an id"));
    let told = "/api/v1/feed?after=0".to_owned();
    for path in ["/api/v1/donors", &one, "/donors", "/donors.csv", "/api/v1/log"] {
        let hidden = stage.get(path).await;
        assert!(hidden.status == 200 && hidden.text.contains("Ada"), "{path}: {hidden:?}");
        assert!(!hidden.text.contains("lovelace"), "{path}: {hidden:?}");
        // What is kept in memory for those who may see it is not given to the others, nor the other way round.
        let shown = stage.ask(bearer(stage.http.get(stage.at(path)), READER)).await;
        assert_eq!(shown.text.contains(EMAIL), path != "/api/v1/log", "{path}: {shown:?}");
        assert!(!stage.get(path).await.text.contains("lovelace"), "{path}");
    }
    for path in ["/api/v1/donors?sort=email", "/api/v1/donors?sort=-email", "/donors?sort=email"] {
        assert_eq!(stage.get(path).await.status, 401, "{path}: an order tells too");
        assert_eq!(stage.ask(bearer(stage.http.get(stage.at(path)), READER)).await.status, 200, "{path}");
    }
    for (token, sees) in [(None, false), (Some(READER), true)] {
        let mut socket = stage.feed().await;
        socket.say(json!({ "t": "resume", "epoch": EPOCH, "after": 0, "token": token })).await;
        let batch = socket.frame_of("batch").await.to_string();
        assert!(batch.contains("Ada") && batch.contains("lovelace") == sees, "{batch}");
        let mut events = stage.http.get(stage.at(&told));
        if let Some(token) = token {
            events = bearer(events, token);
        }
        let text = within(until(events, "Ada")).await;
        assert_eq!(text.contains("lovelace"), sees, "{text}");
    }
}

/// What a stream says until it has said this.
async fn until(request: RequestBuilder, awaited: &str) -> String {
    let mut response = request.send().await.expect("an answer");
    let mut text = String::new();
    while !text.contains(awaited) {
        let chunk = response.chunk().await.expect("it goes on").expect("it does not end");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    text
}

#[tokio::test]
async fn an_address_that_writes_too_often_waits_and_its_neighbour_does_not() {
    let (stage, _files) = guarded().await;
    let ask = |address: &str, secret: &str| {
        let request = bearer(stage.http.post(stage.at("/api/v1/quotes")), WRITER).json(&quote());
        let request = request.header("Forwarded", format!("for={address};proto=https"));
        stage.ask(request.header("Chorus-Gateway", secret))
    };
    let mut refused = None;
    for _ in 0..40 {
        // Some at once: one after the other a slow disk might let none be too many.
        let replies = join_all((0..50).map(|_| ask("192.0.2.7", GATEWAY))).await;
        refused = replies.into_iter().find(|reply| reply.status != 201);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("two thousand, fifty at a time, are too many");
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("too_many")), "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(ask("192.0.2.8", GATEWAY).await.status, 201);
    assert_eq!(
        ask("192.0.2.7", "a guess of some length").await.status,
        201,
        "only a gateway speaks for others"
    );
}

#[tokio::test]
async fn a_head_has_its_limits() {
    let stage = Stage::open(64).await;
    let address = stage.url.trim_start_matches("http://").to_owned();
    let ask = |head: String| {
        let address = address.clone();
        async move {
            let mut stream = TcpStream::connect(&address).await.expect("a connection");
            let _may_be_cut_off = stream.write_all(head.as_bytes()).await;
            let mut answer = Vec::new();
            let _until_it_closes = within(stream.read_to_end(&mut answer)).await;
            String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
        }
    };
    let head =
        |more: &str| format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n");
    assert_eq!(ask(head("")).await, "HTTP/1.1 200 OK");
    let long = ask(head(&format!("X: {}\r\n", "x".repeat(64 * 1024)))).await;
    assert!(long.is_empty() || long.contains("431"), "{long}");
    let many: String = (0..200).map(|n| format!("X-{n}: x\r\n")).collect();
    let many = ask(head(&many)).await;
    assert!(many.is_empty() || many.contains("431"), "{many}");
}

#[tokio::test]
async fn files_are_read_again_and_a_bad_one_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = private(directory.path(), "writers", WRITER);
    let guard = Guard::read(Files { writers: Some(path.clone()), ..Files::default() }).expect("a good file");
    let stage = Stage::open_guarded(guard.clone()).await;
    assert_eq!(post(&stage, "/api/v1/quotes", WRITER, quote()).await.status, 201);
    let mut sockets = Vec::new();
    for token in [None, Some(WRITER)] {
        let mut socket = stage.feed().await;
        socket.say(json!({ "t": "resume", "epoch": EPOCH, "after": null, "token": token })).await;
        socket.frame_of("tick").await;
        sockets.push(socket);
    }
    let [nobodys, writers] = &mut sockets[..] else { panic!("two feeds") };
    let mut events =
        within(bearer(stage.http.get(stage.at("/api/v1/feed")), WRITER).send()).await.expect("an answer");

    fs::write(&path, "too short").expect("it is written");
    assert!(guard.reread().is_err());
    assert_eq!(post(&stage, "/api/v1/quotes", WRITER, quote()).await.status, 201);
    fs::write(&path, format!("{MODERATOR}\n{WRITER}\n")).expect("it is written");
    guard.reread().expect("a good file");
    writers.say(json!({ "t": "post", "id": "a", "topic": "quotes", "body": quote() })).await;
    assert_eq!(writers.frame_of("ack").await["id"], "a", "its token is still there");
    fs::write(&path, MODERATOR).expect("it is written");
    guard.reread().expect("a good file");
    assert_eq!(writers.close_code().await, 4401, "an open feed ends with its token");
    within(async { while events.chunk().await.expect("a whole answer").is_some() {} }).await;
    nobodys.frame_of("tick").await;
    nobodys.frame_of("tick").await;
    assert_eq!(post(&stage, "/api/v1/quotes", WRITER, quote()).await.status, 401);
    assert_eq!(post(&stage, "/api/v1/quotes", MODERATOR, quote()).await.status, 201);
}
