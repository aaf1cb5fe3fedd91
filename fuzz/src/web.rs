//! One node's real web, on a real socket, over a stand-in for the loop that applies every request at once. All of it lives in
//! one thread: what an input does, it does in one order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chorus::boards::{Boards, Command, Outcome};
use chorus::http::{WebState, serve};
use chorus::metrics::Metrics;
use chorus::node::{Answer, ClusterView, Demand, Lookout, NodeHandle, Progress, Sights, Submission};
use chorus::quota::Quotas;
use chorus::store::{Applied, AppliedEntry, Reports, Retention, StoreError, Stores};
use chorus_proto::types::{EntryId, Index, NodeName, Token};
use rusqlite::{Connection, Transaction};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, watch};

use crate::rows;

/// Whatever is awaited comes within this time, also in a process that gets little of the processor.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server, and what stands behind it.
pub(crate) struct Web {
    runtime: Runtime,
    address: SocketAddr,
    loops: Loop,
    rows: Connection,
    _directory: tempfile::TempDir,
}

/// The stand-in's ends of a [`NodeHandle`].
struct Loop {
    asked: mpsc::Receiver<Demand>,
    feed: broadcast::Sender<Arc<AppliedEntry>>,
    applied: watch::Sender<u64>,
    _view: watch::Sender<Arc<ClusterView>>,
}

/// Nothing is written to these stores.
struct Nobody;

impl Reports for Nobody {
    fn persisted(&self, _: Token) {}

    fn applied(&self, _: Applied) {}

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

impl Web {
    pub(crate) fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let name: NodeName = "n2".parse().expect("a name");
        let opened = Stores::open(
            directory.path(),
            &name,
            Boards::all(),
            (Retention::default(), &Quotas::new()),
            Arc::new(Nobody),
        )
        .expect("a new store");
        let (demands, asked) = mpsc::channel(64);
        let (feed, _) = broadcast::channel(256);
        let (applied, applied_seen) = watch::channel(1);
        let view = ClusterView {
            cluster: "01".repeat(16),
            epoch: 1,
            node: Some(name.clone()),
            leader: Some(name.clone()),
            term: 1,
            commit_index: 1,
            ..ClusterView::default()
        };
        let (view, view_seen) = watch::channel(Arc::new(view));
        let handle = NodeHandle {
            name,
            demands,
            view: view_seen,
            applied: applied_seen,
            feed: feed.clone(),
            stores: opened.stores,
            progress: Progress::default(),
            lookout: Lookout::default(),
            sights: Sights::default(),
        };
        let state = WebState {
            handle,
            boards: Boards::all(),
            metrics: Arc::new(Metrics::default()),
            public_url: None,
            hosts: Vec::new(),
            writes_per_second: 0,
            guard: chorus::guard::Guard::default(),
            supervisor: None,
            caches: true,
        };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        runtime.spawn(serve(listener, state, std::future::pending()));
        let loops = Loop { asked, feed, applied, _view: view };
        Self { runtime, address, loops, rows: rows::open(), _directory: directory }
    }

    /// Lets a client talk to the server over one connection, with an empty state behind it.
    ///
    /// # Panics
    /// When it does not come to its end in time.
    pub(crate) fn talk(&mut self, client: impl AsyncFnOnce(&mut TcpStream)) {
        let Self { runtime, address, loops, rows, .. } = self;
        // Dropped, and so rolled back.
        let rows = rows.transaction().expect("nothing else is under way");
        let talk = async {
            let mut stream = TcpStream::connect(*address).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            client(&mut stream).await;
            // Thousands of connections a second: none of them may leave its port behind.
            stream.set_zero_linger().expect("a socket");
        };
        runtime.block_on(async {
            tokio::select! {
                () = loops.answer(&rows) => unreachable!("a server does not end"),
                ended = tokio::time::timeout(PATIENCE, talk) => ended.expect("it ends in time"),
            }
        });
    }
}

impl Loop {
    async fn answer(&mut self, rows: &Transaction<'_>) {
        while let Some(demand) = self.asked.recv().await {
            match demand {
                Demand::Submit(submission, asker) => {
                    let _gone = asker.send(Ok(self.submit(rows, submission)));
                }
                Demand::ReadIndex(asker) => {
                    let _gone = asker.send(Ok(Index(*self.applied.borrow())));
                }
                Demand::Lose(_) => unreachable!("nobody supervises this node"),
                Demand::Stop => return,
            }
        }
    }

    fn submit(&mut self, rows: &Transaction<'_>, submission: Submission) -> Answer {
        let Submission { id, board, op, v, body, .. } = submission;
        let index = *self.applied.borrow() + 1;
        let (board, op, node) = (board.to_owned(), op.to_owned(), "n2".to_owned());
        let command = Command { id, board, op, v, node, body };
        let effect = rows::apply(rows, index, 0, &command);
        // What the edge lets through, the rules may refuse for what is there, but never for what it is.
        if let Outcome::Refused { code, detail, .. } = &effect.outcome {
            assert!(code != "invalid", "the edge let through what {} refuses: {detail}", command.board);
        }
        let request = Some((command.id, effect.outcome.clone()));
        let (items, touched) = (effect.items, effect.touched);
        let entry = AppliedEntry { index, term: 1, request, body: None, items, touched };
        let _nobody = self.feed.send(Arc::new(entry));
        self.applied.send_replace(index);
        Answer { outcome: effect.outcome, replayed: false }
    }
}

/// Lends the web of this thread.
pub(crate) fn with_web(run: impl FnOnce(&mut Web)) {
    thread_local! {
        static WEB: std::cell::RefCell<Option<Web>> = const { std::cell::RefCell::new(None) };
    }
    WEB.with_borrow_mut(|web| run(web.get_or_insert_with(Web::open)));
}
