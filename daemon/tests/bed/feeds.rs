//! Followers of the feed, by websocket and by server-sent events. When a node is silent or gone they go on at another
//! one after what they have heard, and now and then without need. Whatever does not follow exactly ends the test.

use std::convert::Infallible;
use std::time::Duration;

use fastrand::Rng;
use futures_util::{SinkExt, StreamExt};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::clients::whole;
use crate::nodes::{client, name, pages, url};
use crate::verdict::{Verdict, must};
use crate::wait::PATIENCE;

/// A node says something at least once a second; one that does not is given up.
const SILENCE: Duration = Duration::from_secs(2);

/// A follower leaves a node of its own accord after so many frames at most.
const STAY_FRAMES_MAX: usize = 400;

/// All followers of a test.
pub(crate) struct Feeds {
    tasks: JoinSet<Heard>,
    heard: Vec<Heard>,
    last: watch::Sender<Option<u64>>,
}

/// What one follower heard, from the log's beginning on.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Which one it was.
    pub(crate) who: String,
    /// What it asked for, if not for everything.
    pub(crate) topic: Option<&'static str>,
    /// Entries with their items, in the order in which they came.
    pub(crate) entries: Vec<(u64, Vec<Value>)>,
    /// How often it went on at another node.
    pub(crate) hops: usize,
}

impl Feeds {
    /// So many followers of each kind.
    pub(crate) fn start(of_each_kind: usize, nodes: usize, rng: &mut Rng) -> Self {
        let (last, upto) = watch::channel(None);
        let mut tasks = JoinSet::new();
        for number in 0..2 * of_each_kind {
            let (kind, word) =
                if number % 2 == 0 { (Kind::Websocket, "websocket") } else { (Kind::Events, "SSE") };
            let topic = (number % 4 >= 2).then_some("quotes");
            let follower = Follower {
                kind,
                topic,
                nodes,
                rng: rng.fork(),
                told: Told::of(&format!("{word} follower {number} of {}", topic.unwrap_or("everything"))),
                upto: upto.clone(),
            };
            tasks.spawn(follower.live());
        }
        Self { tasks, heard: Vec::new(), last }
    }

    /// Ends only when a follower fails: with its panic.
    pub(crate) async fn failure(&mut self) -> Infallible {
        while let Some(ended) = self.tasks.join_next().await {
            self.heard.push(whole(ended));
        }
        std::future::pending().await
    }

    /// Waits until everyone has heard all up to `last`.
    pub(crate) async fn finish(mut self, last: u64) -> Vec<Heard> {
        self.last.send_replace(Some(last));
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                self.heard.push(whole(ended));
            }
        };
        timeout(PATIENCE, all)
            .await
            .unwrap_or_else(|_| panic!("a feed has not come to {last} in {PATIENCE:?}"));
        self.heard
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Websocket,
    Events,
}

struct Follower {
    kind: Kind,
    topic: Option<&'static str>,
    nodes: usize,
    rng: Rng,
    told: Told,
    /// Where the test ends, once that is known.
    upto: watch::Receiver<Option<u64>>,
}

/// What one follower was told, frame by frame; each must follow what came before.
#[derive(Debug, Default)]
pub(crate) struct Told {
    who: String,
    /// Everything up to here was told.
    cursor: u64,
    /// Of the first hello.
    epoch: Option<Value>,
    entries: Vec<(u64, Vec<Value>)>,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One open connection.
enum Line {
    Websocket(Box<Socket>),
    Events { answer: Response, kept: Vec<u8> },
}

impl Follower {
    async fn live(mut self) -> Heard {
        let mut hops = 0;
        let mut node = self.rng.usize(0..self.nodes);
        loop {
            if let Some(mut line) = self.connect(node).await {
                let stay = self.rng.usize(1..STAY_FRAMES_MAX);
                self.follow(&mut line, stay, node).await;
            }
            if self.is_over() {
                let Told { who, entries, .. } = self.told;
                return Heard { who, topic: self.topic, entries, hops };
            }
            hops += 1;
            node = (node + self.rng.usize(1..self.nodes)) % self.nodes;
            // Between two tries of one follower.
            sleep(Duration::from_millis(self.rng.u64(5..50))).await;
        }
    }

    fn is_over(&self) -> bool {
        self.upto.borrow().is_some_and(|upto| self.told.cursor >= upto)
    }

    /// Hears so many frames, or fewer if the node stops speaking.
    async fn follow(&mut self, line: &mut Line, frames: usize, node: usize) {
        for _ in 0..frames {
            let Ok(Some((id, frame))) = timeout(SILENCE, line.next()).await else { return };
            self.told.hear(&frame, node).unwrap_or_else(|wrong| panic!("{wrong}"));
            if let Some(id) = id {
                assert_eq!(id, self.told.cursor, "{} at {}: the id of {frame}", self.told.who, name(node));
            }
            if self.is_over() {
                return;
            }
        }
    }

    async fn connect(&mut self, node: usize) -> Option<Line> {
        match self.kind {
            Kind::Websocket => timeout(SILENCE, self.connect_websocket(node)).await.ok()?,
            Kind::Events => timeout(SILENCE, self.connect_events(node)).await.ok()?,
        }
    }

    async fn connect_websocket(&mut self, node: usize) -> Option<Line> {
        let mut request = format!("ws://{}/ws", pages(node)).into_client_request().expect("a URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", "chorus.v1.json".parse().expect("a header"));
        let (mut socket, _) = connect_async(request).await.ok()?;
        let hello = frame_of(&mut socket).await?;
        assert_eq!(hello["t"], "hello", "{} at {}: {hello}", self.told.who, name(node));
        self.told.hear(&hello, node).unwrap_or_else(|wrong| panic!("{wrong}"));
        let topics = self.topic.map(|topic| [topic]);
        let resume =
            json!({ "t": "resume", "epoch": self.told.epoch, "after": self.told.cursor, "topics": topics });
        socket.send(Message::text(resume.to_string())).await.ok()?;
        Some(Line::Websocket(Box::new(socket)))
    }

