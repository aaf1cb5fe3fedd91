//! Obeying signed commands: step down, lead, fall silent, come back, leave, change the voters, the keys. Each stands in the log with who gave it, what
//! it was, and what came of it.

use chorus_proto::message::{Control, Hello, MemberChange, Message, Sender};
use chorus_proto::raft::{Change, ChangeRefusal, To};
use chorus_proto::types::{Now, RequestId, Voter};
use chorus_proto::wire::control::Verb;
use std::net::SocketAddr;
use tracing::{debug, info};

use super::Ended;
use super::commands::{Awaits, Order, Verdict, done, refused, try_again};
use super::driver::Driver;

impl Driver {
    /// A signed command of a controller.
    pub(super) fn on_command(
        &mut self,
        now: Now,
        verb: Verb,
        control: Control,
        from: SocketAddr,
        sender: Sender,
    ) {
        let order = Order { verb, request_id: control.request_id.clone(), who: sender.id, from };
        match self.commands.judge(verb, &control) {
            Verdict::Ignore | Verdict::Wait => {}
            Verdict::Answer(answer) => {
                match &*answer {
                    Message::Refused(_) => self.tell_end(&order, &answer),
                    _ => debug!(request_id = control.request_id.as_str(), "answers a command again"),
                }
                self.speech.answer(from, &answer);
            }
            Verdict::Obey => {
                let Order { request_id, who, from, .. } = &order;
                let (command, request_id) = (verb.name(), request_id.as_str());
                info!(controller = %who, %from, command, request_id, "obeys a command");
                self.metrics.command(command, "obeyed");
                self.obey(now, order, control);
            }
        }
    }

    fn obey(&mut self, now: Now, order: Order, control: Control) {
        let id = || order.request_id.clone();
        match order.verb {
            Verb::Follow => self.obey_follow(now, order),
            Verb::TryLead => self.obey_try_lead(now, order, control),
            Verb::PlayDead => {
                let answer = self.obey_play_dead(now, id());
                self.end(&order, answer);
            }
            Verb::Revive => {
                let was_dead = self.core.plays_dead();
                self.revive(now);
                let detail = if was_dead { "is back" } else { "does not play dead" };
                let answer = done(id(), detail.to_owned());
                self.end(&order, answer);
            }
            Verb::Members => self.obey_members(now, order, control),
            Verb::Rotate => self.obey_rotate(now, order, control.key),
            Verb::Retire => self.obey_retire(now, order, control.key),
            Verb::Shutdown => {
                let answer = done(id(), "leaves".to_owned());
                self.end(&order, answer.clone());
                self.leave(now, Ended::Shutdown);
                self.say_farewell(now, order.from, answer);
            }
        }
    }

    fn obey_follow(&mut self, now: Now, order: Order) {
        if !self.leads() {
            let answer = done(order.request_id.clone(), "does not lead".to_owned());
            return self.end(&order, answer);
        }
        self.commands.wait(now.time, order, Awaits::HandedOver);
        let actions = self.core.resign(now, None);
        self.carry_out(now, actions);
    }

    /// The leader hands over if there is one (`settle_commands` passes the command on), else this node campaigns.
    fn obey_try_lead(&mut self, now: Now, order: Order, control: Control) {
        if self.core.plays_dead() {
            let detail = "this node plays dead: revive it first";
            let answer = Message::Refused(refused(order.request_id.clone(), "playing_dead", detail));
            return self.end(&order, answer);
        }
        if let Some(detail) = self.votes_not() {
            let answer = Message::Refused(refused(order.request_id.clone(), "not_a_voter", &detail));
            return self.end(&order, answer);
        }
        self.commands.wait(now.time, order, Awaits::Lead(control));
        if self.core.standing().leader.is_none() {
            let actions = self.core.campaign(now);
            self.carry_out(now, actions);
        }
    }

    /// Why this node can be no leader, if the log names voters and it is none of them.
    fn votes_not(&self) -> Option<String> {
        let (voters, name) = (&self.core.configuration().voters, &self.oneself.name);
        let votes = voters.is_empty() || voters.iter().any(|voter| voter.id() == self.oneself.id);
        (!votes).then(|| format!("{name} does not vote: `chorus members add {name}` first"))
    }

    /// One voter more, or one less: done when that is committed. A leader that is to go itself hands over first, and the
    /// controller asks its successor.
    fn obey_members(&mut self, now: Now, order: Order, control: Control) {
        let id = || order.request_id.clone();
        let refuse = |code: &str, detail: &str| Message::Refused(refused(id(), code, detail));
        let Some(change) = control.change else {
            let answer = refuse("invalid", "the command does not say what it changes");
            return self.end(&order, answer);
        };
        let name = &change.name;
        let change = match self.change_of(&change) {
            Ok(change) => change,
            Err(answer) => return self.end(&order, answer.into_message(id())),
        };
        let changed = self.core.change_members(now, &change);
        self.carry_out(now, changed.actions);
        match changed.entry {
            Ok(entry) => {
                info!(index = entry.index.0, %name, add = matches!(change, Change::Add(_)), "changes the voters");
                self.commands.wait(now.time, order, Awaits::Settled(entry));
            }
            Err(ChangeRefusal::RemovesLeader) => {
                let actions = self.core.resign(now, None);
                self.carry_out(now, actions);
                let detail = "this node leads, and hands over first: ask the next leader";
                let answer = try_again(id(), "handing_over", detail);
                self.end(&order, answer);
            }
            Err(refusal) => {
                let answer = answer_to(&refusal, id());
                self.end(&order, answer);
            }
        }
    }

