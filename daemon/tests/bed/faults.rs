//! What goes wrong, drawn from a seed: processes die, stand still and meet a full disk, while the network is cut and
//! loses datagrams. Two hands do it at once, one for processes and one for the network, so that faults overlap.
//! The durations here are those of the faults; nothing is waited for by time.

use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::disk::Disk;
use crate::evidence::Schedule;
use crate::network::Network;
use crate::nodes::{EXIT_DISK, Nodes, Onlooker, name};

/// Among so many last lines a node that ends because of its disk says so: fewer than it says when it starts.
const LAST_LINES: usize = 4;

/// How often each fault happens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quota {
    pub(crate) kills: usize,
    pub(crate) pauses: usize,
    pub(crate) cuts: usize,
    /// Cuts that unicast passes.
    pub(crate) multicast_cuts: usize,
    pub(crate) losses: usize,
    pub(crate) full_disks: usize,
    pub(crate) disk_errors: usize,
    pub(crate) slow_disks: usize,
}

/// What happens to a process.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// `kill -9`, and a start later.
    Kill(Aim, Duration),
    /// SIGSTOP, and SIGCONT later.
    Pause(Aim, Duration),
    /// No room on the one small disk; once the node has ended, there is room again and it starts.
    FullDisk,
    /// A call that changes files fails; once the node has ended, it starts with a good disk.
    DiskError(Aim, &'static str),
    /// Each sync of the log takes so many milliseconds longer, for a while.
    SlowDisk(Aim, u64, Duration),
}

/// Faults of a disk that a node must meet soon as long as anything is committed.
const DISK_ERRORS: [&str; 7] = [
    "write log.db-wal 1+ EIO",
    "write log.db-wal 1 torn",
    "sync log.db-wal 1+ EIO",
    "write promise 1 torn",
    "sync promise 1+ EIO",
    "write state.db-wal 1+ EIO",
    "any * 1+ EIO",
];

/// Whom it meets.
#[derive(Clone, Copy, Debug)]
enum Aim {
    Leader,
    One(usize),
    /// This one and the next.
    Two(usize),
    All,
}

/// What happens to the network.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Cut(Cut, Duration),
    /// The same, but unicast passes.
    MulticastCut(Cut, Duration),
    /// Every host loses so many datagrams of a hundred.
    Loss(u32, Duration),
}

/// Who does not hear whom. `from` and its neighbours are drawn; the leader is who leads then.
#[derive(Clone, Copy, Debug)]
enum Cut {
    LeaderAlone,
    LeaderWithOne(usize),
    /// The leader is heard and hears nobody.
    LeaderDeaf,
    /// The leader hears all and nobody hears it.
    LeaderMute,
    /// Two against the others.
    Halves(usize),
    /// These two hear the others, who do not hear them.
    HalfMute(usize),
    /// One node is heard by both halves and hears them; they do not hear each other.
    Bridge(usize),
}

/// All faults of one round.
#[derive(Debug)]
pub(crate) struct Plan {
    blows: Vec<Blow>,
    weather: Vec<Weather>,
    /// How long nothing happens between two faults.
    rests: Rng,
}

impl Plan {
    pub(crate) fn draw(quota: Quota, nodes: usize, rng: &mut Rng) -> Self {
        let mut blows = Vec::new();
        let mut weather = Vec::new();
        for _ in 0..quota.kills {
            blows.push(Blow::Kill(Aim::draw(nodes, rng), millis(rng, 0, 1_500)));
        }
        for _ in 0..quota.pauses {
            blows.push(Blow::Pause(Aim::draw(nodes, rng), millis(rng, 100, 5_000)));
        }
        blows.extend((0..quota.full_disks).map(|_| Blow::FullDisk));
        for _ in 0..quota.disk_errors {
            blows.push(Blow::DiskError(
                Aim::draw_one(nodes, rng),
                DISK_ERRORS[rng.usize(0..DISK_ERRORS.len())],
            ));
        }
        for _ in 0..quota.slow_disks {
            let (stall_ms, length) = (rng.u64(50..1_500), millis(rng, 500, 3_000));
            blows.push(Blow::SlowDisk(Aim::draw_one(nodes, rng), stall_ms, length));
        }
        for _ in 0..quota.cuts {
            weather.push(Weather::Cut(Cut::draw(nodes, rng), millis(rng, 500, 4_000)));
        }
        for _ in 0..quota.multicast_cuts {
            weather.push(Weather::MulticastCut(Cut::draw(nodes, rng), millis(rng, 500, 4_000)));
        }
        for _ in 0..quota.losses {
            weather.push(Weather::Loss(rng.u32(5..=40), millis(rng, 500, 4_000)));
        }
        rng.shuffle(&mut blows);
        rng.shuffle(&mut weather);
        Self { blows, weather, rests: rng.fork() }
    }

