//! What a page does over its websocket.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::wait::PATIENCE;

/// One open websocket.
pub(crate) struct Feed {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The epoch that the first frame named.
    epoch: Value,
    /// Everything up to here was told.
    pub(crate) cursor: u64,
}

impl Feed {
    /// Connects, and resumes after `after`, or from now.
    pub(crate) async fn open(address: SocketAddr, after: Option<u64>) -> Self {
        let mut feed = Self::connect(address).await;
        let epoch = feed.epoch.clone();
        feed.resume(&epoch, after).await;
        // "From now" is when the node reads that; its first tick says that it has.
        while after.is_none() && feed.frame().await["t"] != "tick" {}
        feed
    }

    /// Connects, and hears the first frame.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut request = format!("ws://{address}/ws").into_client_request().expect("a URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", "chorus.v1.json".parse().expect("a header"));
        let (socket, answer) = connect_async(request).await.expect("a websocket");
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "chorus.v1.json");
        let mut feed = Self { socket, epoch: Value::Null, cursor: 0 };
        let hello = feed.frame().await;
        assert_eq!(hello["t"], "hello", "{hello}");
        feed.epoch = hello["epoch"].clone();
        feed
    }

    /// The epoch that the first frame named.
    pub(crate) fn epoch(&self) -> &Value {
        &self.epoch
    }

    /// Says from where on it wants to hear.
    pub(crate) async fn resume(&mut self, epoch: &Value, after: Option<u64>) {
        self.cursor = after.unwrap_or(0);
        self.send(&json!({ "t": "resume", "epoch": epoch, "after": after, "topics": null })).await;
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("the socket is open");
    }

    /// The next frame, whatever it is. Asserts that nothing was left out before it.
    pub(crate) async fn frame(&mut self) -> Value {
        loop {
            let next =
                timeout(Duration::from_secs(10), self.socket.next()).await.expect("a frame within 10 s");
            match next.expect("the socket is open").expect("a frame") {
                Message::Text(text) => {
                    let frame = serde_json::from_str(&text).expect("one JSON object a frame");
                    self.follow(&frame);
                    return frame;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("neither text nor ping: {other:?}"),
            }
        }
    }

    /// Moves the cursor as the frame says; what comes before the first known place cannot be a gap.
    fn follow(&mut self, frame: &Value) {
        let number = |field: &str| frame[field].as_u64().unwrap_or_else(|| panic!("{field} in {frame}"));
        let (before, now) = match frame["t"].as_str() {
            Some("event") => (Some(number("prev")), number("seq")),
            Some("batch") => (Some(number("from")), number("to")),
            Some("tick") => (None, number("seq")),
            _ => return,
        };
        if let Some(before) = before.filter(|_| self.cursor > 0) {
            assert_eq!(before, self.cursor, "a gap before {frame}");
        }
        assert!(now >= self.cursor, "back from {} by {frame}", self.cursor);
        self.cursor = now;
    }

    /// Waits for the quote of this text, and skips all else.
    pub(crate) async fn wait_quote(&mut self, text: &str) {
        self.texts_until(text).await;
    }

    /// The texts of all quotes up to and with this one, in the order in which they came. More may come in the same
    /// frame after it.
    pub(crate) async fn texts_until(&mut self, last: &str) -> Vec<String> {
        let mut texts = Vec::new();
        let told = async {
            while !texts.iter().any(|text| text == last) {
                let frame = self.frame().await;
                let items = frame["items"].as_array().cloned().unwrap_or_default();
                let text = |item: &Value| item["item"]["text"].as_str().map(ToOwned::to_owned);
                texts.extend(items.iter().filter_map(text));
            }
        };
        timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for '{last}'"));
        texts
    }
}