    /// The nodes that a change means: one that was heard, or one that votes.
    fn change_of(&self, change: &MemberChange) -> Result<Change, Unknown> {
        if change.add {
            let peer = change.node.and_then(|node| self.core.presence().peer(node));
            let named = peer.filter(|peer| peer.hello.name == change.name).ok_or(Unknown::Newcomer)?;
            let Hello { name, identity, .. } = &named.hello;
            return Ok(Change::Add(Voter { name: name.clone(), identity: *identity }));
        }
        let voters = &self.core.configuration().voters;
        let named = voters.iter().find(|voter| voter.name == change.name).map(Voter::id);
        let meant = named.filter(|named| change.node.is_none_or(|node| node == *named));
        meant.map(Change::Remove).ok_or(Unknown::Voter)
    }

    fn obey_play_dead(&mut self, now: Now, request_id: RequestId) -> Message {
        if !self.allow_playdead {
            let detail = "this node was started without --allow-playdead";
            return Message::Refused(refused(request_id, "not_allowed", detail));
        }
        let was_dead = self.core.plays_dead();
        self.play_dead(now);
        let detail = if was_dead { "plays dead already" } else { "plays dead" };
        done(request_id, detail.to_owned())
    }

    /// The command has come to its end: told, remembered, answered.
    pub(super) fn end(&mut self, order: &Order, answer: Message) {
        self.tell_end(order, &answer);
        self.commands.answered(order.request_id.clone(), answer.clone());
        self.speech.answer(order.from, &answer);
    }

    pub(super) fn tell_end(&self, order: &Order, answer: &Message) {
        let (outcome, code) = match answer {
            Message::Refused(refused) => ("refused", Some(refused.code.as_str())),
            _ => ("done", None),
        };
        let Order { verb, request_id, who, from } = order;
        let (command, request_id) = (verb.name(), request_id.as_str());
        info!(controller = %who, %from, command, request_id, outcome, code, "a command has ended");
        self.metrics.command(command, outcome);
    }

    /// A TRYLEAD that a follower passed on: in the controller's words, for the follower's present start.
    pub(super) fn on_passed(&mut self, now: Now, control: &Control, sender: Sender) {
        let known = self.core.presence().peer(control.target).map(|peer| peer.boot);
        let votes = self.core.configuration().voters.iter().any(|voter| voter.id() == control.target);
        let meant = sender.id == control.target && known == Some(sender.boot) && votes;
        if self.leads() && meant && self.commands.judge_passed(control, sender.boot) {
            let successor = self.oneself.name_of(&self.core, control.target).map(String::from);
            let (command, request_id) = (Verb::TryLead.name(), control.request_id.as_str());
            info!(successor, command, request_id, "hands over by command");
            let actions = self.core.resign(now, Some(control.target));
            self.carry_out(now, actions);
        }
    }

    /// Answers the commands whose end is known now, and passes on what the leader has to hear.
    pub(super) fn settle_commands(&mut self, now: Now) {
        let leads = self.leads();
        let (fate, why) = (|entry| self.core.fate(entry), || self.oneself.why(&self.core, now));
        for (order, answer) in self.commands.settle(now.time, leads, fate, why) {
            self.tell_end(&order, &answer);
            self.speech.answer(order.from, &answer);
        }
        let due = self.commands.due_to_pass(now.time);
        if let Some(leader) = self.core.standing().leader.filter(|_| !leads) {
            for control in due {
                self.say(To::Node(leader), Message::TryLead(control));
            }
        }
    }
}

/// Nobody is meant by a change.
enum Unknown {
    /// The node that is to vote was not heard here.
    Newcomer,
    /// The voter that is to go does not vote.
    Voter,
}

impl Unknown {
    fn into_message(self, request_id: RequestId) -> Message {
        match self {
            Self::Newcomer => {
                let detail = "the leader has not heard the new voter yet";
                try_again(request_id, "not_current", detail)
            }
            Self::Voter => done(request_id, "does not vote".to_owned()),
        }
    }
}

/// What a change that the core did not take is answered with: some are worth asking again soon.
fn answer_to(refusal: &ChangeRefusal, request_id: RequestId) -> Message {
    let (code, soon) = match refusal {
        ChangeRefusal::AlreadySo => return done(request_id, refusal.to_string()),
        ChangeRefusal::NotLeader { .. } => ("no_leader", true),
        ChangeRefusal::HandingOver | ChangeRefusal::RemovesLeader => ("handing_over", true),
        ChangeRefusal::InProgress => ("change_in_progress", true),
        ChangeRefusal::NotCurrent => ("not_current", true),
        ChangeRefusal::NoMajority => ("no_majority", true),
        ChangeRefusal::LastVoter => ("last_voter", false),
        ChangeRefusal::NameTaken => ("name_taken", false),
        ChangeRefusal::TooMany => ("too_many_voters", false),
    };
    let detail = refusal.to_string();
    if soon {
        try_again(request_id, code, &detail)
    } else {
        Message::Refused(refused(request_id, code, &detail))
    }
}
