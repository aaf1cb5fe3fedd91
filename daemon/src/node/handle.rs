//! What the rest of the daemon may ask of the node loop.

use std::sync::Arc;
use std::time::Duration;

use chorus_proto::message::NodeReport;
use chorus_proto::types::{Index, NodeName, RequestId};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::measure::Sights;
use super::{Lookout, Progress};
use crate::boards::Outcome;
use crate::store::{AppliedEntry, Stores};

/// The cluster as this node sees it: the object of `/api/v1/cluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = Cluster)]
pub struct ClusterView {
    /// `CLUSTERID`, hexadecimal; empty before the founding.
    pub cluster: String,
    /// From 1; 0 before the founding.
    pub epoch: u64,
    /// This node; none in a controller's view.
    pub node: Option<NodeName>,
    /// Who leads.
    pub leader: Option<NodeName>,
    /// The term.
    pub term: u64,
    /// What is known to be committed.
    pub commit_index: u64,
    /// Why there is no leader, in words.
    pub why: Option<String>,
    /// By name; every voter, and the learners that were heard.
    pub nodes: Vec<NodeReport>,
    /// How much of what others said reached this node lately.
    pub links: Vec<Link>,
}

impl ClusterView {
    /// Brings what it says of the node `own`, whose view it is, up to what is known of it since.
    pub(crate) fn reach(&mut self, own: &NodeName, committed: Index, applied: Index) {
        self.commit_index = self.commit_index.max(committed.0);
        for node in self.nodes.iter_mut().filter(|node| node.name == *own) {
            node.commit_index = node.commit_index.max(committed);
            node.applied_index = node.applied_index.max(applied);
            node.last_index = node.last_index.max(applied);
        }
    }
}

/// How much of what another node said reached this one in the last ten seconds. Rounds of HEARTBEAT bear numbers: a leader
/// counts those that came back, on the way there or back; the others those that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Link {
    /// The other node.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Rounds that were to be heard.
    pub rounds: u64,
    /// Those of them that were not.
    pub missed: u64,
}

/// A request on its way in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The request's id.
    pub id: RequestId,
    /// The id was drawn here a moment ago: nobody can have sent it before.
    pub fresh: bool,
    /// The board.
    pub board: &'static str,
    /// The operation.
    pub op: &'static str,
    /// Its version.
    pub v: u32,
    /// What the edge made of the request.
    pub body: Vec<u8>,
}

/// A request's end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the state machine made of it.
    pub outcome: Outcome,
    /// The id had been applied before this submission.
    pub replayed: bool,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct NoAnswer {
    /// `no_leader`, `overloaded`, `catching_up`, `outcome_unknown`, `too_large`, `playing_dead`, `disk_reserve`,
    /// `board_full`.
    pub code: &'static str,
    /// One sentence with the reason and what to do.
    pub detail: String,
    /// Worth trying again after so long.
    pub retry: Option<Duration>,
    /// Who leads, if known.
    pub leader: Option<NodeName>,
}

/// What the loop is asked for.
#[derive(Debug)]
pub enum Demand {
    /// Carry out a request.
    Submit(Submission, oneshot::Sender<Result<Answer, NoAnswer>>),
    /// An index at which a read is linearizable.
    ReadIndex(oneshot::Sender<Result<Index, NoAnswer>>),
    /// Lose this share of what is received, 0 to 1: a drill, for whoever started the process alone.
    Lose(f64),
    /// Leave: hand over leadership, then end the loop.
    Stop,
}

/// A way to the node loop, to be cloned freely.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    /// This node's name.
    pub name: NodeName,
    /// To the loop. Bounded: a full queue is `overloaded`.
    pub demands: mpsc::Sender<Demand>,
    /// The cluster as last seen; published at every change of role, leader or term, within 100 ms when the indexes
    /// move on, and about every second.
    pub view: watch::Receiver<Arc<ClusterView>>,
    /// The applied index.
    pub applied: watch::Receiver<u64>,
    /// Every applied entry, in order. Who falls behind reads `Stores::events`.
    pub feed: broadcast::Sender<Arc<AppliedEntry>>,
    /// The stores, for reads.
    pub stores: Stores,
    /// The loop's sign of life.
    pub progress: Progress,
    /// Where it can be watched.
    pub lookout: Lookout,
    /// What is looked at when somebody asks how it is.
    pub sights: Sights,
}

/// How long a request may wait for its outcome.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

impl NodeHandle {
    /// Carries out a request: proposes it or sends it to the leader, and waits for its outcome here.
    ///
    /// # Errors
    /// With a reason that says whether it can have happened (`outcome_unknown`) or cannot.
    pub async fn submit(&self, submission: Submission) -> Result<Answer, NoAnswer> {
        let (answer, outcome) = oneshot::channel();
        self.demand(Demand::Submit(submission, answer))?;
        outcome.await.unwrap_or_else(|_| Err(stopping("outcome_unknown")))
    }

    /// An index at which a read is linearizable (thesis 6.4); it still has to be applied here (`wait_applied`).
    ///
    /// # Errors
    /// When no leader confirms in time.
    pub async fn read_index(&self) -> Result<Index, NoAnswer> {
        let (answer, index) = oneshot::channel();
        self.demand(Demand::ReadIndex(answer))?;
        index.await.unwrap_or_else(|_| Err(stopping("no_leader")))
    }

    /// Waits until `index` is applied here; false when the time ran out first.
    pub async fn wait_applied(&self, index: u64, at_most: Duration) -> bool {
        let mut applied = self.applied.clone();
        tokio::time::timeout(at_most, applied.wait_for(|now| *now >= index))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    fn demand(&self, demand: Demand) -> Result<(), NoAnswer> {
        self.demands.try_send(demand).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => NoAnswer {
                code: "overloaded",
                detail: "this node has as many requests waiting as it takes; try again shortly".to_owned(),
                retry: Some(Duration::from_millis(100)),
                leader: None,
            },
            mpsc::error::TrySendError::Closed(_) => stopping("no_leader"),
        })
    }
}

/// The node is on its way out.
pub(super) fn stopping(code: &'static str) -> NoAnswer {
    NoAnswer {
        code,
        detail: "this node is stopping; ask another one with the same key".to_owned(),
        retry: Some(Duration::from_millis(500)),
        leader: None,
    }
}
