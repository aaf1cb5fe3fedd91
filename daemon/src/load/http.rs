//! One connection of HTTP/1.1 that is kept: a client of the load asks on it again and again.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a node may take to take a connection: hundreds that come at once fill its queue, and the system tries
/// again after a second, then after two more.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// How long one request may take: longer than a node lets one wait.
const ANSWER_WAIT: Duration = Duration::from_secs(8);

/// A connection to one node, opened when it is needed.
#[derive(Debug)]
pub struct Connection {
    authority: String,
    anew: bool,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What a node answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What it says besides.
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Bytes,
}

/// There was no answer: the request may have been carried out or not.
#[derive(Debug, thiserror::Error)]
#[error("{authority} gave no answer: {why}")]
pub struct Broken {
    authority: String,
    why: String,
}

impl Connection {
    /// To the node at `http://HOST:PORT`.
    #[must_use]
    pub fn to(url: &str) -> Self {
        let authority = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Self { authority, anew: false, sender: None }
    }

    /// The same, but it wants no answer that the node had kept in memory.
    #[must_use]
    pub fn reading_anew(self) -> Self {
        Self { anew: true, ..self }
    }

    /// Connects, if there is no connection. Nothing of it counts into the first request then.
    ///
    /// # Errors
    /// When the node does not take it.
    pub async fn open(&mut self) -> Result<(), Broken> {
        self.sender().await.map(drop)
    }

    /// Asks for `path`. `key` goes as Idempotency-Key; a body is JSON.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes for 8 s. The next request opens another.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<Bytes>,
    ) -> Result<Answer, Broken> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.authority);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if self.anew {
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| self.broken(&format!("{path} cannot be asked for: {error}")))?;
        let asked = async {
            let answer = self.sender().await?.send_request(request).await;
            let answer = answer.map_err(|error| self.broken(&error.to_string()))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| self.broken(&error.to_string()))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        let answer = timeout(ANSWER_WAIT, asked).await;
        answer
            .unwrap_or_else(|_| Err(self.broken(&format!("nothing for {} s", ANSWER_WAIT.as_secs()))))
            .inspect_err(|_| {
                self.sender = None;
            })
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Broken> {
        let kept = match self.sender.take() {
            // Ready once the last answer was read; an error means that the node closed.
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        Ok(self.sender.insert(sender))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Broken> {
        let stream = timeout(CONNECT_WAIT, TcpStream::connect(&self.authority)).await;
        let stream = stream
            .map_err(|_| self.broken("it takes no connection"))?
            .map_err(|error| self.broken(&error.to_string()))?;
        // A request is one small write.
        stream.set_nodelay(true).map_err(|error| self.broken(&error.to_string()))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error.to_string()))?;
        // It ends with its sender; what breaks it, the sender is told.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn broken(&self, why: &str) -> Broken {
        Broken { authority: self.authority.clone(), why: why.to_owned() }
    }
}
