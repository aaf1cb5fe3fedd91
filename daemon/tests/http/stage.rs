//! One node's web over real stores and a real socket; the loop is a stand-in that commits at once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chorus::boards::{Boards, Command, Outcome};
use chorus::guard::{Guard, Trust};
use chorus::http::{WebState, serve};
use chorus::metrics::Metrics;
use chorus::node::{
    Answer, ClusterView, Demand, Lookout, NoAnswer, NodeHandle, Progress, Sights, Submission,
};
use chorus::quota::Quotas;
use chorus::store::{Applied, AppliedEntry, Reports, Retention, StoreError, Stores};
use chorus_proto::message::NodeReport;
use chorus_proto::raft::Persist;
use chorus_proto::types::{
    Cluster, Configuration, Entry, EntryId, Founding, Index, NodeName, Payload, Term, Token,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Whatever is awaited comes within this time, or the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The epoch of the stage's cluster, as pages and feed say it.
pub(crate) const EPOCH: &str = "01010101010101010101010101010101.1";

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Result<Answer, NoAnswer>>>>;

/// What the store's threads tell, passed on as the loop would: the feed first.
struct Audience {
    feed: broadcast::Sender<Arc<AppliedEntry>>,
    applied: watch::Sender<u64>,
    waiting: Arc<Waiting>,
    durable: mpsc::UnboundedSender<Token>,
}

impl Reports for Audience {
    fn persisted(&self, token: Token) {
        // Nobody hears it once the stage is gone.
        let _gone = self.durable.send(token);
    }

    fn applied(&self, applied: Applied) {
        let mut answers = Vec::new();
        for entry in applied.entries {
            let asker = self.waiting.lock().expect("no test panics with it").remove(&entry.index);
            if let (Some(asker), Some((_, outcome))) = (asker, &entry.request) {
                answers.push((asker, answer(entry.index, outcome)));
            }
            let _nobody = self.feed.send(entry);
        }
        self.applied.send_replace(applied.index.0);
        // Who is answered finds it applied.
        for (asker, answer) in answers {
            let _gone = asker.send(Ok(answer));
        }
    }

    fn compacted(&self, base: EntryId) {
        panic!("nothing is old here: {base}");
    }

    fn installed(&self, id: EntryId) {
        panic!("nobody offered a snapshot: {id}");
    }

    fn stuck(&self, detail: String) {
        panic!("stuck: {detail}");
    }

    fn failed(&self, error: StoreError) {
        panic!("the store failed: {error}");
    }
}

fn answer(index: u64, outcome: &Outcome) -> Answer {
    let (Outcome::Done { index: decided, .. } | Outcome::Refused { index: decided, .. }) = outcome;
    Answer { outcome: outcome.clone(), replayed: *decided < index }
}

/// The stand-in's log, and whether it leads.
pub(crate) struct Log {
    stores: Stores,
    last: AtomicU64,
    /// Not known to be on disk, in order.
    undurable: Mutex<VecDeque<Entry>>,
    waiting: Arc<Waiting>,
    leaderless: AtomicBool,
}

impl Log {
    /// Appends one entry, which is committed once it is on disk.
    fn append(&self, payload: Payload, asker: Option<oneshot::Sender<Result<Answer, NoAnswer>>>) -> u64 {
        let mut undurable = self.undurable.lock().expect("no test panics with it");
        let index = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(asker) = asker {
            self.waiting.lock().expect("no test panics with it").insert(index, asker);
        }
        let term = Term(u64::from(index > 1));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let time_ms = u64::try_from(now.as_millis()).expect("a clock of this age");
        let entry = Entry { id: EntryId { term, index: Index(index) }, time_ms, payload };
        undurable.push_back(entry.clone());
        self.stores.persist(Persist { token: Token(index), append: vec![entry], ..Persist::default() });
        index
    }

    /// As the loop would: what is applied is on disk.
    fn on_persisted(&self, Token(upto): Token) {
        let mut undurable = self.undurable.lock().expect("no test panics with it");
        let count = undurable.partition_point(|entry| entry.id.index.0 <= upto);
        self.stores.apply(Index(upto), undurable.drain(..count).collect());
    }

    /// A quote that nobody waits for.
    pub(crate) fn quote(&self, text: &str) -> u64 {
        let quotes = Boards::all().named("quotes").expect("the board is there");
        let body = json!({ "author": "Ada", "text": text });
        let input = chorus::boards::Input { body, ..Default::default() };
        let body = quotes.check(&quotes.operations()[0], input).expect("a good quote");
        let id = uuid::Uuid::now_v7().to_string().try_into().expect("an id");
        let (board, op, node) = ("quotes".to_owned(), "post".to_owned(), "n1".to_owned());
        self.append(Payload::Command(Command { id, board, op, v: 1, node, body }.encode()), None)
    }

    fn submit(&self, submission: Submission, asker: oneshot::Sender<Result<Answer, NoAnswer>>) {
        if self.leaderless.load(Ordering::SeqCst) {
            let _gone = asker.send(Err(no_leader()));
            return;
        }
        let Submission { id, board, op, v, body, .. } = submission;
        let (board, op, node) = (board.to_owned(), op.to_owned(), "n2".to_owned());
        let command = Command { id, board, op, v, node, body };
        self.append(Payload::Command(command.encode()), Some(asker));
    }
}

fn no_leader() -> NoAnswer {
    NoAnswer {
        code: "no_leader",
        detail: "nobody leads".to_owned(),
        retry: Some(Duration::from_millis(300)),
        leader: None,
    }
}

/// A node on a stage.
pub(crate) struct Stage {
    pub(crate) url: String,
    pub(crate) log: Arc<Log>,
    pub(crate) view: watch::Sender<Arc<ClusterView>>,
    pub(crate) http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Stage {
    /// Opens the curtain; the feed keeps `feed_entries` for those who lag.
    pub(crate) async fn open(feed_entries: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::open_at(listener, feed_entries).await
    }

    /// The same with what keeps strangers out.
    pub(crate) async fn open_guarded(guard: Guard) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::open_with(listener, 64, guard, Trust::Nobody).await
    }

    /// The same at a given place.
    pub(crate) async fn open_at(listener: TcpListener, feed_entries: usize) -> Self {
        Self::open_with(listener, feed_entries, Guard::default(), Trust::Nobody).await
    }

    pub(crate) async fn open_with(
        listener: TcpListener,
        feed_entries: usize,
        guard: Guard,
        trust: Trust<'_>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let name: NodeName = "n2".parse().expect("a name");
        let (feed, _) = broadcast::channel(feed_entries);
        let (applied, applied_seen) = watch::channel(0);
        let waiting = Arc::new(Waiting::default());
        let (durable, mut became_durable) = mpsc::unbounded_channel();
        let audience = Audience { feed: feed.clone(), applied, waiting: Arc::clone(&waiting), durable };
        let opened = Stores::open(
            directory.path(),
            &name,
            Boards::all(),
            (Retention::default(), &Quotas::new()),
            Arc::new(audience),
        )
        .expect("a new store");
        let log = Arc::new(Log {
            stores: opened.stores.clone(),
            last: AtomicU64::new(0),
            undurable: Mutex::default(),
            waiting,
            leaderless: AtomicBool::new(false),
        });
        let writer = Arc::clone(&log);
        tokio::spawn(async move {
            while let Some(token) = became_durable.recv().await {
                writer.on_persisted(token);
            }
        });
        let scheme = if guard.is_tls() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().expect("a bound socket"));
        let (view, view_seen) = watch::channel(Arc::new(view(&url, Some("n2"))));
        let (demands, mut asked) = mpsc::channel(64);
        let stand_in = Arc::clone(&log);
        tokio::spawn(async move {
            while let Some(demand) = asked.recv().await {
                match demand {
                    Demand::Submit(submission, asker) => stand_in.submit(submission, asker),
                    Demand::ReadIndex(asker) => {
                        let index = Index(stand_in.last.load(Ordering::SeqCst));
                        let leads = !stand_in.leaderless.load(Ordering::SeqCst);
                        let _gone = asker.send(if leads { Ok(index) } else { Err(no_leader()) });
                    }
                    Demand::Lose(_) => {}
                    Demand::Stop => return,
                }
            }
        });
        let handle = NodeHandle {
            name,
            demands,
            view: view_seen,
            applied: applied_seen.clone(),
            feed,
            stores: opened.stores,
            progress: Progress::default(),
            lookout: Lookout::default(),
            sights: Sights::default(),
        };
        let cluster = Cluster { id: [1; 16], epoch: 1 };
        log.append(Payload::Founding(Founding { cluster, configuration: Configuration::default() }), None);
        let founded = handle.wait_applied(1, PATIENCE).await;
        assert!(founded, "the founding record is applied");
        let state = WebState {
            handle,
            boards: Boards::all(),
            metrics: Arc::new(Metrics::default()),
            public_url: Some(url.clone()),
            hosts: Vec::new(),
            writes_per_second: 50,
            guard,
            caches: true,
            supervisor: None,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, state, async move {
            let _dropped = stopped.await;
        }));
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(chorus::guard::client(trust).expect("whom to believe"))
            .build()
            .expect("a client");
        Self { url, log, view, http, stop: Some(stop), served: Some(served), _directory: directory }
    }

    /// From now on nobody leads, or somebody does again.
    pub(crate) fn lead(&self, leads: bool) {
        self.log.leaderless.store(!leads, Ordering::SeqCst);
        self.view.send_replace(Arc::new(view(&self.url, leads.then_some("n2"))));
    }

    /// Ends the server and waits for its end.
    pub(crate) async fn close(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            within(served).await.expect("the server ends");
        }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(self.http.get(self.at(path))).await
    }

    pub(crate) async fn ask(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = within(request.send()).await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Reply { status, headers, text: within(response.text()).await.expect("a body") }
    }

    /// Posts a quote under a key.
    pub(crate) async fn post(&self, key: &str, body: Value) -> Reply {
        self.ask(self.http.post(self.at("/api/v1/quotes")).header("Idempotency-Key", key).json(&body)).await
    }

    /// Opens the feed, as a page of `origin` would.
    pub(crate) async fn socket(&self, origin: Option<&str>) -> Result<Socket, u16> {
        let mut request = self.at("/ws").replacen("http", "ws", 1).into_client_request().expect("a request");
        request.headers_mut().insert("sec-websocket-protocol", "chorus.v1.json".parse().expect("a protocol"));
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().expect("an origin"));
        }
        match within(tokio_tungstenite::connect_async(request)).await {
            Ok((stream, _)) => Ok(Socket(stream)),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no websocket: {error}"),
        }
    }

    /// The feed after its hello.
    pub(crate) async fn feed(&self) -> Socket {
        let mut socket = self.socket(None).await.expect("a websocket");
        assert_eq!(socket.frame().await["t"], "hello");
        socket
    }
}

