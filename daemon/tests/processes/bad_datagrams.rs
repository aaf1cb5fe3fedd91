//! What comes over the network and is not from the cluster: counted by its reason, dropped, never answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use chorus_proto::message::{Ask, Heartbeat, Message, Recipient};
use chorus_proto::types::{Boot, Cluster as ClusterId, DATAGRAM_BYTES_MAX, Index, RequestId, Round, Term};
use chorus_proto::wire::{Endpoint, Secret, Under};

use crate::client::dropped;
use crate::cluster::Cluster;
use crate::random::Random;
use crate::voice::Voice;
use crate::wait::wait_for;

const TIMES: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_datagrams_are_counted_by_reason_and_never_answered() {
    let cluster = Cluster::start(3).await;
    cluster.settled().await;
    let mut controller = Controller::new(&cluster);
    let nodes = controller.ask_all(&cluster);

    let good = controller.seal_status("replayed");
    controller.send(&good, cluster.group());
    assert_eq!(controller.answers(3).len(), 3, "the good one is answered by each");

    let strange = controller.strange(&good);
    for target in std::iter::once(cluster.group()).chain(nodes.iter().copied()) {
        let before = all_dropped(&cluster).await;
        for datagram in strange.iter().flat_map(|(_, datagrams)| datagrams) {
            controller.send(datagram, target);
        }
        let hears = |k: usize| target == cluster.group() || controller.unicast[cluster.name(k)] == target;
        wait_for("every strange datagram to be counted by its reason", async || {
            let now = all_dropped(&cluster).await;
            let counted = (0..cluster.len()).all(|k| {
                strange.iter().all(|(reason, datagrams)| {
                    let more = now[k][*reason] - before[k][*reason];
                    let sent = if hears(k) { datagrams.len() as u64 } else { 0 };
                    assert!(more <= sent, "{} counts {more} of {sent} '{reason}'", cluster.name(k));
                    more == sent
                })
            });
            counted.then_some(())
        })
        .await;
    }

    // Whatever was answered would have come before the answers to this one.
    let fence = controller.seal_status("fence");
    controller.send(&fence, cluster.group());
    for (_, request) in controller.answers(3) {
        assert_eq!(request, "fence", "nothing else is answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_random_and_mutated_datagrams_do_not_disturb_the_cluster() {
    let cluster = Cluster::start(3).await;
    let mut controller = Controller::new(&cluster);
    let nodes = controller.ask_all(&cluster);
    let mut random = Random::new(7);
    let targets: Vec<SocketAddr> = std::iter::once(cluster.group()).chain(nodes).collect();
    for n in 0..20_000 {
        let mut datagram = controller.seal_status("mutated");
        match n % 4 {
            0 => {
                let length = random.below(1_500);
                datagram = random.bytes(length);
            }
            1 => {
                let at = random.below(datagram.len());
                datagram[at] ^= 1 << random.below(8);
            }
            2 => datagram.truncate(random.below(datagram.len())),
            _ => {
                let length = random.below(100);
                datagram.extend(random.bytes(length));
            }
        }
        controller.send(&datagram, targets[n % targets.len()]);
    }
    for (k, client) in cluster.clients().iter().enumerate() {
        client.quote(&format!("after-the-flood-{k}"), "Ada", "Still here.").await;
        let counted: u64 = dropped(client).await.values().sum();
        assert!(counted > 1_000, "{} counted {counted}", cluster.name(k));
    }
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT seq FROM quotes").len(), 3);
}

/// Someone with the cluster's secret, and with bad intentions.
struct Controller {
    voice: Voice,
    unicast: BTreeMap<String, SocketAddr>,
}

impl Controller {
    fn new(cluster: &Cluster) -> Self {
        Self { voice: Voice::new(cluster, 0x5EED), unicast: BTreeMap::new() }
    }

    /// Learns the address of every node's own socket from its answer.
    fn ask_all(&mut self, cluster: &Cluster) -> Vec<SocketAddr> {
        let status = self.seal_status("who");
        self.send(&status, cluster.group());
        while self.unicast.len() < cluster.len() {
            let (opened, from) = self.voice.hear().expect("an answer of every node");
            self.unicast.insert(opened.sender_name, from);
        }
        self.unicast.values().copied().collect()
    }

    /// The next answers: who, and to which request.
    fn answers(&mut self, count: usize) -> BTreeSet<(String, String)> {
        let mut answers = BTreeSet::new();
        while answers.len() < count {
            let (opened, _) = self.voice.hear().expect("an answer");
            let Message::Done(done) = opened.message else { panic!("{:?}", opened.message) };
            answers.insert((opened.sender_name, done.request_id.as_str().to_owned()));
        }
        answers
    }

    fn seal_status(&mut self, id: &str) -> Vec<u8> {
        self.voice.seal(&status(id))
    }

    fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.voice.send(datagram, to);
    }

    /// Bad ones by the reason for which they must be dropped. `seen` is one that every node has seen already.
    fn strange(&mut self, seen: &[u8]) -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let fresh = self.seal_status("strange");
        let changed = |at: usize, to: u8| {
            let mut datagram = fresh.clone();
            datagram[at] = to;
            datagram
        };
        let mut foreigner = Endpoint::controller(Secret::from([7; 32]), 1, Boot(1), 1);
        let foreign =
            foreigner.seal(Under::Common, &Recipient::Everyone, &status("foreign")).expect("it fits");
        let mut neighbour = Endpoint::controller(Secret::from(self.voice.secret), 2, Boot(1), 1);
        neighbour.set_cluster(Some(ClusterId { id: [9; 16], epoch: 1 }));
        let other_cluster =
            neighbour.seal(Under::Cluster, &Recipient::Everyone, &heartbeat()).expect("it fits");
        let mut long = fresh.clone();
        long.resize(DATAGRAM_BYTES_MAX + 1, 0);
        let last = fresh.len() - 1;

        let kinds = [
            ("short", vec![Vec::new(), b"Ch".to_vec(), fresh[..64].to_vec()]),
            ("version", vec![changed(0, b'X'), changed(2, 2), vec![0xA5; 300]]),
            ("tag", vec![foreign, other_cluster, changed(8, fresh[8] ^ 1)]),
            (
                "auth",
                vec![
                    changed(last, fresh[last] ^ 1),
                    changed(60, fresh[60] ^ 1),
                    changed(47, fresh[47] ^ 0x40),
                ],
            ),
            ("replay", vec![seen.to_vec()]),
            ("malformed", vec![long]),
        ];
        let repeated = |datagrams: Vec<Vec<u8>>| (0..TIMES).flat_map(|_| datagrams.clone()).collect();
        kinds.into_iter().map(|(reason, datagrams)| (reason, repeated(datagrams))).collect()
    }
}

fn status(id: &str) -> Message {
    Message::Status(Ask { request_id: RequestId::try_from(id.to_owned()).expect("a request id") })
}

fn heartbeat() -> Message {
    Message::Heartbeat(Heartbeat {
        term: Term(1_000_000),
        prev_log_index: Index(0),
        prev_log_term: Term(0),
        entries: Vec::new(),
        commit_index: Index(0),
        last_index: Index(0),
        round: Round(1),
    })
}

async fn all_dropped(cluster: &Cluster) -> Vec<BTreeMap<String, u64>> {
    let mut all = Vec::new();
    for client in cluster.clients() {
        all.push(dropped(&client).await);
    }
    all
}
