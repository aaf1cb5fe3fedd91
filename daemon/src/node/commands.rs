//! Signed commands (FOLLOW, TRYLEAD, PLAYDEAD, REVIVE, SHUTDOWN, MEMBERS, ROTATE, RETIRE): whether to obey, and what was answered.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use chorus_proto::message::{Control, Done, Message, Refused, Report};
use chorus_proto::types::{Boot, EntryId, NodeId, RequestId, Span, Time};
use chorus_proto::wire::control::{Verb, verify};

use crate::store::{KeyStage, Keys};

/// Answers that are remembered, so that a repeated command is answered the same.
const REMEMBERED_MAX: usize = 1_024;
/// Ids that are remembered longer than their answers, so that a command that somebody recorded is never obeyed twice. Who
/// holds the control key and commands one start of one node more often is told to start it again.
const OBEYED_MAX: usize = 65_536;
/// A command that waits for another node's doing is refused after so long.
const WAIT_MAX: Span = Span::from_millis(3_000);
/// A refusal that may be over soon is worth a new try after so long.
const RETRY_MS: u64 = 50;
/// A TRYLEAD is passed to the leader so often while it waits.
const PASS_AGAIN: Span = Span::from_millis(100);

/// What a command waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// That this node no longer leads.
    HandedOver,
    /// That this node leads; until then its leader is asked to hand over, in the words of the controller.
    Lead(Control),
    /// That the entry that changes the voters is committed.
    Settled(EntryId),
    /// That the key of this number is in force.
    InForce(u32),
    /// That the key of this number is retired.
    Retired(u32),
}

/// Who gave a command, and which: what the log says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) verb: Verb,
    pub(super) request_id: RequestId,
    /// The controller's id.
    pub(super) who: NodeId,
    /// Where it is answered.
    pub(super) from: SocketAddr,
}

#[derive(Debug)]
enum State {
    Answered(Message),
    Waiting { awaits: Awaits, order: Order, give_up_at: Time, pass_at: Time },
}

#[derive(Debug)]
struct Remembered {
    request_id: RequestId,
    state: State,
}

/// What to do with a command that came in.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Not for this node.
    Ignore,
    /// This answer is due, the same as before if it was heard before.
    Answer(Box<Message>),
    /// It is being carried out.
    Wait,
    /// Heard for the first time, for this start of this node, and signed.
    Obey,
}

/// The node's memory of commands.
#[derive(Debug)]
pub(super) struct Commands {
    id: NodeId,
    boot: Boot,
    public: Option<[u8; 32]>,
    remembered: VecDeque<Remembered>,
    /// Every id that was obeyed, those of `remembered` too.
    obeyed: BTreeSet<RequestId>,
}

impl Commands {
    pub(super) fn new(id: NodeId, boot: Boot, public: Option<[u8; 32]>) -> Self {
        Self { id, boot, public, remembered: VecDeque::new(), obeyed: BTreeSet::new() }
    }

    /// What a controller's command comes to.
    pub(super) fn judge(&self, verb: Verb, control: &Control) -> Verdict {
        if control.target != self.id {
            return Verdict::Ignore;
        }
        if let Err(refusal) = self.check(verb, control, self.boot) {
            return Verdict::Answer(Box::new(Message::Refused(refusal)));
        }
        match self.recall(&control.request_id).map(|remembered| &remembered.state) {
            Some(State::Answered(answer)) => Verdict::Answer(Box::new(answer.clone())),
            Some(State::Waiting { .. }) => Verdict::Wait,
            None => self.judge_new(&control.request_id),
        }
    }

    /// An id whose answer is not remembered.
    fn judge_new(&self, request_id: &RequestId) -> Verdict {
        let refuse = |code, detail| {
            Verdict::Answer(Box::new(Message::Refused(refused(request_id.clone(), code, detail))))
        };
        if self.obeyed.contains(request_id) {
            refuse("request_expired", "this command was obeyed long ago, and its answer is forgotten")
        } else if self.obeyed.len() >= OBEYED_MAX {
            refuse("overloaded", "this node has obeyed as many commands as it remembers: start it again")
        } else {
            Verdict::Obey
        }
    }

