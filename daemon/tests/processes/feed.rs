//! What a page does over its websocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use std::net::SocketAddr;

/// One open websocket.
pub(crate) struct Feed {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The first frame.
    pub(crate) hello: Value,
}

impl Feed {
    /// Connects, and resumes after `after`, or from now.
    pub(crate) async fn open(address: SocketAddr, after: Option<u64>) -> Self {
        let mut request = format!("ws://{address}/ws").into_client_request().expect("a URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", "chorus.v1.json".parse().expect("a header"));
        let (socket, _) = connect_async(request).await.expect("a websocket");
        let mut feed = Self { socket, hello: Value::Null };
        feed.hello = feed.frame().await;
        assert_eq!(feed.hello["t"], "hello", "{}", feed.hello);
        let epoch = feed.hello["epoch"].clone();
        feed.send(&json!({ "t": "resume", "epoch": epoch, "after": after, "topics": null })).await;
        feed
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("the socket is open");
    }

    /// The next frame, whatever it is.
    pub(crate) async fn frame(&mut self) -> Value {
        loop {
            let next =
                timeout(Duration::from_secs(10), self.socket.next()).await.expect("a frame within 10 s");
            match next.expect("the socket is open").expect("a frame") {
                Message::Text(text) => return serde_json::from_str(&text).expect("one JSON object a frame"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("neither text nor ping: {other:?}"),
            }
        }
    }

    /// Waits for the quote of this text, and skips all else.
    pub(crate) async fn wait_quote(&mut self, text: &str) {
        loop {
            let frame = self.frame().await;
            let items = frame["items"].as_array().cloned().unwrap_or_default();
            if items.iter().any(|item| item["item"]["text"] == text) {
                return;
            }
        }
    }
}
