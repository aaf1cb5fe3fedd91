//! Clients that read and write through all nodes, repeat writes under their key at other nodes, and write down what
//! they did and what they were told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use crate::history::{Fate, Read, Record, Write};
use crate::nodes::{applied_index, client, name, url};
use crate::operation::{Attempt, Operation};
use crate::register::{Call, OnlyIf, Outcome};
use crate::wait::wait_for;

/// A client asks another node when one does not answer for so long.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// And some clients are in a hurry: they ask again, or give up, while the first request is still on its way.
const HURRY_MS_MAX: u64 = 100;

/// Every write is settled in this time: no fault of the test lasts longer.
const WRITE_PATIENCE: Duration = Duration::from_secs(60);

/// Values are padded to at most so many bytes; those beyond about 1,200 travel in parts.
const PADDING_BYTES_MAX: usize = 6_000;

/// How the clients of a test spend their time.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) clients: usize,
    /// Keys of the board `store` that all of them share.
    pub(crate) keys: usize,
    /// How often each kind of operation is chosen, relative to the sum.
    pub(crate) weights: Weights,
    /// So many writes of a hundred are given up after their first request.
    pub(crate) impatient_percent: u32,
}

/// Relative to their sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weights {
    pub(crate) read_linearizable: u32,
    pub(crate) read_local: u32,
    pub(crate) put: u32,
    pub(crate) compare_and_set: u32,
    pub(crate) delete: u32,
    pub(crate) quote: u32,
}

/// All clients of a test.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    tasks: JoinSet<Record>,
    records: Vec<Record>,
}

struct Shared {
    habits: Habits,
    nodes: usize,
    begun: Instant,
    stopped: AtomicBool,
    finished: AtomicUsize,
}

impl Crowd {
    /// Sends them off. `begun` is the zero of all times.
    pub(crate) fn start(habits: Habits, nodes: usize, begun: Instant, rng: &mut Rng) -> Self {
        let clients = habits.clients;
        let (stopped, finished) = (AtomicBool::new(false), AtomicUsize::new(0));
        let shared = Arc::new(Shared { habits, nodes, begun, stopped, finished });
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            tasks.spawn(Person::new(number, Arc::clone(&shared), rng.fork()).live());
        }
        Self { shared, tasks, records: Vec::new() }
    }

    /// Operations that have ended until now.
    pub(crate) fn finished(&self) -> usize {
        self.shared.finished.load(Ordering::Relaxed)
    }

    /// Ends only when a client fails: with its panic.
    pub(crate) async fn failure(&mut self) -> Infallible {
        while let Some(ended) = self.tasks.join_next().await {
            self.records.push(whole(ended));
        }
        std::future::pending().await
    }

    /// Lets everyone finish what he is about; what they wrote down.
    pub(crate) async fn finish(mut self) -> Vec<Record> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            self.records.push(whole(ended));
        }
        self.records
    }
}

/// The result of a task, or its panic.
pub(crate) fn whole<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => panic!("a task was ended by somebody: {error}"),
    })
}

/// One client.
struct Person {
    number: usize,
    shared: Arc<Shared>,
    rng: Rng,
    http: Client,
    record: Record,
    /// Writes until now: what makes their values and ids differ.
    writes: u64,
    /// Last version of each key that this client was told.
    versions: HashMap<usize, u64>,
    /// Highest index that this client was told.
    latest: u64,
}

/// What a node said to a request.
enum Said {
    Done {
        index: u64,
    },
    Stale,
    Missing,
    /// It has not happened, and will not.
    Not(String),
    /// It may have happened, or will.
    Perhaps(String),
}

/// How a write ended.
struct Settled {
    /// None: it is open.
    outcome: Option<Outcome>,
    /// It may have taken effect.
    possible: bool,
    called: Duration,
    returned: Duration,
    attempts: Vec<Attempt>,
}

