//! Learners cost a leader nothing: neither memory, nor a word, nor a share in any count, however many there are.
#![allow(clippy::unwrap_used, reason = "helpers of the tests fail as tests do")]

use bytes::Bytes;
use chorus_proto::message::*;
use chorus_proto::raft::{Actions, Event, To};
use chorus_proto::types::*;
use chorus_sim::host::{Host, config, founded, founding};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
const WRITES: u64 = 200;

/// A leader of three, its clock, and what it said.
struct Stage {
    leader: Host,
    voters: Vec<NodeId>,
    now: Now,
    said: Vec<(To, Message)>,
    committed: Index,
}

impl Stage {
    fn new() -> Self {
        let configs: Vec<_> =
            NAMES.iter().zip(0..).map(|(name, number)| config(name, number, &NAMES)).collect();
        let record = founding(&configs);
        let image = founded(&record, HardState::default(), &[], true);
        let voters = configs.iter().map(chorus_proto::raft::Config::id).collect();
        let leader = Host::new(configs[0].clone(), image);
        let mut stage = Self { leader, voters, now: Now::default(), said: Vec::new(), committed: Index(0) };
        let started = stage.leader.start(stage.now, 1);
        stage.carry_out(started);
        stage.pass(400);
        let campaign = stage.leader.raft().campaign(stage.now);
        stage.carry_out(campaign);
        let round = stage.said.iter().rev().find_map(|(_, message)| match message {
            Message::VoteConsensus(ask) => Some(ask.round),
            _ => None,
        });
        let term = Term(1);
        let consent =
            Consent { asked_term: term, round: round.unwrap(), granted: true, term: Term(0), leader: None };
        stage.hear(stage.voters[1], Message::Consent(consent));
        stage.hear(stage.voters[1], Message::LeadMe(Vote { term }));
        assert_eq!(stage.leader.raft().standing().role, Role::Leader);
        stage
    }

    fn pass(&mut self, millis: u64) {
        self.now.time = self.now.time + Span::from_millis(millis);
        self.now.clock_ms += millis;
        let ticked = self.leader.raft().tick(self.now);
        self.carry_out(ticked);
    }

    fn hear(&mut self, from: NodeId, message: Message) {
        let sender = Sender { id: from, boot: Boot(1), direct: true };
        let actions = self.leader.raft().receive(self.now, sender, message);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Actions) {
        let committed = actions.events.iter().filter_map(|event| match event {
            Event::Committed { index } => Some(*index),
            _ => None,
        });
        self.committed = committed.chain([self.committed]).max().unwrap();
        self.said.extend(actions.send.into_iter().map(|outgoing| (outgoing.to, outgoing.message)));
        for persist in actions.persist {
            self.leader.disk.ask(persist).unwrap();
        }
        if let Some(token) = self.leader.disk.last_waiting() {
            self.leader.disk.sync(token);
            let actions = self.leader.raft().persisted(self.now, token);
            self.carry_out(actions);
        }
    }

    /// Writes at a fixed rate, each acknowledged by one voter. What the leader says but for HELLO, which comes every second, and
    /// how full it is.
    fn live(&mut self, learners: u8) -> (usize, Vec<usize>) {
        self.said.clear();
        let mut held = Vec::new();
        for write in 0..WRITES {
            let proposed = self.leader.raft().propose(self.now, vec![Bytes::from_static(b"command")]);
            self.carry_out(proposed.actions);
            for number in 0..learners {
                self.chatter(number, write);
            }
            let standing = self.leader.raft().standing();
            let reply = AppendReply {
                term: standing.term,
                success: true,
                match_index: standing.durable.index,
                round: self.last_round(),
            };
            self.hear(self.voters[1], Message::AppendReply(reply));
            assert_eq!(self.committed, standing.durable.index, "one voter and the leader are a majority");
            self.pass(10);
            held = self.leader.raft().queues().map(|queue| queue.length).to_vec();
        }
        let is_hello = |message: &Message| matches!(message, Message::Hello(_));
        (self.said.iter().filter(|(_, message)| !is_hello(message)).count(), held)
    }

    /// That of the last HEARTBEAT.
    fn last_round(&self) -> Round {
        let rounds = self.said.iter().rev().find_map(|(_, message)| match message {
            Message::Heartbeat(heartbeat) => Some(heartbeat.round),
            _ => None,
        });
        rounds.expect("a leader says HEARTBEAT at each write")
    }

    /// What a learner says: HELLO each second; and an acknowledgement that no correct learner would send.
    fn chatter(&mut self, number: u8, write: u64) {
        let learner = config(&format!("x{number}"), 100 + number, &[]);
        let own = self.leader.raft().standing();
        if write.is_multiple_of(100) {
            let cluster = self.leader.cluster();
            let hello = Hello {
                cluster,
                empty: false,
                founded: true,
                term: own.term,
                leader: Some(self.leader.id),
                clock_ms: self.now.clock_ms,
                durable: own.durable,
                commit_index: own.commit_index,
                applied_index: own.applied_index,
                first_index: own.first_index,
                configuration_index: own.configuration_index,
                heard: vec![(self.leader.id, self.leader.config.boot)],
                ..Hello::bare(learner.name.clone(), learner.identity)
            };
            self.hear(learner.id(), Message::Hello(Box::new(hello)));
        }
        let before = self.committed;
        let forged =
            AppendReply { term: own.term, success: true, match_index: own.durable.index, round: Round(1) };
        self.hear(learner.id(), Message::AppendReply(forged));
        assert_eq!(self.committed, before, "a learner is counted nowhere");
    }
}

#[test]
fn a_leader_says_and_keeps_as_much_with_a_hundred_learners_as_with_none() {
    let mut stage = Stage::new();
    let alone = stage.live(0);
    for learners in [10, 100] {
        assert_eq!(stage.live(learners), alone, "with {learners} learners");
    }
}
