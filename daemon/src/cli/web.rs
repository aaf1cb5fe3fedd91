//! The nodes' HTTP interface, from the command line: any node will do, so when one does not answer the next is asked,
//! with the same key.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Failure;
use super::controller::{Controller, request_id};
use super::place::Cluster;
use super::reach::Reach;
use super::survey::Survey;

/// How long a request may be refused for now before that is the answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long a node may take to take a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long one request may take: longer than a node lets one wait.
const REQUEST_WAIT: Duration = Duration::from_secs(8);
/// Between two tries where nobody said how long to wait.
const PAUSE: Duration = Duration::from_millis(100);

/// The pages of a cluster.
pub(super) struct Web {
    http: reqwest::Client,
    urls: Vec<String>,
    reach: Reach,
}

/// `application/problem+json`, as far as people want to know.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
    retry_ms: Option<u64>,
    errors: Vec<Field>,
}

#[derive(Debug, Deserialize)]
struct Field {
    field: String,
    detail: String,
}

/// What one node made of a request.
enum Tried {
    Answer(Value),
    Problem(Problem),
    /// Nobody there.
    Silent(String),
}

impl Web {
    /// Where the nodes' pages are: as `client.toml` knows, else as the nodes themselves say.
    pub(super) async fn find(cluster: &Cluster, controller: &mut Controller) -> Result<Self, Failure> {
        let mut urls: Vec<String> = cluster.nodes.iter().map(|node| node.url.clone()).collect();
        if urls.is_empty() {
            let until = Instant::now() + CONNECT_WAIT;
            let survey = Survey::take(controller, [], until, Survey::is_complete).await?;
            urls = survey.reports().filter_map(|report| report.url.clone()).collect();
        }
        if urls.is_empty() {
            return Err(Failure::no_leader(format!(
                "no node on {} told where its pages are: do the nodes run, and are group, interface and key theirs?",
                cluster.whereabouts()
            )));
        }
        let client = cluster.reach.client(REQUEST_WAIT, urls.iter().map(String::as_str))?;
        Ok(Self { http: built(client)?, urls, reach: cluster.reach.clone() })
    }

    /// The nodes' URLs, without a slash at the end.
    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// How they are reached.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Writes, once: every try bears the same key.
    pub(super) async fn write(&self, method: Method, path: &str, body: &Value) -> Result<Value, Failure> {
        self.write_as(request_id().as_str(), method, path, body).await
    }

    /// Writes under a key of the caller's own.
    pub(super) async fn write_as(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        self.ask(|url| {
            let request = self.http.request(method.clone(), format!("{url}{path}"));
            request.header("Idempotency-Key", key).json(body)
        })
        .await
    }

    /// Reads.
    pub(super) async fn read(&self, path: &str) -> Result<Value, Failure> {
        self.ask(|url| self.http.get(format!("{url}{path}"))).await
    }

    async fn ask(&self, request: impl Fn(&str) -> reqwest::RequestBuilder) -> Result<Value, Failure> {
        let until = Instant::now() + ANSWER_WAIT;
        let mut silent = Vec::new();
        for url in self.urls.iter().cycle() {
            let (pause, failure) = match attempt(request(url)).await {
                Tried::Answer(answer) => return Ok(answer),
                Tried::Problem(problem) => match problem.retry_ms {
                    Some(retry_ms) => (Duration::from_millis(retry_ms), problem.into_failure()),
                    None => return Err(problem.into_failure()),
                },
                Tried::Silent(error) => {
                    silent.push(url);
                    // Once round: nobody is there. More patience does not bring a machine back.
                    if silent.len() >= self.urls.len() {
                        return Err(Failure::refused(format!(
                            "no node answers at {}: {error}",
                            self.urls.join(", ")
                        )));
                    }
                    continue;
                }
            };
            silent.clear();
            if Instant::now() + pause >= until {
                return Err(failure);
            }
            sleep(pause.max(PAUSE)).await;
        }
        Err(Failure::refused("no node is known"))
    }
}

impl Problem {
    fn into_failure(self) -> Failure {
        let fields: Vec<String> =
            self.errors.iter().map(|error| format!("{}: {}", error.field, error.detail)).collect();
        let detail = if fields.is_empty() { self.detail } else { fields.join("; ") };
        Failure::of_code(&self.code, &detail)
    }
}

/// A client that is ready.
pub(super) fn built(client: reqwest::ClientBuilder) -> Result<reqwest::Client, Failure> {
    client.build().map_err(|error| Failure::refused(format!("this system has no HTTP client: {error}")))
}

async fn attempt(request: reqwest::RequestBuilder) -> Tried {
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return Tried::Silent(innermost(&error)),
    };
    let status = answer.status();
    let text = match answer.text().await {
        Ok(text) => text,
        Err(error) => return Tried::Silent(innermost(&error)),
    };
    if status.is_success() {
        return serde_json::from_str(&text).map_or_else(|_| Tried::Problem(odd(status)), Tried::Answer);
    }
    Tried::Problem(serde_json::from_str(&text).unwrap_or_else(|_| odd(status)))
}

/// Whoever answered is no node.
fn odd(status: StatusCode) -> Problem {
    Problem { detail: format!("it answered {status}, but not as a node does"), ..Problem::default() }
}

/// The cause in the system's words, without the layers above it.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A text as one segment of a path (RFC 3986: everything but unreserved characters is encoded).
pub(super) fn path_segment(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    // "." and ".." mean directories, also when they are encoded (RFC 3986, 6.2.2.3).
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_of_a_path() {
        assert_eq!(path_segment("a b/c?ü"), "a%20b%2Fc%3F%C3%BC");
    }
}
