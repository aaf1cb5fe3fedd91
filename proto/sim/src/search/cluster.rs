//! A state of the search: three nodes, what is in the air, and what may still happen.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use chorus_proto::message::{Message, Role, Sender};
use chorus_proto::raft::{Actions, Outgoing, To};
use chorus_proto::types::{NodeId, Now, Span, Time};

use super::Bounds;
use super::node::{Lie, NAMES, Node};
use super::rules::History;
use crate::host;

/// Longer than any election timeout.
const SILENCE: Span = Span::from_millis(400);
/// A node whose timer runs out late waits anew, twice at most.
const TICKS_MAX: usize = 6;

/// A message on its way to one node.
#[derive(Debug)]
struct Packet {
    sender: Sender,
    message: Message,
    text: String,
}

/// Something that comes about by itself, in its turn.
#[derive(Clone, Debug)]
enum Due {
    /// A message reaches a node; the number tells what it says and who said it.
    Arrival { to: u8, says: u64, packet: Arc<Packet> },
    /// A node's first write lands.
    Landing { node: u8 },
}

impl Due {
    fn key(&self) -> (u8, u64) {
        match self {
            Self::Arrival { to, says, .. } => (*to, *says),
            Self::Landing { node } => (*node, 0),
        }
    }
}

/// Everything that is.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    nodes: [Arc<Node>; 3],
    digests: [u64; 3],
    due: VecDeque<Due>,
    history: History,
    left: Bounds,
    lie: Option<Lie>,
    now: Now,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// What is due first comes about.
    Next,
    /// It does, and comes once more, last.
    Repeat,
    /// It comes last instead.
    Delay,
    /// It is a message, and never comes.
    Lose,
    Crash {
        node: u8,
        survivors: usize,
    },
    Campaign {
        node: u8,
    },
    Propose {
        node: u8,
    },
}

impl Cluster {
    pub(super) fn new(bounds: Bounds, lie: Option<Lie>) -> Self {
        let configs: Vec<_> =
            (0..3).zip(NAMES).map(|(number, name)| host::config(name, number, &NAMES)).collect();
        let founding = host::founding(&configs);
        let nodes = [0, 1, 2].map(|number| Node::new(number, &founding).0);
        let digests = [0, 1, 2].map(|number: usize| nodes[number].digest());
        Self {
            nodes: nodes.map(Arc::new),
            digests,
            due: VecDeque::new(),
            history: History::default(),
            left: bounds,
            lie,
            now: Now::default(),
        }
    }

    pub(super) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.digests.hash(&mut hasher);
        for due in &self.due {
            due.key().hash(&mut hasher);
        }
        (&self.history, self.left, self.now.time.0).hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn committed(&self) -> usize {
        self.history.committed()
    }

    pub(super) fn term_of_last_leader(&self) -> u64 {
        self.history.term_of_last_leader()
    }

