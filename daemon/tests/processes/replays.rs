//! Somebody records all that is said to the group, and says it again: before and after restarts of who said it, of who heard
//! it, and of everybody. Every node drops every one of those datagrams.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use chorus_proto::types::{DATAGRAM_BYTES_MAX, NodeId};
use socket2::{Domain, Protocol, Socket, Type};

use crate::client::dropped;
use crate::cluster::Cluster;
use crate::random::Random;
use crate::voice::Voice;
use crate::wait::wait_for;

/// Datagrams that are recorded, and said again in each of four rounds.
const RECORDED: usize = 2_500;
/// So many are said at once: they fit every receive buffer.
const AT_ONCE: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_replays_before_and_after_restarts_of_sender_receiver_and_both_are_dropped_by_all() {
    let mut cluster = Cluster::start(3).await;
    let recorded = record(&cluster).await;
    cluster.settled().await;
    let quotes = cluster.same_rows("SELECT seq FROM quotes").len();
    let mut voice = Voice::new(&cluster, 0x5E47);
    let mut random = Random::new(11);
    let follower = cluster.others(cluster.leader().await)[0];
    for round in ["nobody", "a follower", "the leader", "everybody"] {
        let restarted = match round {
            "nobody" => Vec::new(),
            "a follower" => vec![follower],
            "the leader" => vec![cluster.leader().await],
            _ => cluster.running(),
        };
        cluster.kill_all_of(&restarted);
        cluster.spawn_all();
        cluster.settled().await;
        all_know_each_other(&cluster).await;
        say_again(&cluster, &mut voice, &recorded, &mut random, round).await;
    }
    cluster.client(follower).quote("after", "Ada", "Still here.").await;
    cluster.settled().await;
    assert_eq!(cluster.same_rows("SELECT seq FROM quotes").len(), quotes + 1);
}

/// What is said to the group while quotes are posted.
pub(crate) async fn record(cluster: &Cluster) -> Vec<Vec<u8>> {
    let ear = ear(cluster);
    let listening = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 2 * DATAGRAM_BYTES_MAX];
        let mut hear = || ear.recv(&mut buffer).map(|length| buffer[..length].to_vec());
        (0..RECORDED).map(|_| hear().expect("the nodes speak")).collect::<Vec<_>>()
    });
    let mut posted = 0;
    while !listening.is_finished() {
        let posts = (0..8).map(|k| {
            let (client, key) = (cluster.client(k % cluster.len()), format!("recorded-{}", posted + k));
            tokio::spawn(async move { client.quote(&key, "Ada", "Recorded.").await })
        });
        for post in posts.collect::<Vec<_>>() {
            post.await.expect("a quote");
        }
        posted += 8;
    }
    listening.await.expect("what was recorded")
}

/// A member of the group without the secret.
fn ear(cluster: &Cluster) -> UdpSocket {
    let SocketAddr::V4(group) = cluster.group() else { panic!("the group has an IPv4 address") };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_reuse_address(true).expect("the port is shared");
    socket.set_recv_buffer_size(4 << 20).expect("a buffer");
    socket.bind(&SocketAddr::V4(group).into()).expect("the group's port");
    socket.join_multicast_v4(group.ip(), &Ipv4Addr::LOCALHOST).expect("the group");
    let ear = UdpSocket::from(socket);
    ear.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    ear
}

/// Nothing is dropped any more, but what is said again: every node has shown to every other that it hears it.
pub(crate) async fn all_know_each_other(cluster: &Cluster) {
    wait_for("the nodes to know each other", async || {
        let before = all_dropped(cluster).await;
        // Longer than between two HELLOs.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        (before == all_dropped(cluster).await).then_some(())
    })
    .await;
}

/// Each node drops all that it did not say itself at this start, and counts it.
async fn say_again(
    cluster: &Cluster,
    voice: &mut Voice,
    recorded: &[Vec<u8>],
    random: &mut Random,
    round: &str,
) {
    let own: Vec<[u8; 16]> = (0..cluster.len()).map(|k| start(cluster, voice, k)).collect();
    let mut order: Vec<&Vec<u8>> = recorded.iter().collect();
    (1..order.len()).rev().for_each(|at| order.swap(at, random.below(at + 1)));
    let (copied, mut expected) = (copies(cluster).await, all_dropped(cluster).await);
    for some in order.chunks(AT_ONCE) {
        for datagram in some {
            voice.send_to_group(datagram);
            for (count, own) in expected.iter_mut().zip(&own) {
                *count += u64::from(datagram[16..32] != own[..]);
            }
        }
        wait_for(&format!("every replay to be dropped after {round} was restarted"), async || {
            let now = all_dropped(cluster).await;
            // On a machine that stalls a node sends copies for a while, and of each the second one is a replay too.
            let copied = copies(cluster).await - copied;
            let too_many = now.iter().zip(&expected).any(|(now, expected)| *now > expected + copied);
            assert!(!too_many, "{now:?} dropped, {expected:?} expected, {copied} copies");
            now.iter().zip(&expected).all(|(now, expected)| now >= expected).then_some(())
        })
        .await;
    }
}

/// Datagrams that were sent twice, by any node.
pub(crate) async fn copies(cluster: &Cluster) -> u64 {
    let mut copies = 0;
    for client in cluster.clients() {
        let metrics = client.text("/metrics").await;
        let counter = metrics.lines().find_map(|line| line.strip_prefix("chorus_unicast_copies_total "));
        copies += counter.expect("the counter").parse::<u64>().expect("a number");
    }
    copies
}

/// Sender and boot, as a header has them, of a node's present start.
pub(crate) fn start(cluster: &Cluster, voice: &mut Voice, k: usize) -> [u8; 16] {
    let report = voice.report(cluster.name(k));
    let id = NodeId(u64::from_str_radix(&report.id, 16).expect("16 hexadecimal digits"));
    let boot = report.boot.expect("STATUS names the boot");
    let mut start = [0; 16];
    start[..8].copy_from_slice(&id.0.to_be_bytes());
    start[8..].copy_from_slice(&boot.0.to_be_bytes());
    start
}

async fn all_dropped(cluster: &Cluster) -> Vec<u64> {
    let mut all = Vec::new();
    for client in cluster.clients() {
        let counts: BTreeMap<String, u64> = dropped(&client).await;
        all.push(counts["replay"] + counts["unproven"]);
    }
    all
}
