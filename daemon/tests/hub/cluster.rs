//! A cluster on a hub: nodes that start, stop, are cut off and come back.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chorus::boards::{Boards, Input, Outcome};
use chorus::config::{Config, Interface};
use chorus::guard::Guard;
use chorus::metrics::Metrics;
use chorus::node::{Answer, Demand, Ended, NoAnswer, NodeHandle, Running, Submission, start_on};
use chorus::store::StoreError;
use chorus::transport::{Hub, Transport};
use chorus_proto::types::{NodeName, RequestId};
use chorus_proto::wire::Secret;
use chorus_proto::wire::control::ControlKey;
use serde_json::json;

/// Longer than anything here takes on a busy machine: who waits so long waits for something that never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The secret of all clusters of these tests.
pub(crate) const SECRET: [u8; 32] = [7; 32];

/// Who may command the nodes.
pub(crate) fn control_key() -> ControlKey {
    ControlKey::new(&[9; 32])
}

/// One place of the cluster, and the node that runs there.
pub(crate) struct Place {
    pub(crate) config: Config,
    /// What its program knows.
    pub(crate) boards: Boards,
    pub(crate) running: Option<Running>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Place {
    pub(crate) fn handle(&self) -> &NodeHandle {
        &self.running.as_ref().expect("the node runs").handle
    }
}

/// Places on one hub, in one directory that goes with it.
pub(crate) struct Cluster {
    pub(crate) hub: Hub,
    pub(crate) places: Vec<Place>,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Starts nodes n1 to nN over a hub that loses datagrams with this probability.
    pub(crate) fn start(nodes: usize, loss: f64) -> Self {
        let mut cluster = Self::prepare(nodes, nodes, loss);
        for place in 0..nodes {
            cluster.run(place);
        }
        cluster
    }

    /// The same without loss, of nodes that wait longer for a leader: a machine that stands still for a moment costs none.
    pub(crate) fn start_patient(nodes: usize) -> Self {
        let mut cluster = Self::prepare(nodes, nodes, 0.0);
        for place in 0..nodes {
            let config = &mut cluster.places[place].config;
            (config.election_timeout_min, config.election_timeout_max) =
                (Duration::from_secs(1), Duration::from_secs(2));
            cluster.run(place);
        }
        cluster
    }

