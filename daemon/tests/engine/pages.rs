//! What somebody on this machine sees of a node.

use std::time::Duration;

use chorus::guard::Trust;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A client of the pages on this machine's own ports.
#[derive(Debug)]
pub(crate) struct Pages {
    http: Client,
    runtime: Runtime,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Pages {
    pub(crate) fn new() -> Self {
        let nobody = chorus::guard::client(Trust::Nobody).expect("nobody is believed");
        let http = Client::builder().timeout(Duration::from_secs(10)).tls_backend_preconfigured(nobody);
        let http = http.build().expect("a client without TLS needs nothing");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { http, runtime }
    }

    /// None: nobody answers.
    pub(crate) fn get(&self, port: u16, path: &str) -> Option<Answer> {
        self.ask(self.http.get(format!("http://127.0.0.1:{port}{path}")))
    }

    /// What the node says, which must be JSON; none: nobody answers, or not with 200.
    pub(crate) fn json(&self, port: u16, path: &str) -> Option<Value> {
        let answer = self.get(port, path).filter(|answer| answer.status == 200)?;
        Some(serde_json::from_str(&answer.text).expect("an answer of 200 is JSON here"))
    }

    /// Posts a quote, the same again under the same key; none: nobody answers.
    pub(crate) fn post_quote(&self, port: u16, text: &str) -> Option<Answer> {
        let quote = json!({ "author": "Ada", "text": text });
        let request = self.http.post(format!("http://127.0.0.1:{port}/api/v1/quotes")).json(&quote);
        self.ask(request.header("Idempotency-Key", text.replace(' ', "-")))
    }

    fn ask(&self, request: RequestBuilder) -> Option<Answer> {
        self.runtime.block_on(async {
            let answer = request.send().await.ok()?;
            Some(Answer { status: answer.status().as_u16(), text: answer.text().await.ok()? })
        })
    }
}
