//! Where scripts are played: real cores, a clock, disks and messages under way that only the script moves.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use chorus_proto::message::{Message, Role, Sender};
use chorus_proto::raft::{Actions, Change, Event, Persist, To};
use chorus_proto::text::{self, Names};
use chorus_proto::types::{Cluster, EntryId, HardState, Index, NodeId, Now, Span, Term, Time, Voter};

use super::parse::{self, Words};
use crate::checker::Checker;
use crate::disk::{Disk, Image};
use crate::host::{self, Host, Roster};
use crate::machine;
use crate::snapshot::Snapshot;

/// Rounds of `deliver all`, and ticks of `tick until`, after which a script is taken to run in a circle.
const ROUNDS_MAX: u32 = 200;

/// Ticks of one `run`, after which the same is thought.
const TICKS_MAX: u32 = 10_000;

/// A message under way to one node.
#[derive(Clone, Debug)]
struct UnderWay {
    to: usize,
    from: usize,
    sender: Sender,
    cluster: Option<Cluster>,
    message: Message,
}

/// What a `disk` step says.
#[derive(Debug)]
struct Described {
    hard_state: HardState,
    /// Of the entries after the founding record.
    terms: Vec<u64>,
    applied: usize,
    /// Up to here the log is compacted.
    base: Index,
    promised: Option<EntryId>,
}

impl Default for Described {
    fn default() -> Self {
        Self {
            hard_state: HardState::default(),
            terms: Vec::new(),
            applied: 1,
            base: Index(0),
            promised: None,
        }
    }
}

/// The stage of one script.
#[derive(Debug, Default)]
pub(super) struct Stage {
    now: Time,
    hosts: Vec<Host>,
    learners: BTreeSet<String>,
    names: Vec<String>,
    empty: bool,
    /// Disks as `disk` steps describe them, until the first start.
    disks: BTreeMap<String, Described>,
    deadlines: Vec<Time>,
    slow: BTreeSet<usize>,
    under_way: Vec<UnderWay>,
    /// That which was offered last.
    snapshot: Option<Rc<Snapshot>>,
    checker: Checker,
    /// A message was forged: the invariants need not hold any more.
    unchecked: bool,
    shows_hello: bool,
    silent: bool,
    /// Role, term and leader of each as last told.
    told: Vec<(Role, Term, Option<NodeId>)>,
    requests: u64,
    lines: Vec<String>,
}

impl Stage {
    /// Carries out one line of a script.
    pub(super) fn step(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with('#') {
            return Ok(());
        }
        let words = Words::of(line);
        let (verb, rest) = words.alone.split_first().ok_or("an empty step")?;
        match (*verb, rest) {
            ("nodes", names) => self.names.extend(names.iter().map(ToString::to_string)),
            ("learners", names) => self.learners.extend(names.iter().map(ToString::to_string)),
            ("empty", []) => self.empty = true,
            ("disk", [name]) => self.describe_disk(name, &words)?,
            ("start", names) => self.start(names)?,
            ("crash", [name]) => self.crash(name, &words)?,
            ("lead", [name]) => self.lead(name)?,
            ("tick", [name]) => self.tick(name, words.named("until"))?,
            ("wait", [span]) => self.wait(span)?,
            ("deliver", ["all"]) => self.deliver_all()?,
            ("deliver", which) => self.deliver(which, words.named("from"))?,
            ("drop", which) => {
                self.take_under_way(which, words.named("from"))?;
            }
            ("slow", [name]) => {
                let at = self.at(name)?;
                self.slow.insert(at);
            }
            ("quick", [name]) => {
                let at = self.at(name)?;
                self.slow.remove(&at);
                self.sync(at)?;
            }
            ("sync", [name]) => {
                let at = self.at(name)?;
                self.sync(at)?;
            }
            ("propose", [name, commands @ ..]) => self.propose(name, commands.len(), &words)?,
            ("read", [name, nonce]) => {
                let nonce = nonce.parse().map_err(|_| format!("'{nonce}' is not a number"))?;
                self.checker.oracle().read(nonce);
                self.with(name, |raft, now| raft.read_index(now, nonce))?;
            }
            ("add", [name, newcomer]) => self.change_members(name, newcomer, true)?,
            ("remove", [name, leaving]) => self.change_members(name, leaving, false)?,
            ("run", [span]) => self.run(span)?,
            ("resign", [name]) => {
                let to = words.named("to").map(|to| self.at(to)).transpose()?.map(|at| self.hosts[at].id);
                self.with(name, |raft, now| raft.resign(now, to))?;
            }
            ("older", [name]) => self.older(name, &words)?,
            ("compact", [name]) => self.compact(name, &words)?,
            ("offer", [name, to]) => self.offer(name, to)?,
            ("fetched", [name]) => self.fetched(name)?,
            ("unfetched", [name]) => self.with(name, chorus_proto::raft::Raft::fetch_failed)?,
            ("campaign", [name]) => self.with(name, chorus_proto::raft::Raft::campaign)?,
            ("playdead", [name]) => self.with(name, chorus_proto::raft::Raft::play_dead)?,
            ("revive", [name]) => self.with(name, chorus_proto::raft::Raft::revive)?,
            ("unproven", [name, other]) => {
                let other = self.at(other)?;
                let (id, boot) = (self.hosts[other].id, self.hosts[other].config.boot);
                self.with(name, |raft, now| raft.unproven(now, id, boot))?;
            }
            ("say", [from, to, message, ..]) => self.say(from, to, message, &words)?,
            ("show", names) => names.iter().try_for_each(|name| self.show(name))?,
            ("with", ["HELLO"]) => self.shows_hello = true,
            _ => return Err(format!("'{line}' is no step")),
        }
        Ok(())
    }

