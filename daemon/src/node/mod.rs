//! The node loop: one event in, one core call, carry out its Actions.

mod handle;

pub use handle::{ANSWER_WAIT_MAX, Answer, ClusterView, Demand, NoAnswer, NodeHandle, Submission};
