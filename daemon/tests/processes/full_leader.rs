//! What a node takes of memory when everything that others say is full: at a leader that hears nobody for a while, with a member
//! that went mad beside it, and controllers that say far too much. (What clients over HTTP can fill is in `memory`.)
//!
//! Filled, and seen full in `/metrics`: parts that never become whole and their bytes, entries that come too early, repairs that
//! are asked for, a leader's entries that are not committed, lookups, linearizable reads of controllers and of the round that
//! does not come back, controllers that wait for an outcome.
//!
//! Not to be filled from outside: 16,384 proposals by their number, for their bytes end first; 64 LEADER_INFOs, for there is one of
//! a sender; 65,536 commands that were obeyed, which a test of that table fills; 1 MiB for each of four snapshots on their way,
//! which the tests of `transfer` do.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chorus_proto::message::{Carried, Catchup, Digest, Lagging, Message, Part, Read, Retrieve, Store};
use chorus_proto::types::{Entry, EntryId, Index, Payload, RequestId, Term};
use chorus_proto::wire::PART_BYTES_MAX;
use rustix::process::Signal;
use uuid::{NoContext, Timestamp, Uuid};

use crate::cluster::{Cluster, Options};
use crate::mad_member::{Member, await_proof};
use crate::measure::most_resident_mib;
use crate::memory::{PROMISED_MIB, reaches};
use crate::pace::Pace;
use crate::puts::put;
use crate::voice::{Voice, request_id};

/// Nobody campaigns, and the leader leads on, for longer than all of it takes: a leader that hears nobody for twice the longest.
const TIMEOUTS: [&str; 4] = ["--election-timeout-min", "5s", "--election-timeout-max", "15s"];
/// Datagrams a second.
const A_SECOND: u32 = 10_000;
/// Askings for repair a second: less than one sender may.
const LAGGINGS: u32 = 400;
/// RETRIEVEs a second of each of three controllers: each has the log read for it.
const RETRIEVES: u32 = 4_500;
const READERS: [u64; 3] = [0xF3, 0xF4, 0xF5];
/// What each takes.
const PARTS: u64 = 64;
const PART_COMMAND_BYTES: u32 = 64 << 10;
const EARLY: u64 = 64;
const REPAIRS: u64 = 32;
const LOOKUPS: u64 = 512;
const ROUND_READS: u64 = 4_096;
/// One less than it takes: a read that finds the round full is forgotten, and has pushed out another.
const NODE_READS: u64 = 1_023;
const CONTROLLERS: u64 = 1_024;
/// How often somebody asks until it hears that it asked too much,
const TRIES: u32 = 200;
/// and how long it waits each time: the leader is not to be without its followers for longer than it must.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);
/// What a controller wants kept.
const VALUE_BYTES: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_keeps_within_its_memory_when_all_that_others_say_is_full() {
    let arguments = TIMEOUTS.map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_with(4, Options { arguments, ..Options::default() }).await;
    cluster.settled().await;
    put(&cluster, &[0, 1, 2, 3], "before", 200, 900).await;
    let mut voice = Voice::new(&cluster, 0xF0);
    let leader = cluster.leader().await;
    let place = cluster.others(leader)[0];
    cluster.kill(place);
    let mad = Arc::new(Mutex::new(Member::take_place(&cluster, place, &mut voice)));
    await_proof(&cluster, &mad).await;
    let followers = cluster.others(leader);
    let term = voice.report(cluster.name(leader)).term;

    say_too_much(&cluster, &mad, term, (leader, followers[0])).await;
    // Nothing is committed and no read confirmed until they go on.
    followers.iter().for_each(|&k| cluster.signal(k, Signal::STOP));
    ask_too_much(&cluster, leader, &mut voice).await;
    assert_eq!(
        cluster.client(leader).metric("chorus_role{role=\"leader\"}").await,
        1,
        "it leads all the time"
    );
    followers.iter().for_each(|&k| cluster.signal(k, Signal::CONT));

    for &k in &cluster.running() {
        let most = most_resident_mib(cluster.pid(k));
        println!(
            "measured: memory of {} with full buffers and queues: {most:.1} MiB at most; promised {PROMISED_MIB}",
            cluster.name(k)
        );
        assert!(most <= PROMISED_MIB, "{}: {most:.1} MiB", cluster.name(k));
    }
    cluster.settled().await;
    for &k in &cluster.running() {
        cluster.client(k).quote(&format!("after-{k}"), "Ada", "There is room again.").await;
    }
}