    /// Whether a TRYLEAD that another node passed on counts here: signed for that node's present start, and new.
    pub(super) fn judge_passed(&mut self, control: &Control, boot: Boot) -> bool {
        let signed = self.check(Verb::TryLead, control, boot).is_ok();
        if !signed || self.judge_new(&control.request_id) != Verdict::Obey {
            return false;
        }
        let answer = done(control.request_id.clone(), String::new());
        self.remember(control.request_id.clone(), State::Answered(answer));
        true
    }

    /// The command is carried out or refused for good.
    pub(super) fn answered(&mut self, request_id: RequestId, answer: Message) {
        match self.remembered.iter_mut().find(|remembered| remembered.request_id == request_id) {
            Some(remembered) => remembered.state = State::Answered(answer),
            None => self.remember(request_id, State::Answered(answer)),
        }
    }

    /// The command's answer depends on what happens next.
    pub(super) fn wait(&mut self, now: Time, order: Order, awaits: Awaits) {
        let request_id = order.request_id.clone();
        let state = State::Waiting { awaits, order, give_up_at: now + WAIT_MAX, pass_at: now };
        self.remember(request_id, state);
    }

    /// Settles what waits: `leads` is whether this node leads now, `fate` what became of an entry that it appended, `why` what
    /// keeps it from leading, in words. Gives who asked for what, and the answer.
    pub(super) fn settle(
        &mut self,
        now: Time,
        leads: bool,
        fate: impl Fn(EntryId) -> Option<bool>,
        why: impl Fn() -> Option<String>,
    ) -> Vec<(Order, Message)> {
        let mut settled = Vec::new();
        for remembered in &mut self.remembered {
            let State::Waiting { awaits, order, give_up_at, .. } = &remembered.state else { continue };
            let id = remembered.request_id.clone();
            let answer = match awaits {
                Awaits::HandedOver if !leads => done(id, "handed leadership over".to_owned()),
                Awaits::Lead(_) if leads => done(id, "leads now".to_owned()),
                Awaits::Settled(entry) if fate(*entry) == Some(true) => {
                    done(id, format!("the voters have changed, at index {}", entry.index))
                }
                Awaits::Settled(entry) if fate(*entry) == Some(false) => {
                    let detail = "another leader took the change back; ask again";
                    try_again(id, "taken_back", detail)
                }
                _ if *give_up_at > now => continue,
                Awaits::HandedOver => {
                    let detail = "nobody took over in time; this node leads on";
                    Message::Refused(refused(id, "no_successor", detail))
                }
                Awaits::Settled(_) => {
                    let detail = "the change is under way, and not committed in time";
                    try_again(id, "outcome_unknown", detail)
                }
                Awaits::InForce(_) => {
                    let detail = "the new key is on its way, and not in force in time";
                    try_again(id, "outcome_unknown", detail)
                }
                Awaits::Retired(_) => {
                    let detail = "the key is being retired, and that is not committed in time";
                    try_again(id, "outcome_unknown", detail)
                }
                Awaits::Lead(_) => {
                    let why = why().map(|why| format!(" ({why})")).unwrap_or_default();
                    let detail = format!("this node was not elected in time{why}; ask again");
                    Message::Refused(refused(id, "not_elected", &detail))
                }
            };
            settled.push((order.clone(), answer.clone()));
            remembered.state = State::Answered(answer);
        }
        settled
    }

    /// Settles what waits for a key, now that the log says something else of them.
    pub(super) fn settle_keys(&mut self, keys: &Keys) -> Vec<(Order, Message)> {
        let mut settled = Vec::new();
        for remembered in &mut self.remembered {
            let State::Waiting { awaits, order, .. } = &remembered.state else { continue };
            let is =
                |number: u32, stage: KeyStage| keys.numbered(number).is_some_and(|key| key.stage == stage);
            let detail = match awaits {
                Awaits::InForce(number) if is(*number, KeyStage::InForce) => {
                    format!("key {number} is in force")
                }
                Awaits::Retired(number) if is(*number, KeyStage::Retired) => {
                    format!("key {number} is retired")
                }
                _ => continue,
            };
            let answer = done(remembered.request_id.clone(), detail);
            settled.push((order.clone(), answer.clone()));
            remembered.state = State::Answered(answer);
        }
        settled
    }

