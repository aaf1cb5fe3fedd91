//! The websocket, as a page uses it: for posts, and to follow the feed.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::cli::Failure;
use crate::load::Client;

/// A node says something at least once a second.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a post may be refused before its client gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// One open websocket.
pub(super) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    url: String,
}

/// What a node says, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(super) enum Frame {
    /// Several entries at once.
    Batch { items: Vec<Item> },
    /// One entry.
    Event { seq: u64, items: Vec<Item> },
    /// A post is done.
    Ack { id: String, seq: u64 },
    /// A post is refused.
    Nack { id: String, code: String, detail: String, retry_ms: Option<u64> },
    /// The place in the feed is lost.
    Reset { reason: String },
    /// Hello and ticks.
    #[serde(other)]
    Other,
}

/// A thing that happened.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    /// In a batch: which entry's it is.
    #[serde(default)]
    pub(super) seq: u64,
    /// What it is about.
    #[serde(default)]
    pub(super) item: Value,
}

impl Socket {
    /// Connects to the node at `url`, and hears its hello.
    pub(super) async fn open(url: &str) -> Result<Self, Failure> {
        let refused = |why: String| Failure::refused(format!("{url}: no websocket: {why}"));
        let address = format!("{}/ws", url.replacen("http", "ws", 1));
        let address = address.parse().map_err(|_| refused(format!("{address} is no URL")))?;
        let request = ClientRequestBuilder::new(address).with_sub_protocol("chorus.v1.json");
        let opened = timeout(SILENCE_MAX, connect_async(request)).await;
        let (stream, _) = opened
            .map_err(|_| refused("it takes no connection".to_owned()))?
            .map_err(|e| refused(e.to_string()))?;
        let mut socket = Self { stream, url: url.to_owned() };
        socket.next().await.map_err(Failure::refused)?;
        Ok(socket)
    }

    /// Follows a topic from the entry `after` on.
    pub(super) async fn resume(&mut self, topic: &str, after: u64) -> Result<(), String> {
        self.say(&json!({ "t": "resume", "epoch": null, "after": after, "topics": [topic] })).await
    }

    async fn say(&mut self, frame: &Value) -> Result<(), String> {
        let said = self.stream.send(Message::text(frame.to_string())).await;
        said.map_err(|error| format!("{}: {error}", self.url))
    }

    /// The next frame.
    pub(super) async fn next(&mut self) -> Result<Frame, String> {
        loop {
            let next = timeout(SILENCE_MAX, self.stream.next()).await;
            let next =
                next.map_err(|_| format!("{} was silent for {} s", self.url, SILENCE_MAX.as_secs()))?;
            match next {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text)
                        .map_err(|error| format!("{} said what is no frame: {error}", self.url));
                }
                Some(Ok(Message::Close(close))) => return Err(format!("{} closed: {close:?}", self.url)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(format!("{}: {error}", self.url)),
                None => return Err(format!("{} went away", self.url)),
            }
        }
    }
}

/// What the quotes of one benchmark say: the request's id, then letters up to their size.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    prefix: String,
    size: usize,
}

impl Texts {
    /// `seed` sets them apart from all others.
    pub(super) fn new(seed: u64, size: u32) -> Self {
        Self { prefix: format!("bench-{seed:016x}-"), size: size as usize }
    }

    /// The `n`-th request's id.
    pub(super) fn request(&self, n: u64) -> String {
        format!("{}{n}", self.prefix)
    }

    /// What the quote of a request says.
    pub(super) fn text(&self, id: &str) -> String {
        let mut text = format!("{id} ");
        text.extend(std::iter::repeat_n('x', self.size.saturating_sub(text.len()).max(1)));
        text
    }

    /// Whose quote this is, if it is one of ours.
    pub(super) fn id<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.split(' ').next().filter(|id| id.starts_with(&self.prefix))
    }
}

/// A client that posts quotes.
pub(super) struct Poster {
    socket: Socket,
    texts: Texts,
    /// Id and seq of what was acknowledged.
    pub(super) acknowledged: Vec<(String, u64)>,
    /// The last id that it asked for.
    pub(super) unanswered: Option<String>,
    /// Posts that were sent again.
    pub(super) repeated: u64,
}

impl Poster {
    /// Connects. It has no place in the feed: only its own posts are told to it.
    pub(super) async fn open(url: &str, texts: &Texts) -> Result<Self, Failure> {
        let mut socket = Socket::open(url).await?;
        // A page must take its place within ten seconds; this one asks for a topic on which nothing comes.
        socket
            .say(&json!({ "t": "resume", "epoch": null, "after": null, "topics": [] }))
            .await
            .map_err(Failure::refused)?;
        Ok(Self { socket, texts: texts.clone(), acknowledged: Vec::new(), unanswered: None, repeated: 0 })
    }
}

impl Client for Poster {
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        let id = self.texts.request(n);
        let body = json!({ "author": "bench", "text": self.texts.text(&id) });
        let post = json!({ "t": "post", "id": id, "topic": "quotes", "body": body });
        self.unanswered = Some(id.clone());
        let begun = Instant::now();
        loop {
            self.socket.say(&post).await?;
            let retry_ms = loop {
                match self.socket.next().await? {
                    Frame::Ack { id: whose, seq } if whose == id => {
                        self.unanswered = None;
                        self.acknowledged.push((id, seq));
                        return Ok(());
                    }
                    Frame::Nack { id: whose, code, detail, retry_ms } if whose == id => match retry_ms {
                        Some(retry_ms) if begun.elapsed() < PATIENCE => break retry_ms,
                        _ => return Err(format!("{code}: {detail}")),
                    },
                    _ => {}
                }
            };
            self.repeated += 1;
            sleep(Duration::from_millis(retry_ms)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_says_whose_it_is() {
        let texts = Texts::new(7, 100);
        let id = texts.request(12);
        let text = texts.text(&id);
        assert_eq!((text.len(), texts.id(&text)), (100, Some(id.as_str())));
        assert_eq!(Texts::new(8, 100).id(&text), None, "of another run");
    }
}
