//! Obeying signed commands: step down, lead, leave.

use std::net::SocketAddr;

use chorus_proto::message::{Control, Message, Sender};
use chorus_proto::raft::To;
use chorus_proto::types::Now;
use chorus_proto::wire::control::Verb;
use tracing::info;

use super::Ended;
use super::commands::{Awaits, Verdict, done};
use super::driver::Driver;

impl Driver {
    /// A signed command of a controller.
    pub(super) fn on_command(
        &mut self,
        now: Now,
        verb: Verb,
        control: Control,
        from: SocketAddr,
        who: Sender,
    ) {
        match self.commands.judge(verb, &control) {
            Verdict::Ignore | Verdict::Wait => {}
            Verdict::Answer(answer) => {
                if let Message::Refused(refused) = &answer {
                    info!(controller = %who.id, command = verb.name(), code = refused.code, "refused a command");
                }
                self.speech.answer(from, &answer);
            }
            Verdict::Obey => {
                info!(controller = %who.id, command = verb.name(), "obeys a command");
                match verb {
                    Verb::Follow => self.obey_follow(now, control, from),
                    Verb::TryLead => self.obey_try_lead(now, control, from),
                    Verb::Shutdown => {
                        let answer = done(control.request_id.clone(), "leaves".to_owned());
                        self.commands.answered(control.request_id, answer.clone());
                        self.speech.answer(from, &answer);
                        self.leave(now, Ended::Shutdown);
                    }
                }
            }
        }
    }

    fn obey_follow(&mut self, now: Now, control: Control, from: SocketAddr) {
        if !self.leads() {
            let answer = done(control.request_id.clone(), "does not lead".to_owned());
            self.commands.answered(control.request_id, answer.clone());
            return self.speech.answer(from, &answer);
        }
        self.commands.wait(now.time, control.request_id, Verb::Follow, Awaits::HandedOver, from);
        let actions = self.core.resign(now, None);
        self.carry_out(now, actions);
    }

    /// The leader hands over if there is one (`settle_commands` passes the command on), else this node campaigns.
    fn obey_try_lead(&mut self, now: Now, control: Control, from: SocketAddr) {
        self.commands.wait(now.time, control.request_id.clone(), Verb::TryLead, Awaits::Lead(control), from);
        if self.core.standing().leader.is_none() {
            let actions = self.core.campaign(now);
            self.carry_out(now, actions);
        }
    }

    /// A TRYLEAD that a follower passed on: in the controller's words, for the follower's present start.
    pub(super) fn on_passed(&mut self, now: Now, control: &Control, who: Sender) {
        let known = self.core.presence().peer(control.target).map(|peer| peer.boot);
        let votes = self.core.configuration().voters.iter().any(|voter| voter.id() == control.target);
        let meant = who.id == control.target && known == Some(who.boot) && votes;
        if self.leads() && meant && self.commands.judge_passed(control, who.boot) {
            let successor = self.oneself.name_of(&self.core, control.target);
            info!(successor = successor.map(String::from), command = "TRYLEAD", "hands over by command");
            let actions = self.core.resign(now, Some(control.target));
            self.carry_out(now, actions);
        }
    }

    /// Answers the commands whose end is known now, and passes on what the leader has to hear.
    pub(super) fn settle_commands(&mut self, now: Now) {
        let leads = self.leads();
        for (asker, verb, answer) in self.commands.settle(now.time, leads) {
            let outcome = if matches!(answer, Message::Done(_)) { "done" } else { "refused" };
            info!(command = verb.name(), outcome, "a command has ended");
            self.speech.answer(asker, &answer);
        }
        let due = self.commands.due_to_pass(now.time);
        if let Some(leader) = self.core.standing().leader.filter(|_| !leads) {
            for control in due {
                self.say(To::Node(leader), Message::TryLead(control));
            }
        }
    }
}
