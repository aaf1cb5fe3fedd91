//! What a person's page or a program does over HTTP.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chorus::guard::Trust;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::metrics;

/// Speaks with one node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    http: reqwest::Client,
}

/// `/api/v1/cluster`, as far as the tests look at it.
#[derive(Debug, Deserialize)]
pub(crate) struct View {
    pub(crate) leader: Option<String>,
    pub(crate) why: Option<String>,
    pub(crate) nodes: Vec<NodeView>,
}

/// One node in it.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeView {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) voter: bool,
    pub(crate) pid: Option<i32>,
}

/// `201` of a post.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Posted {
    pub(crate) index: u64,
    pub(crate) id: String,
}

/// `application/problem+json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) retry_ms: Option<u64>,
    #[serde(default)]
    pub(crate) errors: Vec<FieldProblem>,
}

/// One field that cannot be taken.
#[derive(Debug, Deserialize)]
pub(crate) struct FieldProblem {
    pub(crate) field: String,
}

/// A row of `GET /api/v1/quotes`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Quote {
    pub(crate) seq: u64,
    pub(crate) id: String,
    pub(crate) author: String,
    pub(crate) text: String,
    pub(crate) node: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(1))
            .timeout(Duration::from_secs(10))
            .tls_backend_preconfigured(chorus::guard::client(Trust::Nobody).expect("nobody is believed"))
            .build()
            .expect("a client without TLS needs nothing");
        Self { address, http }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// `/api/v1/cluster`; none when the node does not answer.
    pub(crate) async fn view(&self) -> Option<View> {
        let answer = self.request(Method::GET, "/api/v1/cluster").send().await.ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }

    /// Whether the node answers a read that must see all that was committed before it was asked.
    pub(crate) async fn is_current(&self) -> bool {
        let read = self.request(Method::GET, "/api/v1/quotes?limit=1&consistency=linearizable").send().await;
        read.is_ok_and(|answer| answer.status().is_success())
    }

    /// The text at `path`.
    pub(crate) async fn text(&self, path: &str) -> String {
        let answer = self.request(Method::GET, path).send().await.expect("the node answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.text().await.expect("a body")
    }

    /// A counter or gauge of the node, by its name with its labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let told = self.text("/metrics").await;
        metrics::value(&told, name).unwrap_or_else(|| panic!("no {name} in {told}"))
    }

    /// Sends a quote under `key`.
    pub(crate) async fn send_quote(&self, key: &str, author: &str, text: &str) -> reqwest::Result<Response> {
        self.quote_to_send(key, author, text).send().await
    }

    pub(crate) fn quote_to_send(&self, key: &str, author: &str, text: &str) -> RequestBuilder {
        let body = json!({ "author": author, "text": text });
        self.request(Method::POST, "/api/v1/quotes").header("Idempotency-Key", key).json(&body)
    }

    /// Sends a quote once; the acknowledgement, or none for whatever else happened.
    pub(crate) async fn try_quote(&self, key: &str, author: &str, text: &str) -> Option<Posted> {
        let answer = self.send_quote(key, author, text).await.ok()?;
        match answer.status() {
            StatusCode::CREATED => Some(answer.json().await.expect("index and id")),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                None
            }
            other => panic!("a quote was answered {other}: {}", answer.text().await.unwrap_or_default()),
        }
    }

    /// Sends a quote that must be acknowledged at the first try.
    pub(crate) async fn quote(&self, key: &str, author: &str, text: &str) -> Posted {
        let answer = self.send_quote(key, author, text).await.expect("the node answers");
        let status = answer.status();
        let body = answer.text().await.expect("a body");
        assert_eq!(status, StatusCode::CREATED, "{body}");
        serde_json::from_str(&body).expect("index and id")
    }

    /// All quotes, oldest first, read page by page.
    pub(crate) async fn all_quotes(&self) -> Vec<Quote> {
        let mut quotes: Vec<Quote> = Vec::new();
        let mut path = "/api/v1/quotes?limit=500".to_owned();
        loop {
            let page: Value = serde_json::from_str(&self.text(&path).await).expect("JSON");
            quotes.extend(serde_json::from_value::<Vec<Quote>>(page["items"].clone()).expect("quotes"));
            match page["next"].as_u64() {
                Some(next) => path = format!("/api/v1/quotes?limit=500&before={next}"),
                None => break,
            }
        }
        quotes.reverse();
        quotes
    }
}

/// The problem that an answer tells.
pub(crate) async fn problem(answer: Response) -> Problem {
    let status = answer.status();
    let kind =
        answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let body = answer.text().await.expect("a body");
    assert!(kind.starts_with("application/problem+json"), "{status} as '{kind}': {body}");
    let problem: Problem = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(problem.status, status.as_u16(), "{body}");
    problem
}

/// `chorus_datagrams_dropped_total` by reason.
pub(crate) async fn dropped(client: &Client) -> BTreeMap<String, u64> {
    let metrics = client.text("/metrics").await;
    let counters = metrics.lines().filter_map(|line| {
        let (reason, count) =
            line.strip_prefix("chorus_datagrams_dropped_total{reason=\"")?.split_once("\"} ")?;
        Some((reason.to_owned(), count.parse().expect("a number")))
    });
    counters.collect()
}