fn view(url: &str, leader: Option<&str>) -> ClusterView {
    let node = |name: &str, role: &str, heard_ms: Option<u64>| NodeReport {
        name: name.parse().expect("a name"),
        id: String::new(),
        role: role.to_owned(),
        voter: true,
        term: Term(7),
        commit_index: Index(1),
        applied_index: Index(1),
        last_index: Index(1),
        heard_ms,
        heard_by: (name == "n1").then(|| "unicast".to_owned()),
        unicast_only: Vec::new(),
        catching_up: (name == "n3").then(|| "45 % of the snapshot at 83,112 from n1, 12 MB/s".to_owned()),
        url: if name == "n2" { Some(url.to_owned()) } else { Some(format!("http://{name}.example")) },
        pid: Some(1),
        version: Some("0.1.0".to_owned()),
        boot: None,
        leader: None,
        why: None,
        cluster: None,
        voters: Vec::new(),
        key: None,
        key_in_force: None,
    };
    let own_role = if leader.is_some() { "leader" } else { "candidate" };
    ClusterView {
        cluster: "01".repeat(16),
        epoch: 1,
        node: Some("n2".parse().expect("a name")),
        leader: leader.map(|name| name.parse().expect("a name")),
        term: 7,
        commit_index: 1,
        why: leader.is_none().then(|| "heard 1 of 3 voters; missing n1, n3".to_owned()),
        nodes: vec![
            node("n1", "follower", Some(420)),
            node("n2", own_role, Some(0)),
            node("n3", "dead", Some(61_000)),
        ],
        links: Vec::new(),
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A websocket that follows.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn say(&mut self, frame: Value) {
        self.raw(Message::Text(frame.to_string().into())).await;
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        assert!(self.takes(message).await, "the frame leaves");
    }

    /// Whether a frame leaves: not once the other side is gone.
    pub(crate) async fn takes(&mut self, message: Message) -> bool {
        within(self.0.send(message)).await.is_ok()
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        match within(self.0.next()).await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).expect("a frame is JSON"),
            other => panic!("no frame: {other:?}"),
        }
    }

    /// The next frame of this kind.
    pub(crate) async fn frame_of(&mut self, kind: &str) -> Value {
        within(async {
            loop {
                let frame = self.frame().await;
                if frame["t"] == kind {
                    return frame;
                }
            }
        })
        .await
    }

    /// The code of the close frame, which must come.
    pub(crate) async fn close_code(&mut self) -> u16 {
        self.close().await.0
    }

    /// Code and reason of the close frame, which must come.
    pub(crate) async fn close(&mut self) -> (u16, String) {
        within(async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(Some(close)))) => {
                        return (close.code.into(), close.reason.to_string());
                    }
                    Some(Ok(_)) => {}
                    other => panic!("no close frame: {other:?}"),
                }
            }
        })
        .await
    }
}

/// Awaits something that must come.
pub(crate) async fn within<T>(coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, coming).await.expect("it comes in time")
}