impl Person {
    fn new(number: usize, shared: Arc<Shared>, rng: Rng) -> Self {
        Self {
            number,
            shared,
            rng,
            http: client(ANSWER_PATIENCE),
            record: Record::default(),
            writes: 0,
            versions: HashMap::new(),
            latest: 0,
        }
    }

    async fn live(mut self) -> Record {
        while !self.shared.stopped.load(Ordering::Relaxed) {
            self.act().await;
            self.shared.finished.fetch_add(1, Ordering::Relaxed);
        }
        self.record
    }

    async fn act(&mut self) {
        let Weights { read_linearizable, read_local, put, compare_and_set, delete, quote } =
            self.shared.habits.weights;
        let sum = read_linearizable + read_local + put + compare_and_set + delete + quote;
        let key = self.rng.usize(0..self.shared.habits.keys);
        let mut draw = self.rng.u32(0..sum);
        let mut chosen = |weight: u32| {
            let hit = draw < weight;
            draw = draw.wrapping_sub(weight);
            hit
        };
        if chosen(read_linearizable) {
            self.read(key, true).await;
        } else if chosen(read_local) {
            self.read(key, false).await;
        } else if chosen(put) {
            self.put(key, None).await;
        } else if chosen(compare_and_set) {
            let only_if = self.versions.get(&key).map_or(OnlyIf::Any, |index| OnlyIf::Index(*index));
            self.put(key, Some(only_if)).await;
        } else if chosen(delete) {
            let only_if = if self.rng.bool() { self.versions.get(&key).copied() } else { None };
            self.delete(key, only_if.map(OnlyIf::Index)).await;
        } else {
            self.quote().await;
        }
    }

    /// Reads a key, at other nodes too until one answers; nothing if the test ends before.
    async fn read(&mut self, key: usize, linearizable: bool) {
        let mut attempts = Vec::new();
        while !self.shared.stopped.load(Ordering::Relaxed) {
            let node = self.rng.usize(0..self.shared.nodes);
            let min_index = (!linearizable && self.rng.bool()).then_some(self.latest);
            let mut path = format!("/api/v1/store/{}", key_name(key));
            if linearizable {
                path.push_str("?consistency=linearizable");
            } else if let Some(index) = min_index {
                path.push_str(&format!("?min_index={index}"));
            }
            // Every request is a read of its own: what an earlier one might have seen does not bind this one.
            let called = self.shared.begun.elapsed();
            match look(self.http.get(url(node, &path))).await {
                Ok((applied, found)) => {
                    let returned = self.shared.begun.elapsed();
                    let read = Read { node, key, linearizable, min_index, called, returned, applied, found };
                    attempts.push(Attempt { node, said: "answered".to_owned() });
                    return self.note_read(read, attempts);
                }
                Err(said) => attempts.push(Attempt { node, said }),
            }
            self.back_off().await;
        }
    }

    fn note_read(&mut self, read: Read, attempts: Vec<Attempt>) {
        self.latest = self.latest.max(read.applied);
        if let Some((_, index)) = read.found {
            self.versions.insert(read.key, index);
        }
        self.record.note(read, self.number, attempts);
    }

    async fn put(&mut self, key: usize, only_if: Option<OnlyIf>) {
        let value = self.fresh();
        let padding = if self.rng.u32(0..20) == 0 { self.rng.usize(0..PADDING_BYTES_MAX) } else { 0 };
        let body = json!({ "value": format!("{value}:{}", "x".repeat(padding)) });
        let request = move |http: &Client, node: usize| {
            let put = http.put(url(node, &format!("/api/v1/store/{}", key_name(key)))).json(&body);
            conditional(put, only_if)
        };
        self.change(key, Call::Put { value, only_if }, Some(value.to_string()), request).await;
    }

    async fn delete(&mut self, key: usize, only_if: Option<OnlyIf>) {
        self.fresh();
        let request = move |http: &Client, node: usize| {
            conditional(http.delete(url(node, &format!("/api/v1/store/{}", key_name(key)))), only_if)
        };
        self.change(key, Call::Delete { only_if }, None, request).await;
    }