    /// Makes places for nodes n1 to nN, the first of them voters, and starts none.
    pub(crate) fn prepare(nodes: usize, voters: usize, loss: f64) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let names: Vec<NodeName> =
            (1..=nodes).map(|number| format!("n{number}").parse().expect("a name")).collect();
        let place = |(number, name): (usize, &NodeName)| Place {
            config: Config {
                log_format: chorus::service::LogFormat::Auto,
                log_filter: chorus::service::LogFilter::default(),
                name: name.clone(),
                voters: if number < voters { names[..voters].to_vec() } else { Vec::new() },
                secret: Secret::from(SECRET),
                control_public: Some(control_key().public()),
                group: SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 77), 5_555),
                interface: Interface::Any,
                ttl: 0,
                unicast: None,
                peers: Vec::new(),
                transfer_listen: None,
                data_dir: directory.path().join(name.as_str()),
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                public_url: Some(format!("http://{name}.example/")),
                hosts: Vec::new(),
                writes_per_second: 0,
                guard: Guard::default(),
                retention: chorus::store::Retention::default(),
                heartbeat: Duration::from_millis(40),
                election_timeout_min: Duration::from_millis(150),
                election_timeout_max: Duration::from_millis(300),
                disk_reserve: 0,
                scrub_pause: Duration::from_secs(3_600),
                quotas: chorus::quota::Quotas::new(),
                allow_playdead: true,
                no_cache: false,
                drop_received: 0.0,
            },
            boards: Boards::all(),
            running: None,
            address: None,
            metrics: Arc::default(),
        };
        let places = names.iter().enumerate().map(place).collect();
        Self { hub: Hub::new(loss, 42), places, directory }
    }

    /// Starts the node of a place, on what its disk holds.
    pub(crate) fn run(&mut self, place: usize) {
        let end = self.hub.join();
        let place = &mut self.places[place];
        place.address = Some(end.address());
        let failed = Arc::new(|error: StoreError| panic!("a store failed: {error}"));
        let metrics = Arc::clone(&place.metrics);
        let running = start_on(&place.config, place.boards, Transport::Hub(end), metrics, failed);
        place.running = Some(running.expect("the node starts"));
    }

    /// Stops the node of a place in order, and closes its stores.
    pub(crate) async fn stop(&mut self, place: usize) -> Ended {
        let running = self.places[place].running.take().expect("the node runs");
        running.handle.demands.send(Demand::Stop).await.expect("the loop listens");
        let ended = tokio::time::timeout(PATIENCE, running.ended).await.expect("an end in time");
        running.handle.stores.close();
        ended.expect("the loop says how it ended")
    }

    pub(crate) fn handle(&self, place: usize) -> &NodeHandle {
        self.places[place].handle()
    }

    /// Cuts a place off from all others, or takes it back.
    pub(crate) fn set_cut(&self, place: usize, cut: bool) {
        self.hub.set_cut(self.places[place].address.expect("the node ran"), cut);
    }

    /// Where each place's node is, or was last.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.places.iter().map(|place| place.address.expect("the node ran")).collect()
    }

    /// The group carries nothing from each of these to each of those any more, or does again.
    pub(crate) fn cut_group(&self, from: &[SocketAddr], to: &[SocketAddr], cut: bool) {
        for from in from {
            to.iter().for_each(|to| self.hub.set_group_cut(*from, *to, cut));
        }
    }

    /// The places whose nodes run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.places.len()).filter(|place| self.places[*place].running.is_some()).collect()
    }

    /// Waits until all these places follow one leader that is one of them.
    pub(crate) async fn leader_of(&self, places: &[usize]) -> usize {
        let names: Vec<_> = self.places.iter().map(|place| place.config.name.clone()).collect();
        wait_for("one leader for all", || async {
            let views: Vec<_> =
                places.iter().map(|place| self.handle(*place).view.borrow().clone()).collect();
            let leaders: BTreeSet<_> = views.iter().map(|view| (view.leader.clone(), view.term)).collect();
            let [(Some(leader), _)] = &leaders.into_iter().collect::<Vec<_>>()[..] else { return None };
            places.iter().copied().find(|place| names[*place] == *leader)
        })
        .await
    }

    /// Waits until all nodes follow one leader.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_of(&self.running()).await
    }

    /// Posts a quote at a place; the same id again and again until it has an outcome.
    pub(crate) async fn post(&self, place: usize, id: &str, text: &str) -> Answer {
        let began = Instant::now();
        loop {
            match self.handle(place).submit(quote(id, text)).await {
                Ok(answer) => return answer,
                Err(refused) => assert!(began.elapsed() < PATIENCE, "{id} at {place}: {refused:?}"),
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until these places have applied the same, all of it, and gives the quotes in the order of the log.
    pub(crate) async fn agree(&self, places: &[usize]) -> Vec<String> {
        wait_for("all places hold the same", || async {
            let applied: BTreeSet<u64> =
                places.iter().map(|place| *self.handle(*place).applied.borrow()).collect();
            (applied.len() == 1).then_some(())
        })
        .await;
        let each: Vec<_> = places.iter().map(|place| self.quotes(*place)).collect();
        for (place, quotes) in places.iter().zip(&each) {
            assert_eq!(*quotes, each[0], "place {place} differs from place {}", places[0]);
        }
        each.into_iter().next().expect("one place at least")
    }

    /// The texts of all quotes of a place, in the order of the log.
    pub(crate) fn quotes(&self, place: usize) -> Vec<String> {
        let handle = self.handle(place);
        let (entries, _) =
            handle.stores.events(0, u64::MAX >> 1, usize::MAX).expect("the events are readable");
        let text =
            |item: &chorus::boards::Item| item.item["text"].as_str().expect("a quote has a text").to_owned();
        entries.iter().flat_map(|entry| entry.items.iter().map(text)).collect()
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

/// A quote on its way in, under this id.
pub(crate) fn quote(id: &str, text: &str) -> Submission {
    let board = Boards::all().named("quotes").expect("the board of quotes");
    let operation = &board.operations()[0];
    let input = Input { body: json!({ "author": "Ada", "text": text }), ..Input::default() };
    Submission {
        id: request_id(id),
        fresh: false,
        board: board.name(),
        op: operation.name,
        v: operation.v,
        body: board.check(operation, input).expect("a good quote"),
    }
}

pub(crate) fn request_id(id: &str) -> RequestId {
    RequestId::try_from(id.to_owned()).expect("a good id")
}

/// The entry that made the quote.
pub(crate) fn index(answer: &Answer) -> u64 {
    match &answer.outcome {
        Outcome::Done { index, .. } => *index,
        Outcome::Refused { .. } => panic!("refused: {answer:?}"),
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited for {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Why there was no answer.
pub(crate) fn refusal(answer: Result<Answer, NoAnswer>) -> NoAnswer {
    answer.expect_err("no answer is possible")
}