    /// Everything that may come next.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(first) = self.due.front() {
            steps.push(Step::Next);
            let is_message = matches!(first, Due::Arrival { .. });
            if self.left.deviations > 0 {
                steps.extend((self.due.len() > 1).then_some(Step::Delay));
                steps.extend(is_message.then_some(Step::Lose));
            }
            if self.left.repeats > 0 && is_message {
                steps.push(Step::Repeat);
            }
        }
        for (number, node) in (0..).zip(&self.nodes) {
            if self.left.crashes > 0 {
                steps.extend(
                    (0..=node.waiting.len()).map(|survivors| Step::Crash { node: number, survivors }),
                );
            }
            // All three are alike until the first campaign.
            if self.left.campaigns > 0 && (number == 0 || self.now.time != Time(0)) {
                steps.push(Step::Campaign { node: number });
            }
            if self.left.commands > 0 && node.raft.standing().role == Role::Leader {
                steps.push(Step::Propose { node: number });
            }
        }
        steps
    }

    /// A step in words.
    pub(super) fn describe(&self, step: Step) -> String {
        let name = |number: u8| NAMES[usize::from(number)];
        match step {
            Step::Next => self.first(),
            Step::Repeat => format!("{} (and comes again)", self.first()),
            Step::Delay => format!("{} (is delayed)", self.first()),
            Step::Lose => format!("{} (is lost)", self.first()),
            Step::Crash { node, survivors } => {
                format!("{} crashes, {survivors} of its writes landed", name(node))
            }
            Step::Campaign { node } => format!("{} campaigns", name(node)),
            Step::Propose { node } => format!("{} takes a command", name(node)),
        }
    }

    /// Takes a step.
    ///
    /// # Errors
    /// The rule that is broken then.
    pub(super) fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Next => {
                let due = self.due.pop_front().expect("something is due");
                self.come_about(due)
            }
            Step::Repeat => {
                self.left.repeats -= 1;
                let due = self.due.pop_front().expect("something is due");
                self.due.push_back(due.clone());
                self.come_about(due)
            }
            Step::Delay => {
                self.left.deviations -= 1;
                self.due.rotate_left(1);
                Ok(())
            }
            Step::Lose => {
                self.left.deviations -= 1;
                self.due.pop_front();
                Ok(())
            }
            Step::Crash { node, survivors } => {
                self.left.crashes -= 1;
                let now = self.now;
                self.due.retain(|due| !matches!(due, Due::Landing { node: of } if *of == node));
                let actions = self.node(node).crash(survivors, now);
                self.carry_out(node, actions)
            }
            Step::Campaign { node } => {
                self.left.campaigns -= 1;
                self.campaign(node)
            }
            Step::Propose { node } => {
                self.left.commands -= 1;
                let (now, command) = (self.now, vec![self.left.commands]);
                let proposed = self.node(node).raft.propose(now, vec![command.into()]);
                self.carry_out(node, proposed.actions)
            }
        }
    }

    fn node(&mut self, number: u8) -> &mut Node {
        Arc::make_mut(&mut self.nodes[usize::from(number)])
    }

    fn come_about(&mut self, due: Due) -> Result<(), String> {
        let (now, lie) = (self.now, self.lie);
        let (number, actions) = match due {
            Due::Arrival { to, packet, .. } => {
                (to, self.node(to).raft.receive(now, packet.sender, packet.message.clone()))
            }
            Due::Landing { node } => {
                (node, self.node(node).land(now, lie).expect("a write waits for each landing"))
            }
        };
        self.carry_out(number, actions)
    }

    /// What is due first, in words.
    fn first(&self) -> String {
        match self.due.front() {
            Some(Due::Arrival { to, packet, .. }) => {
                format!("→ {}  {}", NAMES[usize::from(*to)], packet.text)
            }
            Some(Due::Landing { node }) => format!("{} write lands", NAMES[usize::from(*node)]),
            None => String::new(),
        }
    }

    /// Nobody is heard for longer than any timeout; this node notices first, asks, and is answered by all.
    fn campaign(&mut self, number: u8) -> Result<(), String> {
        for _ in 0..TICKS_MAX {
            self.now.time = self.now.time + SILENCE;
            let now = self.now;
            let actions = self.node(number).raft.tick(now);
            let asked =
                actions.send.iter().find(|out| matches!(out.message, Message::VoteConsensus(_))).cloned();
            self.carry_out(number, actions)?;
            if let Some(question) = asked {
                return self.ask(number, &question.message);
            }
        }
        Ok(())
    }

    fn ask(&mut self, number: u8, question: &Message) -> Result<(), String> {
        let asker = self.sender(number, false);
        for other in (0..3).filter(|other| *other != number) {
            let now = self.now;
            let answered = self.node(other).raft.receive(now, asker, question.clone());
            let sender = self.sender(other, true);
            for Outgoing { message, .. } in answered.send {
                if matches!(message, Message::Consent(_)) {
                    let actions = self.node(number).raft.receive(now, sender, message);
                    self.carry_out(number, actions)?;
                }
            }
            self.digests[usize::from(other)] = self.nodes[usize::from(other)].digest();
        }
        Ok(())
    }

    fn sender(&self, number: u8, direct: bool) -> Sender {
        let node = &self.nodes[usize::from(number)];
        Sender { id: node.id, boot: node.boot, direct }
    }

    /// Carries out what a core wants, and holds it against the rules.
    fn carry_out(&mut self, number: u8, actions: Actions) -> Result<(), String> {
        let mut todo = vec![actions];
        while let Some(actions) = todo.pop() {
            let now = self.now;
            self.history.hear(&actions.events)?;
            let landings = actions.persist.iter().map(|_| Due::Landing { node: number });
            self.due.extend(landings);
            self.node(number).waiting.extend(actions.persist);
            for out in actions.send {
                let node = &self.nodes[usize::from(number)];
                self.history.check_speech(node, &out)?;
                self.send(number, out);
            }
            if let Some(upto) = actions.apply {
                let node = Arc::make_mut(&mut self.nodes[usize::from(number)]);
                self.history.apply(node, upto)?;
                todo.push(self.node(number).raft.applied(now, upto));
            }
            for read in actions.read {
                let entries = self.nodes[usize::from(number)].load(&read);
                todo.push(self.node(number).raft.loaded(now, read, entries));
            }
        }
        self.digests[usize::from(number)] = self.nodes[usize::from(number)].digest();
        self.history.check(&self.nodes, usize::from(number))
    }

    /// HELLO, and the question before a campaign with its answers, do not travel here.
    fn send(&mut self, from: u8, out: Outgoing) {
        if matches!(out.message, Message::Hello(_) | Message::VoteConsensus(_) | Message::Consent(_)) {
            return;
        }
        let to: Vec<u8> = match out.to {
            To::Group => (0..3).filter(|to| *to != from).collect(),
            To::Node(id) => self.number_of(id).into_iter().collect(),
        };
        let text = format!("{:?}", out.message);
        let mut hasher = DefaultHasher::new();
        let sender = self.sender(from, out.to != To::Group);
        (&text, sender.boot.0).hash(&mut hasher);
        let packet = Arc::new(Packet { sender, message: out.message, text });
        let says = hasher.finish();
        self.due.extend(to.into_iter().map(|to| Due::Arrival { to, says, packet: Arc::clone(&packet) }));
    }

    fn number_of(&self, id: NodeId) -> Option<u8> {
        (0..).zip(&self.nodes).find(|(_, node)| node.id == id).map(|(number, _)| number)
    }
}
