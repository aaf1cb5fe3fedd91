//! One run: a cluster on hosts of its own, clients and followers, rounds of faults, then peace, and the judgement.

use fastrand::Rng;
use std::time::Duration;

use crate::clients::{Crowd, Habits, read_all};
use crate::committed::Committed;
use crate::disk::Disk;
use crate::evidence::Evidence;
use crate::faults::{Plan, Quota};
use crate::feeds::Feeds;
use crate::history::History;
use crate::network::{Network, with_hosts};
use crate::nodes::{Meeting, Nodes};

/// What is tried.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// The word by which its directory is called.
    pub(crate) word: &'static str,
    pub(crate) habits: Habits,
    /// Followers of each kind.
    pub(crate) followers: usize,
    /// Faults of each round.
    pub(crate) quota: Quota,
    /// At least so many rounds,
    pub(crate) rounds: usize,
    /// and as many more as it takes to so many operations.
    pub(crate) operations_min: usize,
}

const NODES: usize = 5;

/// Runs the story on five hosts; `test` is the path of the test that asks for it.
pub(crate) fn run(test: &str, story: &Story) {
    with_hosts(test, NODES, |network| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(story.run(network));
    });
}

impl Story {
    async fn run(&self, mut network: Network) {
        // Dropped in the opposite order: first the nodes end, last the directory goes.
        let evidence = Evidence::gather(self.word);
        let mut rng = Rng::with_seed(evidence.seed);
        let disk = Disk::mount(evidence.directory(), NODES - 1);
        let schedule = evidence.schedule();
        let meeting = if rng.bool() { Meeting::Group } else { Meeting::GroupAndPeers };
        schedule.note(&format!("nodes meet by {meeting:?}"));
        let mut nodes = Nodes::prepare(&network, evidence.directory()).who_meet(meeting);
        nodes.start_all();
        nodes.converge().await;

        let mut crowd = Crowd::start(self.habits.clone(), NODES, evidence.begun, &mut rng);
        let mut feeds = Feeds::start(self.followers, NODES, &mut rng);
        let mut rounds = 0;
        while rounds < self.rounds || crowd.finished() < self.operations_min {
            let plan = Plan::draw(self.quota, NODES, &mut rng);
            tokio::select! {
                () = plan.carry_out(&mut nodes, &mut network, &disk, &schedule) => {}
                never = crowd.failure() => match never {},
                never = feeds.failure() => match never {},
            }
            rounds += 1;
        }
        let faults_over = evidence.begun.elapsed();
        let mut records = crowd.finish().await;
        // Whom the last blow met may only be starting.
        nodes.converge().await;
        records.push(read_all(&self.habits, NODES, evidence.begun).await);
        let (applied, committed) = Committed::of(&mut nodes).await;
        let heard = feeds.finish(applied).await;

        let history = History::of(records);
        self.tell(&history, rounds, faults_over);
        let verdicts = [
            history.nothing_is_stale(),
            history.no_read_runs_backwards(),
            history.is_linearizable(),
            committed.has_each_write_once(&history),
            committed.has_what_was_read(&history),
        ];
        let of_feeds = heard.iter().map(|follower| follower.is_exactly(&committed.events));
        let wrong: Vec<String> = verdicts.into_iter().chain(of_feeds).filter_map(Result::err).collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        (0..NODES).for_each(|k| nodes.assert_well(k));
        if heard.is_empty() {
            return;
        }
        let hops: usize = heard.iter().map(|follower| follower.hops).sum();
        println!(
            "measured: {}: {} followers heard exactly the {} events of {applied} entries, going on at another node {hops} times",
            self.word,
            heard.len(),
            committed.events.len()
        );
    }

    fn tell(&self, history: &History, rounds: usize, took: Duration) {
        let Quota { kills, pauses, cuts, multicast_cuts, losses, full_disks, disk_errors, slow_disks } =
            self.quota;
        let met = [kills, pauses, cuts, multicast_cuts, losses, full_disks, disk_errors, slow_disks]
            .map(|each| each * rounds);
        let [kills, pauses, cuts, multicast_cuts, losses, full_disks, disk_errors, slow_disks] = met;
        println!(
            "measured: {}: {} clients, {} in {took:?} through {kills} kills, {pauses} pauses, {cuts} cuts, {multicast_cuts} of multicast, {losses} \
             spells of loss, {full_disks} full disks, {disk_errors} errors of a disk, {slow_disks} slow disks",
            self.word,
            self.habits.clients,
            history.counts(),
        );
    }
}