    /// A write to a key: into the history of the key, and among the writes.
    async fn change(
        &mut self,
        key: usize,
        call: Call,
        mark: Option<String>,
        request: impl Fn(&Client, usize) -> RequestBuilder,
    ) {
        let settled = self.settle(request).await;
        if let Some(Outcome::Done { index }) = settled.outcome {
            self.versions.insert(key, index);
        }
        self.note_write("store", mark, &settled);
        if settled.possible {
            self.record.operations.push(Operation {
                client: self.number,
                key,
                call,
                outcome: settled.outcome.unwrap_or(Outcome::Unknown { index: None }),
                called: settled.called,
                returned: settled.outcome.map(|_| settled.returned),
                applied: None,
                attempts: settled.attempts,
            });
        }
    }

    async fn quote(&mut self) {
        let text = format!("{}:{}", self.fresh(), "x".repeat(self.rng.usize(0..200)));
        let body = json!({ "author": format!("client {}", self.number), "text": text });
        let settled = self.settle(move |http, node| http.post(url(node, "/api/v1/quotes")).json(&body)).await;
        self.note_write("quotes", Some(text), &settled);
    }

    fn note_write(&mut self, board: &'static str, mark: Option<String>, settled: &Settled) {
        let fate = match settled.outcome {
            Some(Outcome::Done { index }) => Fate::Done { index },
            Some(_) => Fate::Denied,
            None if settled.possible => Fate::Unknown,
            None => Fate::Refused,
        };
        if let Fate::Done { index } = fate {
            self.latest = self.latest.max(index);
        }
        self.record.writes.push(Write {
            id: self.id(),
            board,
            mark,
            fate,
            called: settled.called,
            returned: settled.outcome.map(|_| settled.returned),
            attempts: settled.attempts.clone(),
        });
    }

    /// Sends a write under one key to one node after another, until it is settled or the client loses patience.
    async fn settle(&mut self, request: impl Fn(&Client, usize) -> RequestBuilder) -> Settled {
        let patient = self.rng.u32(0..100) >= self.shared.habits.impatient_percent;
        let hurried = !patient || self.rng.u32(0..10) == 0;
        let called = self.shared.begun.elapsed();
        let (mut attempts, mut possible) = (Vec::new(), false);
        loop {
            let node = self.rng.usize(0..self.shared.nodes);
            let mut asked = request(&self.http, node).header("Idempotency-Key", self.id());
            if hurried && attempts.len() < 3 {
                asked = asked.timeout(Duration::from_millis(self.rng.u64(1..HURRY_MS_MAX)));
            }
            let (outcome, said) = match ask(asked).await {
                Said::Done { index } => (Some(Outcome::Done { index }), "done".to_owned()),
                Said::Stale => (Some(Outcome::Stale), "stale".to_owned()),
                Said::Missing => (Some(Outcome::Missing), "missing".to_owned()),
                Said::Not(why) => (None, why),
                Said::Perhaps(why) => {
                    possible = true;
                    (None, why)
                }
            };
            attempts.push(Attempt { node, said });
            let returned = self.shared.begun.elapsed();
            if outcome.is_some() || !patient {
                possible |= outcome.is_some();
                return Settled { outcome, possible, called, returned, attempts };
            }
            assert!(
                returned - called < WRITE_PATIENCE,
                "client {} was not answered in {WRITE_PATIENCE:?}: {attempts:?}",
                self.number
            );
            self.back_off().await;
        }
    }

    /// A number that no other write has.
    fn fresh(&mut self) -> u64 {
        self.writes += 1;
        self.number as u64 * 1_000_000 + self.writes
    }

    fn id(&self) -> String {
        format!("bed-{}-{}", self.number, self.writes)
    }