    /// Carries all of it out. Afterwards every node runs, and hears every other one.
    pub(crate) async fn carry_out(
        mut self,
        nodes: &mut Nodes,
        network: &mut Network,
        disk: &Disk,
        schedule: &Schedule,
    ) {
        let onlooker = nodes.onlooker();
        let mut hand = Hand { onlooker: &onlooker, schedule, rests: self.rests.fork() };
        let mut other = Hand { onlooker: &onlooker, schedule, rests: self.rests };
        tokio::join!(hand.strike(nodes, disk, &self.blows), other.make_weather(network, &self.weather));
        schedule.note("no more faults");
    }
}

impl Aim {
    fn draw(nodes: usize, rng: &mut Rng) -> Self {
        match rng.u32(0..10) {
            0..=4 => Self::Leader,
            5..=7 => Self::One(rng.usize(0..nodes)),
            8 => Self::Two(rng.usize(0..nodes)),
            _ => Self::All,
        }
    }

    fn draw_one(nodes: usize, rng: &mut Rng) -> Self {
        if rng.bool() { Self::Leader } else { Self::One(rng.usize(0..nodes)) }
    }

    fn hits(self, nodes: usize, leader: usize) -> Vec<usize> {
        match self {
            Self::Leader => vec![leader],
            Self::One(k) => vec![k],
            Self::Two(k) => vec![k, (k + 1) % nodes],
            Self::All => (0..nodes).collect(),
        }
    }
}

impl Cut {
    fn draw(nodes: usize, rng: &mut Rng) -> Self {
        let k = rng.usize(0..nodes);
        match rng.u32(0..7) {
            0 => Self::LeaderAlone,
            1 => Self::LeaderWithOne(k),
            2 => Self::LeaderDeaf,
            3 => Self::LeaderMute,
            4 => Self::Halves(k),
            5 => Self::HalfMute(k),
            _ => Self::Bridge(k),
        }
    }

    /// Whether `to` does not hear `from`.
    fn parts(self, from: usize, to: usize, nodes: usize, leader: usize) -> bool {
        let pair = |k: usize, node: usize| node == k || node == (k + 1) % nodes;
        match self {
            Self::LeaderAlone => from == leader || to == leader,
            Self::LeaderWithOne(k) => {
                let there = |node: usize| node == leader || node == k;
                there(from) != there(to)
            }
            Self::LeaderDeaf => to == leader,
            Self::LeaderMute => from == leader,
            Self::Halves(k) => pair(k, from) != pair(k, to),
            Self::HalfMute(k) => pair(k, from) && !pair(k, to),
            Self::Bridge(k) => {
                // Two after the bridge, and the rest.
                let side = |node: usize| (node + nodes - k) % nodes <= 2;
                from != k && to != k && side(from) != side(to)
            }
        }
    }
}

/// Does one fault after another.
struct Hand<'a> {
    onlooker: &'a Onlooker,
    schedule: &'a Schedule,
    rests: Rng,
}