    /// The TRYLEADs to pass to the leader now.
    pub(super) fn due_to_pass(&mut self, now: Time) -> Vec<Control> {
        let mut due = Vec::new();
        for remembered in &mut self.remembered {
            if let State::Waiting { awaits: Awaits::Lead(control), pass_at, .. } = &mut remembered.state
                && *pass_at <= now
            {
                *pass_at = now + PASS_AGAIN;
                due.push(control.clone());
            }
        }
        due
    }

    /// When `settle` or `due_to_pass` have something to do.
    pub(super) fn deadline(&self) -> Option<Time> {
        let due = |remembered: &Remembered| match &remembered.state {
            State::Waiting { awaits: Awaits::Lead(_), give_up_at, pass_at, .. } => {
                Some(*give_up_at.min(pass_at))
            }
            State::Waiting { give_up_at, .. } => Some(*give_up_at),
            State::Answered(_) => None,
        };
        self.remembered.iter().filter_map(due).min()
    }

    fn check(&self, verb: Verb, control: &Control, boot: Boot) -> Result<(), Refused> {
        let id = || control.request_id.clone();
        let Some(public) = &self.public else {
            let detail = "this node has no control key (--control-pub) and obeys nobody";
            return Err(refused(id(), "no_control_key", detail));
        };
        if !verify(public, verb, control) {
            return Err(refused(
                id(),
                "bad_signature",
                "the command is not signed by the control key of this node",
            ));
        }
        if control.target_boot != boot {
            let detail = "the command names another start of this node: ask for its status and sign again";
            return Err(refused(id(), "wrong_boot", detail));
        }
        Ok(())
    }

    fn recall(&self, request_id: &RequestId) -> Option<&Remembered> {
        self.remembered.iter().find(|remembered| remembered.request_id == *request_id)
    }

    fn remember(&mut self, request_id: RequestId, state: State) {
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.pop_front();
        }
        self.obeyed.insert(request_id.clone());
        self.remembered.push_back(Remembered { request_id, state });
    }
}

/// DONE with a sentence.
pub(super) fn done(request_id: RequestId, detail: String) -> Message {
    Message::Done(Done { request_id, result: Report::Obeyed { detail } })
}

/// REFUSED, worth asking again soon; a signed command under another id.
pub(super) fn try_again(request_id: RequestId, code: &str, detail: &str) -> Message {
    Message::Refused(Refused { retry_ms: Some(RETRY_MS), ..refused(request_id, code, detail) })
}

