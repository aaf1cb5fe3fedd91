//! What must cost no election, on a machine that may bring about one by itself.

use chorus_proto::types::Term;

use crate::cluster::Cluster;
use crate::voice::Voice;

/// A machine that stands still now and then does so in one try or two; what costs an election costs one in each.
const TRIES: u32 = 3;

/// Does something through which nobody may be elected, and once more when somebody was. `once` is told the number of the try and
/// the term; what it gave in the try through which one leader led.
pub(crate) async fn under_one_leader<T>(
    cluster: &Cluster,
    voice: &mut Voice,
    what: &str,
    mut once: impl AsyncFnMut(u32, Term) -> T,
) -> T {
    let mut moved = Vec::new();
    for attempt in 1..=TRIES {
        cluster.settled().await;
        let leader = cluster.leader().await;
        let term = voice.report(cluster.name(leader)).term;
        let given = once(attempt, term).await;
        let later = cluster.leader().await;
        // Whoever campaigned or followed a campaign is in another term.
        let terms: Vec<Term> =
            cluster.running().iter().map(|&k| voice.report(cluster.name(k)).term).collect();
        if later == leader && terms.iter().all(|other| *other == term) {
            return given;
        }
        let [before, now] = [leader, later].map(|k| cluster.name(k));
        moved.push(format!("from {before} in {term:?} to {now} in {terms:?}"));
    }
    panic!("{what}: somebody was elected in each of {TRIES} tries: {moved:?}");
}
