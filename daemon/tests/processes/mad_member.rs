//! A member whose program went mad: it says what its place allows, far too often. The others go on.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chorus_proto::message::{
    Carried, CatchMeUp, Control, Heartbeat, Hello, Lagging, Message, Recipient, Role, VoteConsensus, VoteMe,
};
use chorus_proto::types::{
    Boot, Cluster as ClusterId, Entry, EntryId, Identity, Index, NodeId, Payload, Round, Term,
};
use chorus_proto::wire::{Endpoint, Secret, Under};
use rusqlite::{Connection, OpenFlags};

use crate::calm::under_one_leader;
use crate::client::dropped;
use crate::cluster::Cluster;
use crate::long;
use crate::pace::Pace;
use crate::puts::{put, put_at};
use crate::voice::{Voice, request_id, socket};
use crate::wait::wait_for;

/// Datagrams a second to the group.
const A_SECOND: u32 = 20_000;
/// Writes a second meanwhile.
const WRITES: u32 = 50;
/// What it gives as its process, so that it is told from the one before it.
const MAD_PID: i32 = 1;
/// What it says, each more often than it may.
const CLASSES: [&str; 5] = ["elections", "old_term", "repair", "presence", "commands"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_says_too_much_changes_no_leader_and_stops_no_write() {
    let long = long();
    let lasts = Duration::from_secs(if long { 15 } else { 1 });
    let mut cluster = Cluster::start(5).await;
    cluster.settled().await;
    let mut voice = Voice::new(&cluster, 0x3AD);
    // The first leader, so that there is a term that is over.
    let place = cluster.leader().await;
    cluster.kill(place);
    let sound = cluster.running();
    cluster.leader().await;
    put_at(&cluster, &sound, "before", WRITES, Duration::from_secs(1)).await;
    let mad = Arc::new(Mutex::new(Member::take_place(&cluster, place, &mut voice)));
    await_proof(&cluster, &mad).await;

    for class in CLASSES {
        let (before, load, done) = under_one_leader(&cluster, &mut voice, class, async |attempt, term| {
            let before = rates(&cluster, &sound).await;
            let (speaker, mut n) = (Arc::clone(&mad), 0);
            let messages = said(class, term, &speaker.lock().expect("nobody speaks yet").hello);
            let flood = Pace::begin(A_SECOND, move || {
                let mut speaker = speaker.lock().expect("one speaks at a time");
                if n % A_SECOND as usize == 0 {
                    speaker.say_hello();
                }
                speaker.say(&messages[n % messages.len()]);
                n += 1;
            });
            let load = put_at(&cluster, &sound, &format!("{class}-{attempt}"), WRITES, lasts).await;
            (before, load, flood.end())
        })
        .await;
        let rates: Vec<u64> =
            rates(&cluster, &sound).await.iter().zip(before).map(|(now, before)| now - before).collect();
        println!(
            "measured: {class} at {:.0} a second from one member: {rates:?} of {} dropped, p99 of {WRITES} writes a \
             second {:.1} ms",
            done.a_second(),
            done.times,
            load.latency.percentile_ms(99.0)
        );
        assert!(done.a_second() > f64::from(A_SECOND) / 4.0, "{class}: {done:?}");
        assert!(rates.iter().all(|rate| *rate > 0), "{class}: {rates:?} of {done:?}");
    }
    cluster.spawn_all();
    cluster.settled().await;
    cluster.same_rows("SELECT key, value FROM store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sound_nodes_say_as_fast_as_they_can_is_never_too_much() {
    let mut cluster = Cluster::start(5).await;
    cluster.settled().await;
    let leader = cluster.leader().await;
    let away = cluster.others(leader)[0];
    cluster.kill(away);
    let sound = cluster.running();
    let load = put(&cluster, &sound, "busy", 10_000, 900).await;
    // Who was away asks for all of it while more is written.
    cluster.spawn(away);
    put(&cluster, &sound, "more", 5_000, 900).await;
    cluster.settled().await;
    let all = cluster.running();
    println!("measured: at {:.0} writes a second nothing is too much", load.rate());
    assert_eq!(rates(&cluster, &all).await, [0; 5]);
}

/// How many datagrams each of the sound nodes dropped because there were too many of their class.
async fn rates(cluster: &Cluster, sound: &[usize]) -> Vec<u64> {
    let mut rates = Vec::new();
    for &k in sound {
        rates.push(dropped(&cluster.client(k)).await["rate"]);
    }
    rates
}

/// Says HELLO until every sound node takes what this start of the member says.
pub(crate) async fn await_proof(cluster: &Cluster, mad: &Arc<Mutex<Member>>) {
    wait_for("the mad member to be taken for the one whose place it has", async || {
        let name = {
            let mut mad = mad.lock().expect("one speaks at a time");
            mad.say_hello();
            mad.name.clone()
        };
        for &k in &cluster.running() {
            let view = cluster.client(k).view().await?;
            let node = view.nodes.into_iter().find(|node| node.name == name)?;
            (node.pid == Some(MAD_PID)).then_some(())?;
        }
        Some(())
    })
    .await;
}

/// What it says of each class: nothing that a sound member whose log is short could not say, if not so often.
fn said(class: &str, term: Term, hello: &Hello) -> Vec<Message> {
    let (last_log_term, last_log_index, configuration_index) = (Term(1), Index(1), Index(0));
    match class {
        "elections" => vec![
            Message::VoteConsensus(VoteConsensus {
                term: Term(term.0 + 1),
                last_log_term,
                last_log_index,
                round: Round(1),
                configuration_index,
            }),
            Message::VoteMe(VoteMe {
                term: Term(term.0 + 1),
                last_log_term,
                last_log_index,
                transfer: false,
                configuration_index,
            }),
        ],
        "old_term" => {
            let payload = Payload::Command(Bytes::from(vec![7; 900]));
            let entry = Entry { id: EntryId { term: Term(1), index: Index(2) }, time_ms: 1, payload };
            vec![heartbeat(Vec::new()), heartbeat(vec![Carried::Whole(entry)])]
        }
        "repair" => vec![
            Message::Lagging(lagging(term, vec![(Index(2), Index(20))])),
            Message::Lagging(lagging(term, Vec::new())),
            Message::CatchMeUp(CatchMeUp { term, from: Index(2), to: Index(20), snapshot: false }),
        ],
        "presence" => vec![Message::Hello(Box::new(hello.clone()))],
        _ => vec![Message::Follow(unsigned(hello))],
    }
}

/// A command to somebody who is heard, that no control key has signed.
fn unsigned(hello: &Hello) -> Control {
    let (target, target_boot) = hello.heard[0];
    let signature = vec![7; 64];
    Control { request_id: request_id("mad"), target, target_boot, signature, change: None, key: None }
}

/// Of a leader whose term is over.
fn heartbeat(entries: Vec<Carried>) -> Message {
    Message::Heartbeat(Heartbeat {
        term: Term(1),
        prev_log_index: Index(1),
        prev_log_term: Term(1),
        last_index: Index(1 + entries.len() as u64),
        entries,
        commit_index: Index(1),
        round: Round(1),
    })
}

fn lagging(term: Term, ranges: Vec<(Index, Index)>) -> Lagging {
    Lagging { term, matched_index: Index(1), matched_term: Term(0), ranges, parts: Vec::new() }
}

/// Who has the identity of a voter that does not run.
pub(crate) struct Member {
    endpoint: Endpoint,
    socket: UdpSocket,
    group: SocketAddr,
    name: String,
    hello: Hello,
}

impl Member {
    pub(crate) fn take_place(cluster: &Cluster, k: usize, voice: &mut Voice) -> Self {
        let file = cluster.data_dir(k).join("log.db");
        let log = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("log.db");
        let row = log.query_row("SELECT identity, boot, cluster_id, epoch FROM self", [], |row| {
            let (identity, cluster_id): ([u8; 16], [u8; 16]) = (row.get(0)?, row.get(2)?);
            Ok((identity, row.get::<_, i64>(1)?, cluster_id, row.get::<_, i64>(3)?))
        });
        let (identity, boot, id, epoch) = row.expect("who it was");
        let boot = Boot(boot.cast_unsigned() + 1);
        let cluster_id = ClusterId { id, epoch: epoch.cast_unsigned() };
        let others: Vec<_> = cluster.running().into_iter().map(|k| voice.report(cluster.name(k))).collect();
        let of = |report: &chorus_proto::message::NodeReport| {
            let id = u64::from_str_radix(&report.id, 16).expect("16 hexadecimal digits");
            (NodeId(id), report.boot.expect("STATUS names the boot"))
        };
        let name = cluster.name(k).to_owned();
        let hello = Hello {
            cluster: Some(cluster_id),
            empty: false,
            founded: true,
            voters: (0..cluster.len()).map(|k| cluster.name(k).parse().expect("a name")).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: Role::Follower,
            term: others[0].term,
            durable: EntryId::new(0, 1),
            commit_index: Index(1),
            applied_index: Index(1),
            first_index: Index(1),
            configuration_index: Index(1),
            receive_buffer_bytes: 8 << 20,
            pid: MAD_PID.cast_unsigned(),
            heard: others.iter().map(of).collect(),
            ..Hello::bare(name.parse().expect("a name"), Identity(identity))
        };
        let secret = Secret::from(voice.secret);
        let mut endpoint = Endpoint::node(secret, hello.name.clone(), &hello.identity, boot, 0x3AD);
        endpoint.set_cluster(Some(cluster_id));
        Self { endpoint, socket: socket(), group: cluster.group(), name, hello }
    }

    fn say_hello(&mut self) {
        self.say(&Message::Hello(Box::new(self.hello.clone())));
    }

    pub(crate) fn say(&mut self, message: &Message) {
        let datagram = self.endpoint.seal(Under::Cluster, &Recipient::Everyone, message).expect("it fits");
        self.socket.send_to(&datagram, self.group).expect("loopback takes it");
    }
}