    /// Between two tries of one client.
    async fn back_off(&mut self) {
        sleep(Duration::from_millis(self.rng.u64(5..50))).await;
    }
}

fn conditional(request: RequestBuilder, only_if: Option<OnlyIf>) -> RequestBuilder {
    match only_if {
        None => request,
        Some(OnlyIf::Any) => request.header("If-Match", "*"),
        Some(OnlyIf::Index(index)) => request.header("If-Match", format!("\"{index}\"")),
    }
}

/// Sends a write. Any answer that the interface does not promise ends the test.
async fn ask(request: RequestBuilder) -> Said {
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) if error.is_connect() => return Said::Not("not reached".to_owned()),
        Err(error) if error.is_timeout() => return Said::Perhaps("no answer".to_owned()),
        Err(_) => return Said::Perhaps("broken off".to_owned()),
    };
    let status = answer.status();
    let Ok(body) = answer.json::<Value>().await else { return Said::Perhaps("half an answer".to_owned()) };
    let code = body["code"].as_str().unwrap_or_default().to_owned();
    match status {
        StatusCode::CREATED | StatusCode::OK => {
            Said::Done { index: body["index"].as_u64().unwrap_or_else(|| panic!("no index: {body}")) }
        }
        StatusCode::PRECONDITION_FAILED if code == "stale_version" => Said::Stale,
        StatusCode::NOT_FOUND if code == "not_found" => Said::Missing,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Said::Not(code),
        StatusCode::GATEWAY_TIMEOUT => Said::Perhaps(code),
        other => panic!("a write was answered {other}: {body}"),
    }
}

/// A linearizable read of every key at every node, after everything.
pub(crate) async fn read_all(habits: &Habits, nodes: usize, begun: Instant) -> Record {
    let http = client(ANSWER_PATIENCE);
    let mut last = Record::default();
    for key in 0..habits.keys {
        for node in 0..nodes {
            let path = format!("/api/v1/store/{}?consistency=linearizable", key_name(key));
            let read = wait_for(&format!("{} to answer a read in peace", name(node)), async || {
                // Every request is a read of its own, as those of the clients are.
                let called = begun.elapsed();
                let (applied, found) = look(http.get(url(node, &path))).await.ok()?;
                let returned = begun.elapsed();
                Some(Read {
                    node,
                    key,
                    linearizable: true,
                    min_index: None,
                    called,
                    returned,
                    applied,
                    found,
                })
            })
            .await;
            last.note(read, habits.clients, vec![Attempt { node, said: "answered".to_owned() }]);
        }
    }
    last
}

/// Sends a read: the applied index of the answer, and value and version of the key.
async fn look(request: RequestBuilder) -> Result<(u64, Option<(u64, u64)>), String> {
    let answer = request
        .send()
        .await
        .map_err(|error| (if error.is_connect() { "not reached" } else { "broken off" }).to_owned())?;
    let (status, applied) = (answer.status(), applied_index(&answer));
    let body = json_of(answer).await?;
    match status {
        StatusCode::OK => {
            let value = body["value"].as_str().and_then(number_of);
            let version = value.zip(body["index"].as_u64());
            Ok((applied.expect("Chorus-Index"), Some(version.unwrap_or_else(|| panic!("no pair: {body}")))))
        }
        StatusCode::NOT_FOUND => Ok((applied.expect("Chorus-Index"), None)),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            Err(body["code"].as_str().unwrap_or_default().to_owned())
        }
        other => panic!("a read was answered {other}: {body}"),
    }
}

async fn json_of(answer: Response) -> Result<Value, String> {
    answer.json().await.map_err(|_| "half an answer".to_owned())
}

/// The number in a value, before its padding.
pub(crate) fn number_of(value: &str) -> Option<u64> {
    value.split(':').next()?.parse().ok()
}

/// Name of a key.
pub(crate) fn key_name(key: usize) -> String {
    format!("k{key:02}")
}
