//! What comes over the network and is not from the cluster: counted by its reason, dropped, never answered.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Instant;

use chorus_proto::message::{Ask, Heartbeat, Message, Recipient};
use chorus_proto::types::{Boot, Cluster as ClusterId, DATAGRAM_BYTES_MAX, Index, RequestId, Round, Term};
use chorus_proto::wire::{Endpoint, Secret, Under};

use crate::calm::under_one_leader;
use crate::client::dropped;
use crate::cluster::Cluster;
use crate::measure::resident_kib;
use crate::random::Random;
use crate::replays::{all_know_each_other, copies, record, start};
use crate::voice::{Voice, socket};
use crate::wait::wait_for;

const TIMES: u64 = 20;
/// Of the many bad ones, so many are sent,
const MILLION: usize = 1_000_000;
/// at most so many of them at once,
const AT_ONCE_MAX: usize = 2_000;
/// and so many bytes of the receive buffer for each, more than the kernel takes.
const DATAGRAM_TAKES: usize = 4_096;
/// What a node's memory may grow by.
const MORE_KIB: u64 = 8 * 1024;

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
    all_know_each_other(&cluster).await;
    for target in std::iter::once(cluster.group()).chain(nodes.iter().copied()) {
        let (copied, before) = (copies(&cluster).await, all_dropped(&cluster).await);
        for datagram in strange.iter().flat_map(|(_, datagrams)| datagrams) {
            controller.send(datagram, target);
        }
        let hears = |k: usize| target == cluster.group() || controller.unicast[cluster.name(k)] == target;
        wait_for("every strange datagram to be counted by its reason", async || {
            let now = all_dropped(&cluster).await;
            // On a machine that stalls a node sends copies for a while, and of each the second one is a replay too.
            let copied = copies(&cluster).await - copied;
            let counted = (0..cluster.len()).all(|k| {
                strange.iter().all(|(reason, datagrams)| {
                    let more = now[k][*reason] - before[k][*reason];
                    let sent = if hears(k) { datagrams.len() as u64 } else { 0 };
                    let most = if *reason == "replay" { sent + copied } else { sent };
                    assert!(more <= most, "{} counts {more} of {most} '{reason}'", cluster.name(k));
                    more >= sent
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
async fn a_million_random_and_mutated_datagrams_at_real_sockets_are_all_dropped() {
    let cluster = Cluster::start(3).await;
    let recorded = record(&cluster).await;
    cluster.settled().await;
    let mut controller = Controller::new(&cluster);
    controller.ask_all(&cluster);
    let place = |k: usize| controller.unicast[cluster.name(k)];
    let targets = [cluster.group(), place(0), place(1), place(2)];
    let own: Vec<[u8; 16]> = (0..3).map(|k| start(&cluster, &mut controller.voice, k)).collect();
    let memory: Vec<u64> = (0..3).map(|k| resident_kib(cluster.pid(k))).collect();
    let before: Vec<u64> = counted(&cluster).await;

    let at_once = (receive_buffer_bytes(&cluster).await / DATAGRAM_TAKES).min(AT_ONCE_MAX);
    let mut bad = Bad { recorded, random: Random::new(7), made: 0 };
    let senders = [socket(), socket(), socket(), socket()];
    let mut expected = before.clone();
    let took = under_one_leader(&cluster, &mut controller.voice, "bad datagrams", async |_, _| {
        let (begun, enough) = (Instant::now(), bad.made + MILLION);
        while bad.made < enough {
            for _ in 0..at_once {
                let (datagram, target) = (bad.next(), bad.made % targets.len());
                senders[bad.random.below(senders.len())]
                    .send_to(&datagram, targets[target])
                    .expect("it is sent");
                for k in 0..3 {
                    // What bears a node's own start is taken for its own words that came back.
                    let counts = datagram.get(16..32) != Some(&own[k]);
                    expected[k] += u64::from((target == 0 || target == k + 1) && counts);
                }
            }
            wait_for("every bad datagram to be counted", async || {
                let counted = counted(&cluster).await;
                counted.iter().zip(&expected).all(|(counted, expected)| counted >= expected).then_some(())
            })
            .await;
        }
        begun.elapsed()
    })
    .await;

    for sender in &senders {
        sender.set_nonblocking(true).expect("a socket that does not block");
        let answer = sender.recv_from(&mut [0; DATAGRAM_BYTES_MAX]).map_err(|error| error.kind());
        assert_eq!(answer, Err(ErrorKind::WouldBlock), "nothing is answered");
    }
    for (k, client) in cluster.clients().iter().enumerate() {
        let more = resident_kib(cluster.pid(k)).saturating_sub(memory[k]);
        let (name, dropped) = (cluster.name(k), expected[k] - before[k]);
        println!("measured: {name} counted {dropped} bad datagrams in {took:.1?}, memory + {more} KiB");
        assert!(more <= MORE_KIB, "{name} grew by {more} KiB");
        client.quote(&format!("after-the-million-{k}"), "Ada", "Still here.").await;
        assert!(!cluster.talk(k).contains("panicked"), "{}", cluster.talk(k));
    }
    cluster.settled().await;
}

/// Datagrams that each node dropped, for whatever reason.
async fn counted(cluster: &Cluster) -> Vec<u64> {
    all_dropped(cluster).await.iter().map(|reasons| reasons.values().sum()).collect()
}

/// The smallest of all nodes.
async fn receive_buffer_bytes(cluster: &Cluster) -> usize {
    let mut smallest = usize::MAX;
    for client in cluster.clients() {
        let metrics = client.text("/metrics").await;
        let bytes = metrics.lines().find_map(|line| line.strip_prefix("chorus_receive_buffer_bytes "));
        smallest = smallest.min(bytes.expect("the gauge").parse().expect("a number"));
    }
    smallest
}

/// Noise, and what was said to the group, damaged in every way.
struct Bad {
    recorded: Vec<Vec<u8>>,
    random: Random,
    made: usize,
}

impl Bad {
    fn next(&mut self) -> Vec<u8> {
        self.made += 1;
        let some = self.random.below(self.recorded.len());
        let mut datagram = self.recorded[some].clone();
        let random = &mut self.random;
        match self.made / 4 % 7 {
            0 => {
                let length = random.below(DATAGRAM_BYTES_MAX);
                datagram = random.bytes(length);
            }
            1 => {
                let at = random.below(datagram.len());
                datagram[at] ^= 1 << random.below(8);
            }
            2 => datagram.truncate(random.below(datagram.len())),
            3 => {
                let length = 1 + random.below(100);
                datagram.extend(random.bytes(length));
            }
            // The right magic, the right tag, the right header: each time more of what comes next is looked at.
            4 => {
                let (from, length) = ([3, 16, 48][random.below(3)], datagram.len());
                datagram.truncate(from);
                datagram.extend(random.bytes(length - from));
            }
            5 => {
                let other = &self.recorded[random.below(self.recorded.len())];
                datagram.truncate(48);
                datagram.extend(&other[48..]);
            }
            // Nothing is changed: it was said before.
            _ => {}
        }
        datagram
    }
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