    /// What happened since the last call.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    fn at(&self, name: &str) -> Result<usize, String> {
        let found = self.hosts.iter().position(|host| host.config.name.as_str() == name);
        found.ok_or_else(|| format!("there is no node '{name}'"))
    }

    fn name(&self, at: usize) -> String {
        self.hosts[at].config.name.to_string()
    }

    fn clock(&self) -> Now {
        const ORIGIN_MS: u64 = 1_700_000_000_000;
        Now { time: self.now, clock_ms: ORIGIN_MS + self.now.0 / 1_000 }
    }

    // --- beginning and ending ---

    fn describe_disk(&mut self, name: &str, words: &Words<'_>) -> Result<(), String> {
        let terms = words.named("log").unwrap_or_default().split(',').filter(|word| !word.is_empty());
        let terms: Result<Vec<u64>, _> = terms.map(str::parse).collect();
        let terms = terms.map_err(|_| "log= wants terms such as 1,1,2".to_owned())?;
        let voted = words.named("vote").map(|vote| self.names.iter().position(|name| name == vote));
        let vote = match voted {
            None => None,
            Some(None) => return Err("vote= names nobody".to_owned()),
            Some(Some(at)) => Some(host::config("n", number(at), &[]).id()),
        };
        let last_term = terms.last().copied().unwrap_or_default();
        let described = Described {
            hard_state: HardState { term: Term(words.number_or("term", last_term)?), vote },
            terms,
            applied: usize::try_from(words.number_or("applied", 1)?).unwrap_or(usize::MAX),
            base: Index(words.number_or("base", 0)?),
            promised: words.named("promised").map(parse::entry_id).transpose()?,
        };
        self.disks.insert(name.to_owned(), described);
        Ok(())
    }

    fn create_hosts(&mut self) {
        let names = self.names.clone();
        let list: Vec<&str> = names.iter().map(String::as_str).collect();
        let voters = names.iter().map(|name| (name.clone(), list.clone()));
        let learners: Vec<String> = self.learners.iter().cloned().collect();
        let all = voters.chain(learners.into_iter().map(|name| (name, Vec::new())));
        let configs: Vec<_> =
            all.enumerate().map(|(at, (name, list))| host::config(&name, number(at), &list)).collect();
        let founding = host::founding(&configs);
        for config in configs {
            let Described { hard_state, terms, applied, base, promised } =
                self.disks.remove(config.name.as_str()).unwrap_or_default();
            let voter = !config.voters.is_empty();
            let image = if self.empty {
                Image::default()
            } else {
                host::founded(&founding, hard_state, &terms, voter)
            };
            let mut host = Host::new(config, image);
            for entry in host.disk.synced.log.iter().take(applied) {
                host.machine.apply(entry);
            }
            host.disk.compact(base);
            if let Some(id) = promised {
                // A disk that broke a promise is no disk that the invariants speak of.
                host.disk.promise(id);
                self.unchecked = true;
            }
            self.hosts.push(host);
            self.deadlines.push(Time(u64::MAX));
            self.told.push((Role::Learner, Term(0), None));
        }
        if !self.empty {
            // Every disk's entries are taken as they are; they agree where their ids do.
            let longest = self.hosts.iter().max_by_key(|host| host.machine.applied_index());
            let applied = longest.map_or(0, |host| host.machine.applied_index().0);
            let log = longest.map(|host| host.disk.synced.log.clone()).unwrap_or_default();
            self.checker = Checker::new(&log[..usize::try_from(applied.max(1)).unwrap_or(1).min(log.len())]);
        }
    }

    fn start(&mut self, names: &[&str]) -> Result<(), String> {
        if self.hosts.is_empty() {
            self.create_hosts();
        }
        let all: Vec<String> = self.hosts.iter().map(|host| host.config.name.to_string()).collect();
        let names: Vec<String> =
            if names.is_empty() { all } else { names.iter().map(ToString::to_string).collect() };
        for name in names {
            let at = self.at(&name)?;
            let now = self.clock();
            let actions = self.hosts[at].start(now, at as u64 + 1);
            self.checker.started(at);
            let disk = self.hosts[at].disk.synced.hard_state;
            let role = self.hosts[at].raft().standing().role;
            self.told[at] = (role, disk.term, None);
            self.carry_out(at, actions)?;
        }
        Ok(())
    }

    fn crash(&mut self, name: &str, words: &Words<'_>) -> Result<(), String> {
        let at = self.at(name)?;
        let keeps = usize::try_from(words.number_or("keeps", 0)?).unwrap_or_default();
        let applied = self.hosts[at].machine.applied_index();
        self.hosts[at].crash(keeps, applied);
        self.checker.started(at);
        self.deadlines[at] = Time(u64::MAX);
        Ok(())
    }

    fn lead(&mut self, name: &str) -> Result<(), String> {
        let at = self.at(name)?;
        self.silent = true;
        // The others must miss a leader before they consent.
        self.now = self.now + Span::from_millis(300);
        self.with(name, chorus_proto::raft::Raft::campaign)?;
        self.deliver_all()?;
        self.silent = false;
        let role = self.hosts[at].raft().standing().role;
        if role == Role::Leader { Ok(()) } else { Err(format!("{name} is {role:?}")) }
    }

    // --- time ---

    fn wait(&mut self, span: &str) -> Result<(), String> {
        self.now = self.now + parse_span(span)?;
        Ok(())
    }

    /// Everybody's timers fire when they are due, and what is said arrives at once.
    fn run(&mut self, span: &str) -> Result<(), String> {
        let end = self.now + parse_span(span)?;
        self.silent = true;
        for _ in 0..TICKS_MAX {
            let due = self.deadlines.iter().copied().zip(0..).min();
            let Some((due, at)) = due.filter(|(due, _)| *due <= end) else {
                self.now = end;
                self.silent = false;
                return Ok(());
            };
            self.now = self.now.max(due);
            let now = self.clock();
            let actions = self.hosts[at].raft().tick(now);
            self.carry_out(at, actions)?;
            self.deliver_all()?;
        }
        Err("their timers do not stop firing".to_owned())
    }

    fn tick(&mut self, name: &str, until: Option<&str>) -> Result<(), String> {
        let at = self.at(name)?;
        for _ in 0..ROUNDS_MAX {
            self.now = self.now.max(self.deadlines[at]);
            let said = self.lines.len();
            self.with(name, chorus_proto::raft::Raft::tick)?;
            let Some(until) = until else { return Ok(()) };
            let role = self.hosts[at].raft.as_ref().map(|raft| text::role(raft.standing().role));
            let word = |line: &String| line.split_whitespace().any(|word| word == until);
            if role == Some(until) || self.lines[said..].iter().any(word) {
                return Ok(());
            }
        }
        Err(format!("{name} does not come to {}", until.unwrap_or_default()))
    }

    // --- messages ---

    fn deliver_all(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            if self.under_way.is_empty() {
                return Ok(());
            }
            self.deliver(&[], None)?;
        }
        Err("they do not stop talking".to_owned())
    }

    fn deliver(&mut self, which: &[&str], from: Option<&str>) -> Result<(), String> {
        self.take_under_way(which, from)?.into_iter().try_for_each(|one| self.arrive(one))
    }

    /// Takes the messages that fit: a receiver's name, a message's name, a sender.
    fn take_under_way(&mut self, which: &[&str], from: Option<&str>) -> Result<Vec<UnderWay>, String> {
        let from = from.map(|name| self.at(name)).transpose()?;
        let names: Vec<String> = self.hosts.iter().map(|host| host.config.name.to_string()).collect();
        let fits = |one: &UnderWay| {
            from.is_none_or(|from| one.from == from)
                && which.iter().all(|word| *word == names[one.to] || *word == one.message.name())
        };
        let (taken, left) = std::mem::take(&mut self.under_way).into_iter().partition(fits);
        self.under_way = left;
        Ok(taken)
    }

    fn arrive(&mut self, one: UnderWay) -> Result<(), String> {
        let UnderWay { to, sender, cluster, message, .. } = one;
        let common = matches!(message, Message::Hello(_) | Message::Welcome(_));
        let heard = self.hosts[to].raft.is_some() && (common || cluster == self.hosts[to].cluster());
        if !heard {
            return Ok(());
        }
        let now = self.clock();
        let actions = self.hosts[to].raft().receive(now, sender, message);
        self.carry_out(to, actions)
    }

    fn say(&mut self, from: &str, to: &str, message: &str, words: &Words<'_>) -> Result<(), String> {
        self.unchecked = true;
        let (from, to) = (self.at(from)?, self.at(to)?);
        let message = match message {
            "HELLO" => self.foreign_hello(from, to, words)?,
            _ => parse::message(message, words, |name| self.at(name).map(|at| self.hosts[at].id))?,
        };
        let sender = Sender { id: self.hosts[from].id, boot: self.hosts[from].config.boot, direct: false };
        let cluster = self.hosts[to].cluster();
        self.arrive(UnderWay { to, from, sender, cluster, message })
    }

    /// HELLO of a node of another cluster, which hears the receiver.
    fn foreign_hello(&self, from: usize, to: usize, words: &Words<'_>) -> Result<Message, String> {
        let (from, to) = (&self.hosts[from].config, &self.hosts[to].config);
        let heard = (to.id(), to.boot);
        let hello = host::foreign_hello(from, heard, words.number("commit")?, words.number("first")?);
        Ok(Message::Hello(Box::new(hello)))
    }

    // --- a node's inputs, and what comes of them ---

    fn with(
        &mut self,
        name: &str,
        input: impl FnOnce(&mut chorus_proto::raft::Raft, Now) -> Actions,
    ) -> Result<(), String> {
        let (at, now) = (self.at(name)?, self.clock());
        let raft = self.hosts[at].raft.as_mut().ok_or_else(|| format!("{name} is down"))?;
        let actions = input(raft, now);
        self.carry_out(at, actions)
    }

    fn propose(&mut self, name: &str, commands: usize, words: &Words<'_>) -> Result<(), String> {
        let (at, now) = (self.at(name)?, self.clock());
        let bytes = usize::try_from(words.number_or("bytes", 8)?).unwrap_or_default();
        let commands = (0..commands.max(1))
            .map(|_| {
                self.requests += 1;
                machine::command(self.requests, bytes)
            })
            .collect();
        let raft = self.hosts[at].raft.as_mut().ok_or_else(|| format!("{name} is down"))?;
        let proposed = raft.propose(now, commands);
        if let Some(refusal) = proposed.refusal {
            self.tell(format!("{name} refuses: {refusal}"));
        }
        self.carry_out(at, proposed.actions)
    }

    fn change_members(&mut self, name: &str, whom: &str, add: bool) -> Result<(), String> {
        let (at, whom, now) = (self.at(name)?, self.at(whom)?, self.clock());
        let Host { config, id, .. } = &self.hosts[whom];
        let voter = Voter { name: config.name.clone(), identity: config.identity };
        let change = if add { Change::Add(voter) } else { Change::Remove(*id) };
        let raft = self.hosts[at].raft.as_mut().ok_or_else(|| format!("{name} is down"))?;
        let changed = raft.change_members(now, &change);
        if let Err(refusal) = changed.entry {
            self.tell(format!("{name} refuses: {refusal}"));
        }
        self.carry_out(at, changed.actions)
    }

    /// An old copy of a node's disk takes its place while it is down: no disk that the invariants speak of.
    fn older(&mut self, name: &str, words: &Words<'_>) -> Result<(), String> {
        let (at, to) = (self.at(name)?, words.number("to")?);
        let host = &mut self.hosts[at];
        let mut image = host.disk.synced.clone();
        image.log.truncate(usize::try_from(to).unwrap_or(usize::MAX));
        if words.named("term").is_some() {
            image.hard_state = HardState { term: Term(words.number("term")?), vote: None };
        }
        host.disk = Disk::new(image);
        if let Some(promised) = words.named("promised") {
            host.disk.promise(parse::entry_id(promised)?);
        }
        host.machine.fall_back(Index(to));
        self.unchecked = true;
        Ok(())
    }

    // --- compaction and snapshots ---

    fn compact(&mut self, name: &str, words: &Words<'_>) -> Result<(), String> {
        let at = self.at(name)?;
        let host = &mut self.hosts[at];
        host.machine.write_checkpoint();
        let base = host.disk.compact(Index(words.number("to")?));
        let base = base.ok_or_else(|| format!("{name} does not retain that entry"))?;
        self.with(name, |raft, now| raft.compacted(now, base))
    }

    /// The snapshot of a node's state, as it is now, is offered to another.
    fn offer(&mut self, name: &str, to: &str) -> Result<(), String> {
        let (at, to) = (self.at(name)?, self.at(to)?);
        let host = &self.hosts[at];
        let snapshot = Rc::new(Snapshot::of(&host.machine, &host.disk.synced.log));
        let (offer, to) = (snapshot.offer(), self.hosts[to].id);
        self.snapshot = Some(snapshot);
        self.with(name, |raft, now| raft.offer_snapshot(now, to, offer))
    }

    /// The snapshot that was offered last has come.
    fn fetched(&mut self, name: &str) -> Result<(), String> {
        const TICKET: u64 = 7;
        let at = self.at(name)?;
        let snapshot = self.snapshot.clone().ok_or("no snapshot was offered")?;
        let cluster = self.hosts[at].cluster().ok_or_else(|| format!("{name} is in no cluster"))?;
        let fetched = snapshot.fetched(TICKET, cluster);
        self.hosts[at].disk.fetched(TICKET, snapshot);
        self.with(name, |raft, now| raft.fetched(now, fetched))
    }

    fn sync(&mut self, at: usize) -> Result<(), String> {
        let Some(token) = self.hosts[at].disk.last_waiting() else { return Ok(()) };
        self.hosts[at].disk.sync(token);
        self.hosts[at].switch_state();
        let now = self.clock();
        let actions = self.hosts[at].raft().persisted(now, token);
        self.carry_out(at, actions)
    }

    fn carry_out(&mut self, at: usize, mut actions: Actions) -> Result<(), String> {
        self.tell_events(at, &actions.events);
        if self.slow.contains(&at) {
            let writes: Vec<String> =
                actions.persist.iter().map(|persist| self.describe_write(persist)).collect();
            writes.into_iter().for_each(|write| self.tell(format!("{} writes{write}", self.name(at))));
        }
        if self.unchecked {
            let persist = std::mem::take(&mut actions.persist);
            persist.into_iter().try_for_each(|persist| self.hosts[at].disk.ask(persist))?;
        } else {
            self.checker.take(&mut self.hosts, at, &mut actions)?;
        }
        self.deadlines[at] = actions.deadline.unwrap_or(Time(u64::MAX));
        for outgoing in actions.send {
            self.send(at, outgoing.to, outgoing.message);
        }
        if let Some(upto) = actions.apply {
            self.apply(at, upto)?;
        }
        for read in actions.read {
            let (now, entries) = (self.clock(), self.hosts[at].disk.load(&read));
            let actions = self.hosts[at].raft().loaded(now, read, entries);
            self.carry_out(at, actions)?;
        }
        if !self.slow.contains(&at) && self.hosts[at].disk.waiting() > 0 {
            self.sync(at)?;
        }
        Ok(())
    }

    fn apply(&mut self, at: usize, upto: Index) -> Result<(), String> {
        self.tell(format!("{} applies {upto}", self.name(at)));
        let host = &mut self.hosts[at];
        while host.machine.applied_index() < upto {
            let next = host.machine.applied_index().next();
            let entry = host
                .disk
                .synced
                .retained(next)
                .ok_or_else(|| format!("{next} is applied and not on disk"))?;
            let told = host.machine.apply(entry);
            if !self.unchecked {
                self.checker.applied(entry, told, host.machine.digest())?;
            }
        }
        let now = self.clock();
        let actions = self.hosts[at].raft().applied(now, upto);
        self.carry_out(at, actions)
    }

    fn send(&mut self, from: usize, to: To, message: Message) {
        if self.shows_hello || !matches!(message, Message::Hello(_)) {
            let whom = match to {
                To::Group => "all".to_owned(),
                To::Node(id) => Roster(&self.hosts).name(id),
            };
            let text = text::message(&Roster(&self.hosts), &message);
            self.tell(format!("{} → {whom}  {text}", self.name(from)));
        }
        let sender =
            Sender { id: self.hosts[from].id, boot: self.hosts[from].config.boot, direct: to != To::Group };
        let cluster = self.hosts[from].cluster();
        let is_receiver = |id: NodeId| to == To::Group || to == To::Node(id);
        for receiver in (0..self.hosts.len()).filter(|receiver| *receiver != from) {
            if is_receiver(self.hosts[receiver].id) {
                let message = message.clone();
                self.under_way.push(UnderWay { to: receiver, from, sender, cluster, message });
            }
        }
    }

    // --- what is told ---

    fn tell(&mut self, line: String) {
        if !self.silent {
            self.lines.push(line);
        }
    }

    fn tell_events(&mut self, at: usize, events: &[Event]) {
        let name = self.name(at);
        let rank = |event: &&Event| match event {
            Event::Role { .. } => 0,
            Event::Leader { .. } => 1,
            _ => 2,
        };
        let mut events: Vec<&Event> = events.iter().collect();
        events.sort_by_key(rank);
        for event in events {
            let line = match event {
                Event::Role { role, term } => {
                    let (old_role, old_term, leader) = self.told[at];
                    self.told[at] = (*role, *term, leader);
                    let term = (old_term != *term).then(|| format!("term {old_term} → {term}"));
                    let role = (old_role != *role)
                        .then(|| format!("{} → {}", text::role(old_role), text::role(*role)));
                    let changes: Vec<String> = term.into_iter().chain(role).collect();
                    if changes.is_empty() {
                        continue;
                    }
                    changes.join(", ")
                }
                Event::Leader { leader, .. } => {
                    let (_, _, old_leader) = &mut self.told[at];
                    if std::mem::replace(old_leader, *leader) == *leader {
                        continue;
                    }
                    text::event(&Roster(&self.hosts), event)
                }
                other => text::event(&Roster(&self.hosts), other),
            };
            self.tell(format!("{name} {line}"));
        }
    }

    fn describe_write(&self, persist: &Persist) -> String {
        let hard_state = persist.hard_state.map(|HardState { term, vote }| {
            let vote =
                vote.map_or_else(String::new, |vote| format!(" vote={}", Roster(&self.hosts).name(vote)));
            format!(" term={term}{vote}")
        });
        let cut = persist.cut_from.map(|from| format!(" cut={from}"));
        let founded = persist.founded.then(|| " founded".to_owned());
        let install = persist.install.as_ref().map(|install| {
            let tail = if install.keep_tail { " and keeps what follows" } else { "" };
            format!(" snapshot={}{tail}", install.snapshot.id)
        });
        let entries = persist.append.iter().map(|entry| format!(" {}", entry.id));
        hard_state.into_iter().chain(founded).chain(install).chain(cut).chain(entries).collect()
    }

    fn show(&mut self, name: &str) -> Result<(), String> {
        let at = self.at(name)?;
        let raft = self.hosts[at].raft.as_ref().ok_or_else(|| format!("{name} is down"))?;
        let standing = raft.standing();
        let ids: Vec<String> = self.hosts[at].disk.asked().iter().map(ToString::to_string).collect();
        let leader = Roster(&self.hosts).name_or_nobody(standing.leader);
        let line = format!(
            "{name}: {} in term {}, leader {leader}, log {}, durable {}, commit {}",
            text::role(standing.role),
            standing.term,
            ids.join(" "),
            standing.durable.index,
            standing.commit_index
        );
        self.tell(line);
        Ok(())
    }
}

fn parse_span(span: &str) -> Result<Span, String> {
    let millis = span.strip_suffix("ms").and_then(|number| number.parse().ok());
    Ok(Span::from_millis(millis.ok_or_else(|| format!("'{span}' is no span such as 40ms"))?))
}

/// The identity's number of the node at this place.
fn number(at: usize) -> u8 {
    u8::try_from(at + 1).unwrap_or(u8::MAX)
}