/// What the mad member fills, of the leader and of a follower.
async fn say_too_much(
    cluster: &Cluster,
    mad: &Arc<Mutex<Member>>,
    term: Term,
    (leader, follower): (usize, usize),
) {
    let (leader, follower) = (cluster.client(leader), cluster.client(follower));
    for n in 0..2 * PARTS {
        mad.lock().expect("one speaks").say(&Message::Part(first_part(n)));
    }
    reaches(&leader, "chorus_buffer_depth{buffer=\"parts\"}", PARTS).await;
    reaches(&leader, "chorus_buffer_depth{buffer=\"part_bytes\"}", PARTS * u64::from(PART_COMMAND_BYTES))
        .await;

    let speaker = Arc::clone(mad);
    let lagging = Message::Lagging(Lagging {
        term,
        matched_index: Index(1),
        matched_term: Term(0),
        ranges: (2..2 + REPAIRS).map(|index| (Index(index), Index(index))).collect(),
        parts: Vec::new(),
    });
    let flood = Pace::begin(LAGGINGS, move || speaker.lock().expect("one speaks").say(&lagging));
    reaches(&follower, "chorus_buffer_depth{buffer=\"repairs\"}", REPAIRS).await;
    flood.end();

    for n in 0..2 * EARLY {
        mad.lock().expect("one speaks").say(&Message::Catchup(early(term, n)));
    }
    reaches(&follower, "chorus_buffer_depth{buffer=\"early\"}", EARLY).await;
}

/// The first piece of a command, of which no other comes.
fn first_part(n: u64) -> Part {
    let digest = Digest(*blake3::hash(&n.to_be_bytes()).as_bytes());
    let parts = PART_COMMAND_BYTES.div_ceil(PART_BYTES_MAX as u32);
    let parts = u16::try_from(parts).expect("some sixty");
    Part { digest, length: PART_COMMAND_BYTES, part: 0, parts, bytes: vec![7; PART_BYTES_MAX].into() }
}

/// Entries far from the end of every log.
fn early(term: Term, n: u64) -> Catchup {
    let previous = 1_000_000 + 10 * n;
    let entry = Entry {
        id: EntryId { term, index: Index(previous + 1) },
        time_ms: 1,
        payload: Payload::Command(Bytes::from(vec![7; 1_000])),
    };
    Catchup {
        term,
        commit_index: Index(previous + 1),
        prev_log_index: Index(previous),
        prev_log_term: term,
        entries: vec![Carried::Whole(entry)],
        snapshot: None,
    }
}

/// What controllers fill of the leader.
async fn ask_too_much(cluster: &Cluster, leader: usize, voice: &mut Voice) {
    let client = cluster.client(leader);
    let mut nonce = 0;
    let reads = floods(cluster, 0xF1, A_SECOND, move || {
        nonce += 1;
        Message::Read(Read { nonce })
    });
    reaches(&client, "chorus_buffer_depth{buffer=\"round_reads\"}", ROUND_READS).await;
    reaches(&client, "chorus_buffer_depth{buffer=\"node_reads\"}", NODE_READS).await;
    reads.end();

    let stores = floods(cluster, 0xF2, A_SECOND, || Message::Store(store()));
    reaches(&client, "chorus_buffer_depth{buffer=\"controllers\"}", CONTROLLERS).await;
    let limit = client.metric("chorus_queue_limit{queue=\"proposal_bytes\"}").await;
    reaches(&client, "chorus_queue_depth{queue=\"proposal_bytes\"}", limit - 2 * VALUE_BYTES as u64).await;
    stores.end();
    hears_overloaded(voice, || Message::Store(store()), "no room before the next commit");

    let readers: Vec<Pace> = READERS.map(|sender| floods(cluster, sender, RETRIEVES, retrieve)).into();
    reaches(&client, "chorus_queue_depth{queue=\"lookups\"}", LOOKUPS).await;
    hears_overloaded(voice, retrieve, "lookups waiting");
    for reader in readers {
        reader.end();
    }
}

/// A controller that says something new so many times a second.
fn floods(
    cluster: &Cluster,
    sender: u64,
    a_second: u32,
    mut next: impl FnMut() -> Message + Send + 'static,
) -> Pace {
    let mut voice = Voice::new(cluster, sender);
    Pace::begin(a_second, move || {
        let datagram = voice.seal(&next());
        voice.send_to_group(&datagram);
    })
}

/// What exceeds is refused, to whoever asks for it: in these words, and not for ever.
fn hears_overloaded(voice: &mut Voice, next: impl Fn() -> Message, why: &str) {
    for _ in 0..TRIES {
        let datagram = voice.seal(&next());
        voice.send_to_group(&datagram);
        // Its datagram or the answer may be lost among so many.
        let Some((opened, _)) = voice.hear_within(REFUSAL_WAIT) else { continue };
        if let Message::Refused(refused) = opened.message
            && refused.detail.contains(why)
        {
            assert!(refused.code == "overloaded" && refused.retry_ms.is_some(), "{refused:?}");
            return;
        }
    }
    panic!("nobody was refused because of {why}");
}

/// A controller asks for the beginning of the log.
fn retrieve() -> Message {
    Message::Retrieve(Retrieve { request_id: new_id(), after: Index(0), limit: 64 })
}

/// A new request of a controller.
fn store() -> Store {
    let id = new_id();
    Store {
        key: Some(id.as_str().to_owned()),
        request_id: id,
        repeated: false,
        term: None,
        command: None,
        parts: None,
        board: Some("store".to_owned()),
        op: Some("put".to_owned()),
        value: Some("x".repeat(VALUE_BYTES)),
    }
}

/// One that tells when it was made, so that it does not count as recorded.
fn new_id() -> RequestId {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, now.as_secs(), now.subsec_nanos()));
    request_id(&id.to_string())
}