/// REFUSED, not worth repeating as it is.
pub(super) fn refused(request_id: RequestId, code: &str, detail: &str) -> Refused {
    Refused { request_id, code: code.to_owned(), detail: detail.to_owned(), retry_ms: None, term: None }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use chorus_proto::types::{Fingerprint, KeyId};
    use chorus_proto::wire::control::ControlKey;

    use super::*;
    use crate::store::KeyChange;

    const NODE: NodeId = NodeId(7);
    const BOOT: Boot = Boot(40);

    fn id(text: &str) -> RequestId {
        RequestId::try_from(text.to_owned()).unwrap()
    }

    fn order(verb: Verb, request_id: &str) -> Order {
        let from = (Ipv4Addr::LOCALHOST, 9).into();
        Order { verb, request_id: id(request_id), who: NodeId(3), from }
    }

    /// Nothing was appended.
    fn nothing(_: EntryId) -> Option<bool> {
        None
    }

    /// Nothing keeps this node from leading.
    fn all_well() -> Option<String> {
        None
    }

    fn code(verdict: Verdict) -> String {
        match verdict {
            Verdict::Answer(answer) => match *answer {
                Message::Refused(refused) => refused.code,
                other => panic!("not refused: {other:?}"),
            },
            other => panic!("not answered: {other:?}"),
        }
    }

    #[test]
    fn a_command_is_obeyed_once_by_the_start_that_it_names() {
        let key = ControlKey::new(&[1; 32]);
        let mut commands = Commands::new(NODE, BOOT, Some(key.public()));
        let good = key.sign(Verb::Follow, NODE, BOOT, id("a"));
        assert_eq!(commands.judge(Verb::Follow, &good), Verdict::Obey);
        let answer = done(id("a"), "follows".to_owned());
        commands.answered(id("a"), answer.clone());
        assert_eq!(commands.judge(Verb::Follow, &good), Verdict::Answer(Box::new(answer)));

        let elsewhere = key.sign(Verb::Follow, NodeId(8), BOOT, id("b"));
        assert_eq!(commands.judge(Verb::Follow, &elsewhere), Verdict::Ignore);
        let earlier = key.sign(Verb::Follow, NODE, Boot(39), id("c"));
        assert_eq!(code(commands.judge(Verb::Follow, &earlier)), "wrong_boot");
        let forged = ControlKey::new(&[2; 32]).sign(Verb::Follow, NODE, BOOT, id("d"));
        assert_eq!(code(commands.judge(Verb::Follow, &forged)), "bad_signature");
        assert_eq!(code(commands.judge(Verb::Shutdown, &good)), "bad_signature");
        let keyless = Commands::new(NODE, BOOT, None);
        assert_eq!(code(keyless.judge(Verb::Follow, &good)), "no_control_key");
    }

    #[test]
    fn a_command_that_waits_is_answered_when_it_is_so_or_when_time_is_up() {
        let key = ControlKey::new(&[1; 32]);
        let mut commands = Commands::new(NODE, BOOT, Some(key.public()));
        let control = key.sign(Verb::TryLead, NODE, BOOT, id("a"));
        let lead = order(Verb::TryLead, "a");
        commands.wait(Time(0), lead.clone(), Awaits::Lead(control.clone()));
        assert_eq!(commands.judge(Verb::TryLead, &control), Verdict::Wait);
        assert_eq!(commands.due_to_pass(Time(0)), std::slice::from_ref(&control));
        assert_eq!(commands.due_to_pass(Time(1)), []);
        assert_eq!(commands.due_to_pass(Time(0) + PASS_AGAIN), std::slice::from_ref(&control));
        assert_eq!(commands.settle(Time(5), false, nothing, all_well), []);
        let leads = done(id("a"), "leads now".to_owned());
        assert_eq!(commands.settle(Time(6), true, nothing, all_well), [(lead, leads.clone())]);
        assert_eq!(commands.judge(Verb::TryLead, &control), Verdict::Answer(Box::new(leads)));

        commands.wait(Time(10), order(Verb::Follow, "b"), Awaits::HandedOver);
        let settled = commands.settle(Time(10) + WAIT_MAX, true, nothing, all_well);
        assert!(matches!(&settled[..], [(_, Message::Refused(refused))] if refused.code == "no_successor"));

        let control = key.sign(Verb::TryLead, NODE, BOOT, id("c"));
        commands.wait(Time(20), order(Verb::TryLead, "c"), Awaits::Lead(control));
        let alone = || Some("heard 1 of 3 voters".to_owned());
        let settled = commands.settle(Time(20) + WAIT_MAX, false, nothing, alone);
        let [(_, Message::Refused(refused))] = &settled[..] else { panic!("{settled:?}") };
        assert_eq!(refused.code, "not_elected");
        assert!(refused.detail.contains("(heard 1 of 3 voters)"), "{refused:?}");
        assert_eq!(commands.deadline(), None);
    }

    #[test]
    fn a_change_is_answered_when_its_entry_is_committed_or_gone() {
        let entry = EntryId::new(3, 9);
        let answer_of = |now: Time, fate: Option<bool>| {
            let mut commands = Commands::new(NODE, BOOT, None);
            commands.wait(Time(0), order(Verb::Members, "a"), Awaits::Settled(entry));
            let settled = commands.settle(now, true, |asked| fate.filter(|_| asked == entry), all_well);
            settled.into_iter().next().map(|(_, answer)| match answer {
                Message::Refused(refused) => (refused.code, refused.retry_ms.is_some()),
                _ => ("done".to_owned(), false),
            })
        };
        assert_eq!(answer_of(Time(1), None), None);
        assert_eq!(answer_of(Time(1), Some(true)), Some(("done".to_owned(), false)));
        assert_eq!(answer_of(Time(1), Some(false)), Some(("taken_back".to_owned(), true)));
        assert_eq!(answer_of(Time(0) + WAIT_MAX, None), Some(("outcome_unknown".to_owned(), true)));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut commands = Commands::new(NODE, BOOT, None);
        for number in 0..2 * REMEMBERED_MAX {
            commands.answered(id(&number.to_string()), done(id("x"), String::new()));
        }
        assert_eq!(commands.remembered.len(), REMEMBERED_MAX);
    }

    #[test]
    fn a_command_whose_answer_is_forgotten_is_not_obeyed_again() {
        let key = ControlKey::new(&[1; 32]);
        let mut commands = Commands::new(NODE, BOOT, Some(key.public()));
        for number in 0..OBEYED_MAX {
            commands.answered(id(&number.to_string()), done(id("x"), String::new()));
        }
        let first = key.sign(Verb::Follow, NODE, BOOT, id("0"));
        assert_eq!(code(commands.judge(Verb::Follow, &first)), "request_expired");
        let one_more = key.sign(Verb::Follow, NODE, BOOT, id("more"));
        assert_eq!(code(commands.judge(Verb::Follow, &one_more)), "overloaded");
        let passed = key.sign(Verb::TryLead, NodeId(8), Boot(3), id("0"));
        assert!(!commands.judge_passed(&passed, Boot(3)));
    }

    #[test]
    fn a_key_that_is_waited_for_is_told_when_the_log_has_brought_it_there_and_not_before() {
        let key = |number: u32| KeyId { number, fingerprint: Fingerprint([number.to_be_bytes()[3]; 8]) };
        let mut commands = Commands::new(NODE, BOOT, None);
        let mut keys = Keys::default();
        commands.wait(Time(0), order(Verb::Rotate, "a"), Awaits::InForce(2));
        commands.wait(Time(0), order(Verb::Retire, "b"), Awaits::Retired(1));
        let before = key(1).fingerprint;
        for (change, told) in [
            (KeyChange::Announce { key: key(2), before }, None),
            (KeyChange::Use(key(2)), Some("key 2 is in force")),
            (KeyChange::Retire(key(1)), Some("key 1 is retired")),
        ] {
            keys.change(1, change).unwrap();
            let settled = commands.settle_keys(&keys);
            let details: Vec<&str> = settled
                .iter()
                .map(|(_, answer)| match answer {
                    Message::Done(Done { result: Report::Obeyed { detail }, .. }) => detail.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(details, told.into_iter().collect::<Vec<_>>(), "{change:?}");
        }
        commands.wait(Time(0), order(Verb::Rotate, "c"), Awaits::InForce(3));
        let late = commands.settle(Time(0) + WAIT_MAX, true, nothing, all_well);
        assert!(matches!(&late[..], [(_, Message::Refused(refused))] if refused.retry_ms.is_some()));
    }

    #[test]
    fn a_passed_trylead_counts_once_and_only_for_the_present_start_of_its_target() {
        let key = ControlKey::new(&[1; 32]);
        let mut leader = Commands::new(NODE, BOOT, Some(key.public()));
        let control = key.sign(Verb::TryLead, NodeId(8), Boot(3), id("a"));
        assert!(!leader.judge_passed(&control, Boot(4)));
        assert!(leader.judge_passed(&control, Boot(3)));
        assert!(!leader.judge_passed(&control, Boot(3)));
    }
}