impl Hand<'_> {
    async fn strike(&mut self, nodes: &mut Nodes, disk: &Disk, blows: &[Blow]) {
        for blow in blows {
            self.rest().await;
            match *blow {
                Blow::Kill(aim, down) => self.kill(nodes, aim, down).await,
                Blow::Pause(aim, length) => self.pause(nodes, aim, length).await,
                Blow::FullDisk => self.fill(nodes, disk).await,
                Blow::DiskError(aim, fault) => self.break_disk(nodes, aim, fault).await,
                Blow::SlowDisk(aim, stall_ms, length) => self.slow_disk(nodes, aim, stall_ms, length).await,
            }
        }
    }

    async fn kill(&self, nodes: &mut Nodes, aim: Aim, down: Duration) {
        let hit = aim.hits(nodes.len(), self.leader().await);
        self.schedule.note(&format!("kill -9 {} for {down:?} ({aim:?})", names(&hit)));
        nodes.kill(&hit);
        sleep(down).await;
        nodes.start_all();
        self.schedule.note(&format!("started {}", names(&hit)));
    }

    async fn pause(&self, nodes: &mut Nodes, aim: Aim, length: Duration) {
        let hit = aim.hits(nodes.len(), self.leader().await);
        self.schedule.note(&format!("SIGSTOP {} for {length:?} ({aim:?})", names(&hit)));
        for &k in &hit {
            nodes.signal(k, Signal::STOP);
        }
        sleep(length).await;
        for &k in &hit {
            nodes.signal(k, Signal::CONT);
        }
        self.schedule.note(&format!("SIGCONT {}", names(&hit)));
    }

    async fn fill(&self, nodes: &mut Nodes, disk: &Disk) {
        let k = disk.node();
        nodes.assert_well(k);
        self.schedule.note(&format!("the disk of {} is full", name(k)));
        disk.fill();
        self.ends_because_of_its_disk(nodes, k, "full").await;
        disk.empty();
        nodes.start(k);
        self.schedule.note(&format!("started {} with room on its disk", name(k)));
    }

    async fn break_disk(&self, nodes: &mut Nodes, aim: Aim, fault: &str) {
        let k = aim.hits(nodes.len(), self.leader().await)[0];
        nodes.assert_well(k);
        self.schedule.note(&format!("the disk of {}: {fault} ({aim:?})", name(k)));
        nodes.break_disk(k, fault);
        self.ends_because_of_its_disk(nodes, k, "error").await;
        nodes.mend_disk(k);
        nodes.start(k);
        self.schedule.note(&format!("started {} with a good disk", name(k)));
    }

    /// A failed write is final: the node ends by itself, with the exit code for it and a sentence.
    async fn ends_because_of_its_disk(&self, nodes: &mut Nodes, k: usize, why: &str) {
        let code = nodes.wait_gone(k).await;
        let words = nodes.last_words(k);
        self.schedule.note(&format!("{} ended with exit code {code:?}", name(k)));
        assert_eq!(code, Some(EXIT_DISK), "exit code of {}: {words}", name(k));
        let is_it = |line: &str| {
            let line = line.to_lowercase();
            line.contains(why) && line.contains("must be on disk")
        };
        // The other threads may say something before the process is gone.
        let said = words.lines().rev().take(LAST_LINES).any(is_it);
        assert!(said, "{} says why it ends ('{why}'): {words}", name(k));
    }

    async fn slow_disk(&self, nodes: &mut Nodes, aim: Aim, stall_ms: u64, length: Duration) {
        let k = aim.hits(nodes.len(), self.leader().await)[0];
        nodes.assert_well(k);
        self.schedule.note(&format!("each sync of {} takes {stall_ms} ms for {length:?} ({aim:?})", name(k)));
        nodes.break_disk(k, &format!("sync log.db-wal 1+ stall:{stall_ms}"));
        sleep(length).await;
        nodes.mend_disk(k);
        self.schedule.note(&format!("the disk of {} is as fast as before", name(k)));
    }

    async fn make_weather(&mut self, network: &mut Network, weather: &[Weather]) {
        for change in weather {
            self.rest().await;
            match *change {
                Weather::Cut(cut, length) => {
                    let leader = self.leader().await;
                    self.schedule.note(&format!("{cut:?} for {length:?}; {} leads", name(leader)));
                    part(network, cut, leader, Network::cut);
                    sleep(length).await;
                    network.join();
                }
                Weather::MulticastCut(cut, length) => {
                    let leader = self.leader().await;
                    let leads = name(leader);
                    self.schedule.note(&format!("{cut:?} by multicast for {length:?}; {leads} leads"));
                    part(network, cut, leader, Network::cut_multicast);
                    sleep(length).await;
                    network.join();
                }
                Weather::Loss(percent, length) => {
                    self.schedule.note(&format!("{percent} % of datagrams are lost for {length:?}"));
                    network.lose(percent);
                    sleep(length).await;
                    network.lose(0);
                }
            }
            self.schedule.note("the network is whole");
        }
    }

    /// Who leads, or else anyone.
    async fn leader(&self) -> usize {
        self.onlooker.leader().await.unwrap_or(0)
    }

    async fn rest(&mut self) {
        sleep(millis(&mut self.rests, 50, 500)).await;
    }
}

fn part(network: &mut Network, cut: Cut, leader: usize, each: fn(&mut Network, usize, usize)) {
    let nodes = network.len();
    for to in 0..nodes {
        for from in (0..nodes).filter(|&from| from != to) {
            if cut.parts(from, to, nodes, leader) {
                each(network, from, to);
            }
        }
    }
}

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..to))
}

fn names(which: &[usize]) -> String {
    which.iter().map(|&k| name(k)).collect::<Vec<_>>().join(", ")
}
