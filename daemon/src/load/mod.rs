//! Load for measurements: clients in a closed loop, how long each answer took, whether what was acknowledged is there
//! afterwards, and how one figure stands to another, in numbers and as a picture.
//!
//! *Closed loop* means that each client sends its next request when its last one was answered. The rate that comes
//! out is that of so many clients and not the most that a cluster can take, and a node that stalls is asked less
//! meanwhile; whoever reads the figures must know that.

mod bars;
mod check;
mod closed_loop;
mod http;
mod latency;
mod processor;
mod rounds;

pub use bars::Bars;
pub use check::{Acknowledged, Found, Verdict};
pub use closed_loop::{Client, Load, Until, closed_loop};
pub use http::{Answer, Broken, Connection};
pub use latency::Latency;
pub use processor::{cpu_time, process_time};
pub use rounds::Rounds;