    async fn connect_events(&mut self, node: usize) -> Option<Line> {
        let http = client(Duration::from_secs(3_600));
        let topics = self.topic.map_or_else(String::new, |topic| format!("topics={topic}"));
        let request = if self.rng.bool() {
            let path = format!("/api/v1/feed?{topics}");
            http.get(url(node, &path)).header("Last-Event-ID", self.told.cursor.to_string())
        } else {
            http.get(url(node, &format!("/api/v1/feed?after={}&{topics}", self.told.cursor)))
        };
        let answer = request.send().await.ok()?.error_for_status().ok()?;
        Some(Line::Events { answer, kept: Vec::new() })
    }
}

impl Told {
    /// One who has heard nothing, under this name.
    pub(crate) fn of(who: &str) -> Self {
        Self { who: who.to_owned(), ..Self::default() }
    }

    /// Takes a frame of node `node` in.
    pub(crate) fn hear(&mut self, frame: &Value, node: usize) -> Verdict {
        self.follow(frame).map_err(|wrong| {
            format!("{wrong}: {} at {} after {}: {frame}", self.who, name(node), self.cursor)
        })
    }

    fn follow(&mut self, frame: &Value) -> Verdict {
        let number = |field: &str| frame[field].as_u64().ok_or_else(|| format!("no {field}"));
        let items = || frame["items"].as_array().ok_or("no items");
        match frame["t"].as_str() {
            Some("hello") => {
                let epoch = frame["epoch"].clone();
                let same = self.epoch.as_ref().is_none_or(|first| *first == epoch);
                must(same, || "another epoch".to_owned())?;
                self.epoch = Some(epoch);
            }
            Some("event") => {
                let (prev, seq) = (number("prev")?, number("seq")?);
                must(prev == self.cursor, || "a gap or a repetition".to_owned())?;
                must(seq > self.cursor, || "an event goes back".to_owned())?;
                self.entries.push((seq, items()?.clone()));
                self.cursor = seq;
            }
            Some("batch") => {
                let (from, to) = (number("from")?, number("to")?);
                must(from == self.cursor && to >= from, || "a gap or a repetition".to_owned())?;
                for item in items()? {
                    let (seq, item) = undated(item).ok_or("no seq")?;
                    must((from + 1..=to).contains(&seq), || "not of this batch".to_owned())?;
                    match self.entries.last_mut() {
                        Some((last, items)) if *last == seq => items.push(item),
                        Some((last, _)) if *last > seq => return Err("out of order".to_owned()),
                        _ => self.entries.push((seq, vec![item])),
                    }
                }
                self.cursor = to;
            }
            Some("tick") => {
                let seq = number("seq")?;
                must(seq >= self.cursor, || "a tick goes back".to_owned())?;
                self.cursor = seq;
            }
            _ => return Err("not to be expected".to_owned()),
        }
        Ok(())
    }
}

/// An item of a batch without its seq.
fn undated(item: &Value) -> Option<(u64, Value)> {
    let mut item = item.clone();
    let seq = item.as_object_mut()?.remove("seq")?.as_u64()?;
    Some((seq, item))
}

impl Line {
    /// The next frame, with the id of its event; none when the connection has ended.
    async fn next(&mut self) -> Option<(Option<u64>, Value)> {
        match self {
            Self::Websocket(socket) => Some((None, frame_of(socket).await?)),
            Self::Events { answer, kept } => loop {
                if let Some(end) = kept.windows(2).position(|two| two == b"\n\n") {
                    let event: Vec<u8> = kept.drain(..end + 2).collect();
                    return Some(parse_event(std::str::from_utf8(&event).expect("text")));
                }
                kept.extend_from_slice(&answer.chunk().await.ok()??);
            },
        }
    }
}

/// The next frame of a websocket; none when it was closed.
async fn frame_of(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => {
                return Some(serde_json::from_str(&text).expect("one JSON object a frame"));
            }
            Message::Ping(_) | Message::Pong(_) => {}
            _ => return None,
        }
    }
}

/// One server-sent event: its id and its data.
fn parse_event(event: &str) -> (Option<u64>, Value) {
    let field = |name: &str| {
        event.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_start()))
    };
    let data = field("data").unwrap_or_else(|| panic!("an event without data: {event}"));
    let id = field("id").map(|id| id.parse().expect("a seq"));
    (id, serde_json::from_str(data).expect("one JSON object an event"))
}

impl Heard {
    /// This follower heard exactly what was committed, in order; of its topic, if it asked for one.
    pub(crate) fn is_exactly(&self, committed: &[(u64, Vec<Value>)]) -> Verdict {
        let wanted = |item: &&Value| self.topic.is_none_or(|topic| item["topic"] == topic);
        let expected: Vec<(u64, Vec<&Value>)> = committed
            .iter()
            .map(|(index, items)| (*index, items.iter().filter(wanted).collect::<Vec<_>>()))
            .filter(|(_, items)| !items.is_empty())
            .collect();
        for ((seq, items), (index, committed)) in self.entries.iter().zip(&expected) {
            let same = seq == index && items.iter().eq(committed.iter().copied());
            must(same, || {
                format!("{} heard {items:?} as entry {seq} instead of {committed:?} as {index}", self.who)
            })?;
        }
        let (told, all) = (self.entries.len(), expected.len());
        must(told == all, || format!("{} heard {told} entries of the {all} that there are", self.who))
    }
}
