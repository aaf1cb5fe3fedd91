//! Stories of several nodes that say HELLO to each other on a clock of the test's own.

use std::collections::{BTreeMap, BTreeSet};

use super::{Observed, Presence, Standing};
use crate::message::{Hello, Message, Role, Sender, Versions, Vote, Welcome};
use crate::raft::{Config, Durable};
use crate::types::{
    Boot, Cluster, EntryId, HardState, Held, Identity, Index, NodeId, NodeName, Now, Span, Term, Time,
};
use crate::wire;

/// One node: its disk, and its presence while it runs.
struct Node {
    config: Config,
    durable: Durable,
    presence: Option<Presence>,
    observed: Vec<Observed>,
    /// Starts of others that have shown to this one that they hear it, as `wire` knows them.
    proven: BTreeSet<(NodeId, Boot)>,
}

/// Some nodes around one table, where everybody hears everybody at once, but for what is cut.
struct Table {
    now: Now,
    nodes: Vec<Node>,
    /// From whom to whom the group does not carry. What is sent direct always does.
    group_cut: BTreeSet<(usize, usize)>,
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a good name")
}

fn config(own: &str, identity: u8, voters: &[&str]) -> Config {
    Config {
        name: name(own),
        identity: Identity([identity; 16]),
        boot: Boot(1),
        voters: voters.iter().map(|voter| name(voter)).collect(),
        heartbeat_interval: Span::from_millis(40),
        election_timeout_min: Span::from_millis(150),
        election_timeout_max: Span::from_millis(300),
        receive_buffer_bytes: 1 << 20,
        public_url: None,
        version: "0".to_owned(),
        versions: Versions::FIRST,
        pid: 1,
        seed: u64::from(identity),
    }
}

fn standing() -> Standing {
    Standing {
        role: Role::Follower,
        term: Term(0),
        leader: None,
        durable: EntryId::ZERO,
        commit_index: Index(0),
        applied_index: Index(0),
        first_index: Index(0),
        configuration_index: Index(0),
    }
}

/// Who has no list is a learner.
fn standing_of(config: &Config) -> Standing {
    let role = if config.voters.is_empty() { Role::Learner } else { Role::Follower };
    Standing { role, ..standing() }
}

impl Table {
    fn of(configs: Vec<Config>) -> Self {
        let now = Now { time: Time(0), clock_ms: 1_000_000 };
        let mut table = Self { now, nodes: Vec::new(), group_cut: BTreeSet::new() };
        configs.into_iter().for_each(|config| table.add(config));
        table
    }

    /// `n` voters of one list.
    fn voters(n: u8) -> Self {
        let names: Vec<String> = (1..=n).map(|i| format!("n{i}")).collect();
        let list: Vec<&str> = names.iter().map(String::as_str).collect();
        Self::of((1..=n).map(|i| config(&names[usize::from(i) - 1], i, &list)).collect())
    }

    fn add(&mut self, config: Config) {
        let durable = Durable { empty: true, ..Durable::default() };
        let presence = Some(Presence::new(&config, &durable, self.now));
        let (observed, proven) = (Vec::new(), BTreeSet::new());
        self.nodes.push(Node { config, durable, presence, observed, proven });
    }

    fn stop(&mut self, at: usize) {
        self.nodes[at].presence = None;
    }

    fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.config.boot = Boot(node.config.boot.0 + 1);
        node.proven.clear();
        node.presence = Some(Presence::new(&node.config, &node.durable, self.now));
    }

    /// Lets time pass in steps of 5 ms.
    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 5 {
            self.now.time = self.now.time + Span::from_millis(5);
            self.now.clock_ms += 5;
            for at in 0..self.nodes.len() {
                self.step(at);
            }
        }
    }

    /// Passes time until every node that runs says yes; the limit is far beyond what the story needs.
    fn until(&mut self, what: &str, limit_ms: u64, done: impl Fn(&Node) -> bool) -> u64 {
        let begun = self.now.time;
        while !self.nodes.iter().filter(|node| node.presence.is_some()).all(&done) {
            assert!(self.now.time.since(begun) < Span::from_millis(limit_ms), "not in {limit_ms} ms: {what}");
            self.pass(5);
        }
        self.now.time.since(begun).0 / 1_000
    }

    fn step(&mut self, at: usize) {
        let now = self.now;
        let standing = standing_of(&self.nodes[at].config);
        let Some(presence) = self.nodes[at].presence.as_mut().filter(|it| it.deadline() <= now.time) else {
            return;
        };
        let observed = presence.tick(now);
        let hello = presence.hello_due(now).then(|| presence.hello(now, &standing));
        let direct =
            hello.iter().flat_map(|hello| presence.besides(&Message::Hello(Box::new(hello.clone()))));
        let direct: Vec<NodeId> = direct.copied().collect();
        self.carry_out(at, observed);
        let Some(hello) = hello else { return };
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            if direct.contains(&self.nodes[other].config.id()) {
                self.say(at, other, &hello, true);
            }
            if !self.group_cut.contains(&(at, other)) {
                self.say(at, other, &hello, false);
            }
        }
    }

    fn say(&mut self, at: usize, other: usize, hello: &Hello, direct: bool) {
        let (now, from) = (self.now, Sender { direct, ..self.sender(at) });
        let node = &mut self.nodes[other];
        let Some(presence) = &mut node.presence else { return };
        if hello.heard.contains(&(node.config.id(), node.config.boot)) {
            node.proven.insert((from.id, from.boot));
        }
        if !node.proven.contains(&(from.id, from.boot)) {
            return presence.on_unproven(now, from.id, from.boot);
        }
        presence.hear(now, from);
        let observed = presence.on_hello(now, from, hello.clone());
        self.carry_out(other, observed);
    }

    /// Cuts the group's way from each of these to each of those.
    fn cut_group(&mut self, from: &[usize], to: &[usize]) {
        let ways = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        self.group_cut.extend(ways.filter(|(from, to)| from != to));
    }

    /// Who gets by unicast what each node says to the group.
    fn copies(&self) -> Vec<Vec<usize>> {
        let place =
            |id: &NodeId| self.nodes.iter().position(|node| node.config.id() == *id).expect("a node here");
        let anything = Message::LeadMe(Vote { term: Term(1) });
        let besides = |node: &Node| {
            let presence = node.presence.as_ref().expect("the node runs");
            let mut places: Vec<usize> = presence.besides(&anything).iter().map(place).collect();
            places.sort_unstable();
            places
        };
        self.nodes.iter().map(besides).collect()
    }

    /// Passes time until copies go these ways; how long it took, in ms.
    fn until_copies(&mut self, expected: &[Vec<usize>]) -> u64 {
        let begun = self.now.time;
        while self.copies() != expected {
            let passed = self.now.time.since(begun);
            assert!(passed < Span::from_millis(20_000), "copies go {:?}, not {expected:?}", self.copies());
            self.pass(5);
        }
        self.now.time.since(begun).0 / 1_000
    }

    fn sender(&self, at: usize) -> Sender {
        let config = &self.nodes[at].config;
        Sender { id: config.id(), boot: config.boot, direct: false }
    }

    /// What the core would do, with a disk that is done at once.
    fn carry_out(&mut self, at: usize, observed: Vec<Observed>) {
        for one in observed {
            self.nodes[at].observed.push(one.clone());
            match one {
                Observed::Found(record) => {
                    self.store(at, &record);
                    self.welcome_all(at, &record);
                }
                Observed::Join(record) => self.store(at, &record),
                Observed::Greet(id) => {
                    let record = self.nodes[at].presence.as_ref().and_then(Presence::record).cloned();
                    self.welcome(at, id, &record.expect("only a holder greets"));
                }
                Observed::Adopt(cluster) => self.nodes[at].durable.cluster = Some(cluster),
                Observed::Founded => {
                    self.nodes[at].durable.founded = true;
                    self.running(at).founded();
                }
                Observed::Cloned(_) | Observed::HigherEpoch(_) | Observed::Had(_) | Observed::Trouble(_) => {}
            }
        }
    }

    fn running(&mut self, at: usize) -> &mut Presence {
        self.nodes[at].presence.as_mut().expect("the node runs")
    }

    fn store(&mut self, at: usize, record: &Welcome) {
        let founding = &record.founding;
        self.nodes[at].durable = Durable {
            hard_state: HardState::default(),
            cluster: Some(founding.cluster),
            last_id: EntryId::new(0, 1),
            configurations: vec![(Index(1), founding.configuration.clone())],
            last_time_ms: record.time_ms,
            ..Durable::default()
        };
        self.running(at).recorded(record.clone());
    }

    fn welcome_all(&mut self, at: usize, record: &Welcome) {
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.config.id()).collect();
        ids.into_iter().for_each(|id| self.welcome(at, id, record));
    }

    fn welcome(&mut self, at: usize, to: NodeId, record: &Welcome) {
        let from = self.sender(at);
        let now = self.now;
        let Some(other) =
            self.nodes.iter().position(|node| node.config.id() == to && node.presence.is_some())
        else {
            return;
        };
        let observed = self.running(other).on_welcome(now, from, record.clone());
        self.carry_out(other, observed);
    }

    fn clusters(&self) -> Vec<Option<Cluster>> {
        self.nodes.iter().map(|node| node.presence.as_ref().and_then(Presence::cluster)).collect()
    }
}

impl Node {
    fn may_vote(&self) -> bool {
        self.presence.as_ref().is_some_and(Presence::may_vote)
    }

    fn troubles(&self) -> Vec<String> {
        let text = |one: &Observed| match one {
            Observed::Trouble(text) => Some(text.clone()),
            _ => None,
        };
        self.observed.iter().filter_map(text).collect()
    }

    fn is_troubled_by(&self, words: &str) -> bool {
        self.troubles().iter().any(|text| text.contains(words))
    }

    fn count(&self, is: impl Fn(&Observed) -> bool) -> usize {
        self.observed.iter().filter(|one| is(one)).count()
    }
}

#[test]
fn one_node_founds_alone_at_once() {
    let mut table = Table::voters(1);
    assert!(table.until("founded", 50, Node::may_vote) <= 20);
    let record = table.nodes[0].presence.as_ref().and_then(Presence::record).expect("it holds the record");
    assert_eq!(record.founding.configuration.voters.len(), 1);
    assert_eq!(record.founding.cluster.epoch, 1);
}

#[test]
fn three_and_five_found_one_cluster_together_well_under_a_second() {
    for n in [3, 5] {
        let mut table = Table::voters(n);
        let took = table.until("founded", 1_000, Node::may_vote);
        assert!(took < 600, "{n} nodes took {took} ms");
        let clusters = table.clusters();
        assert!(clusters.iter().all(|cluster| cluster.is_some() && *cluster == clusters[0]), "{clusters:?}");
        let founded = |one: &Observed| matches!(one, Observed::Found(_));
        let founders: BTreeMap<String, usize> =
            table.nodes.iter().map(|node| (node.config.name.to_string(), node.count(founded))).collect();
        assert_eq!(founders["n1"], 1, "only the first name founds");
        assert_eq!(founders.values().sum::<usize>(), 1);
        assert!(table.nodes.iter().all(|node| node.troubles().is_empty()), "a quick founding has no trouble");
    }
}

#[test]
fn every_list_that_is_accepted_founds() {
    let names = |n: u8, bytes: usize| (1..=n).map(|i| format!("n{i:0>width$}", width = bytes - 1)).collect();
    let urls = [
        None,
        Some("http://192.168.100.100:8080"),
        Some("https://a-node-with-a-long-name.example.org:8443/"),
    ];
    for (bytes, url) in [3, 12, 32].into_iter().zip(urls) {
        let lists = (8..=40).map(|n| -> Vec<String> { names(n, bytes) });
        let fits = |list: &Vec<String>| {
            let list: Vec<NodeName> = list.iter().map(|text| name(text)).collect();
            wire::voters_fit(&list, url, "0")
        };
        let longest = lists.take_while(fits).last().expect("a list that fits");
        let list: Vec<&str> = longest.iter().map(String::as_str).collect();
        let node = |(own, identity): (&&str, u8)| Config {
            public_url: url.map(str::to_owned),
            ..config(own, identity, &list)
        };
        let mut table = Table::of(list.iter().zip(1..).map(node).collect());
        let what = format!("{} voters with names of {bytes} bytes have founded", list.len());
        table.until(&what, 10_000, Node::may_vote);
    }
}

#[test]
fn a_node_of_another_cluster_is_named_after_the_voters_and_gets_no_copies() {
    let mut table = acquainted();
    let cluster = Some(Cluster { id: [9; 16], epoch: 1 });
    let (own, boot) = (table.nodes[0].config.id(), table.nodes[0].config.boot);
    let now = table.now;
    let mut said = table.running(1).hello(now, &standing());
    for number in 100..200 {
        let identity = Identity([number; 16]);
        said = Hello { identity, cluster, heard: vec![(own, boot)], direct_only: vec![0], ..said };
        let from = Sender { id: identity.node_id(), boot: Boot(1), direct: false };
        let _ = table.running(0).on_hello(now, from, said.clone());
    }
    assert_eq!(table.running(0).members().count(), 2);
    assert!(table.running(0).copies_to().is_empty(), "{:?}", table.running(0).copies_to());
    let others: Vec<NodeId> = table.nodes[1..].iter().map(|node| node.config.id()).collect();
    let mut hello = table.running(0).hello(now, &standing());
    hello.heard.truncate(2);
    assert!(hello.heard.iter().all(|(id, _)| others.contains(id)), "{:?} of {others:?}", hello.heard);
}

#[test]
fn nobody_founds_while_one_is_missing_and_they_say_who() {
    let mut table = Table::voters(3);
    table.stop(2);
    table.pass(5_000);
    assert_eq!(table.clusters(), [None, None, None]);
    assert!(table.nodes[0].is_troubled_by("waits for n3"), "{:?}", table.nodes[0].troubles());
    assert_eq!(table.nodes[0].troubles().len(), 1, "said once");
    table.start(2);
    table.until("founded", 1_000, Node::may_vote);
}

#[test]
fn a_restarted_node_and_the_others_show_each_other_that_they_hear_within_100_ms() {
    let mut table = acquainted();
    let id = table.nodes[1].config.id();
    for _ in 0..20 {
        table.pass(735);
        table.start(1);
        let boot = table.nodes[1].config.boot;
        let took = table.until("all count", 400, |node| node.proven.len() >= 2);
        let knows = |node: &Node| node.config.id() == id || node.proven.contains(&(id, boot));
        let took = took + table.until("the new start counts", 400, knows);
        assert!(took <= 100, "{took} ms");
    }
}

#[test]
fn old_words_of_many_starts_cost_some_hellos_and_no_more() {
    let mut table = acquainted();
    let mut hellos = 0;
    for ms in 0..20_000 {
        table.now.time = table.now.time + Span::from_millis(1);
        let now = table.now;
        let presence = table.running(0);
        (0..5).for_each(|k| presence.on_unproven(now, NodeId(900 + k), Boot(1 + ms % 3)));
        if presence.hello_due(now) {
            let hello = presence.hello(now, &standing());
            assert!(hello.unproven.len() <= 5, "{:?}", hello.unproven);
            hellos += 1;
        }
    }
    // One a second, and for each start that is the latest of its node the answers that are due to it.
    assert!((16..=200).contains(&hellos), "{hellos} HELLOs in 20 s");
}

#[test]
fn who_waits_to_be_named_is_named_first_and_the_rest_in_the_next() {
    let mut table = Table::voters(1);
    table.until("founded", 100, Node::may_vote);
    let (own, boot) = (table.nodes[0].config.id(), table.nodes[0].config.boot);
    let said = table.running(0).hello(Now::default(), &standing());
    let mut now = Now { time: Time(1_000_000), clock_ms: 0 };
    for number in 0..100_u64 {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&number.to_be_bytes());
        let identity = Identity(identity);
        let heard = vec![(own, boot)];
        let unproven = if number < 90 { vec![0] } else { Vec::new() };
        let from = Sender { id: identity.node_id(), boot: Boot(1), direct: false };
        let _ = table.running(0).on_hello(now, from, Hello { identity, heard, unproven, ..said.clone() });
    }
    let (mut named, mut hellos) = (BTreeSet::new(), 0);
    while named.len() < 90 {
        now.time = now.time + Span::from_millis(5);
        if table.running(0).hello_due(now) {
            let hello = table.running(0).hello(now, &standing());
            assert!(table.running(0).hello_is_common());
            named.extend(hello.heard.iter().map(|(id, _)| *id));
            hellos += 1;
        }
        assert!(now.time < Time(5_000_000), "{} of 90 are named", named.len());
    }
    assert!(hellos <= 5, "{hellos} HELLOs");
}

#[test]
fn a_foreign_list_founds_nothing_and_is_said() {
    let mut table = Table::of(vec![
        config("n1", 1, &["n1", "n2", "n3"]),
        config("n2", 2, &["n1", "n2", "n3"]),
        config("n3", 3, &["n1", "n2", "n3", "n4"]),
    ]);
    table.pass(4_000);
    assert_eq!(table.clusters(), [None, None, None]);
    for node in &table.nodes {
        assert!(node.is_troubled_by("make them the same"), "{:?}", node.troubles());
    }
}

#[test]
fn two_identities_under_one_name_found_nothing_until_one_is_gone() {
    let list = ["n1", "n2", "n3"];
    let mut table = Table::of(vec![
        config("n2", 4, &list),
        config("n1", 1, &list),
        config("n2", 2, &list),
        config("n3", 3, &list),
    ]);
    table.pass(4_000);
    assert_eq!(table.clusters(), [None; 4]);
    assert!(table.nodes[1].is_troubled_by("the name n2"), "{:?}", table.nodes[1].troubles());
    assert!(table.nodes[2].is_troubled_by("the name n2"), "the bearer says it too");
    table.stop(0);
    table.until("founded once the other was silent for 3 s", 4_000, Node::may_vote);
}

#[test]
fn a_voter_that_restarts_in_the_middle_of_the_founding_gets_the_record_again() {
    let mut table = Table::voters(3);
    while table.nodes[0].presence.as_ref().and_then(Presence::record).is_none() {
        table.pass(5);
    }
    // As if the WELCOME had come while it was down.
    table.nodes[2].durable = Durable { empty: true, ..Durable::default() };
    table.start(2);
    table.pass(20);
    table.until("founded", 1_000, Node::may_vote);
    let clusters = table.clusters();
    assert!(clusters.iter().all(|cluster| *cluster == clusters[0]));
}

#[test]
fn a_founder_that_restarts_with_nothing_but_the_record_goes_on_with_it() {
    let mut table = Table::voters(3);
    while table.nodes[0].presence.as_ref().and_then(Presence::record).is_none() {
        table.pass(5);
    }
    let cluster = table.clusters()[0];
    table.nodes[1].durable = Durable { empty: true, ..Durable::default() };
    table.start(1);
    table.start(0);
    assert_eq!(table.clusters()[0], cluster, "the record is all that its log holds");
    table.until("founded", 1_000, Node::may_vote);
    assert_eq!(table.clusters(), [cluster; 3]);
}

#[test]
fn nobody_votes_before_all_were_heard_with_the_record() {
    let mut table = Table::voters(3);
    table.until("founded", 1_000, Node::may_vote);
    // A voter that had the record but had not heard the others yet, and comes back while they are down.
    table.nodes[1].durable.founded = false;
    (0..3).for_each(|at| table.stop(at));
    table.start(1);
    table.pass(4_000);
    assert!(!table.nodes[1].may_vote());
    assert!(table.nodes[1].is_troubled_by("until n1 is heard"), "{:?}", table.nodes[1].troubles());
    table.start(2);
    table.until("one that had heard all speaks for all", 1_500, Node::may_vote);
}

#[test]
fn a_wiped_disk_comes_back_as_a_learner_and_takes_no_second_record() {
    let mut table = Table::voters(3);
    table.until("founded", 1_000, Node::may_vote);
    let cluster = table.clusters()[0];
    table.stop(0);
    table.pass(4_000);
    // The same name, the first of the list, on an empty disk: it must not found a second cluster.
    table.add(config("n1", 9, &["n1", "n2", "n3"]));
    table.pass(1_500);
    assert_eq!(table.clusters()[3], None, "it listens first");
    table.pass(2_500);
    assert_eq!(table.clusters()[3], cluster);
    let node = &table.nodes[3];
    assert_eq!(node.count(|one| matches!(one, Observed::Found(_) | Observed::Join(_))), 0);
    assert_eq!(node.count(|one| matches!(one, Observed::Adopt(_))), 1);
}

#[test]
fn a_learner_adopts_the_only_cluster_it_hears_and_none_of_two() {
    let mut table = Table::voters(1);
    table.until("founded", 100, Node::may_vote);
    table.add(config("l1", 7, &[]));
    table.pass(4_500);
    assert_eq!(table.clusters()[1], table.clusters()[0]);
    // A second cluster under the same secret, and a learner that hears both from its first moment.
    table.add(config("m1", 8, &["m1"]));
    table.pass(1_500);
    table.add(config("l2", 6, &[]));
    table.pass(6_000);
    assert_eq!(table.clusters()[3], None);
    assert!(table.nodes[3].is_troubled_by("joins none"), "{:?}", table.nodes[3].troubles());
}

#[test]
fn a_clone_shows_itself_to_the_earlier_and_to_the_later_process() {
    let mut table = Table::voters(1);
    table.until("founded", 100, Node::may_vote);
    let id = table.nodes[0].config.id();
    let own = table.nodes[0].config.boot;
    let presence = table.running(0);
    assert_eq!(presence.on_own_identity(Boot(own.0 - 1), &[]), None, "an old datagram proves nothing");
    assert_eq!(presence.on_own_identity(own, &[(id, own)]), None, "an echo neither");
    assert!(matches!(presence.on_own_identity(Boot(own.0 - 1), &[(id, own)]), Some(Observed::Cloned(_))));
    assert!(!presence.may_vote());

    let mut table = Table::voters(1);
    table.until("founded", 100, Node::may_vote);
    let presence = table.running(0);
    assert!(matches!(presence.on_own_identity(Boot(own.0 + 1), &[]), Some(Observed::Cloned(_))));
    assert_eq!(presence.on_own_identity(Boot(own.0 + 2), &[]), None, "said once");
    assert!(!presence.may_vote());
    // The later one hears it from the earlier: nobody else may name the earlier one's start any more.
    let hello = presence.hello(Now::default(), &standing());
    assert_eq!(hello.heard.first(), Some(&(id, Boot(own.0 + 2))));
}

#[test]
fn a_higher_epoch_stops_the_vote() {
    let mut table = Table::voters(3);
    table.until("founded", 1_000, Node::may_vote);
    table.stop(2);
    let next = table.clusters()[0].map(|cluster| Cluster { epoch: 2, ..cluster });
    table.nodes[2].durable.cluster = next;
    table.start(2);
    table.pass(2_500);
    for node in &table.nodes[..2] {
        assert!(!node.may_vote());
        assert_eq!(node.count(|one| matches!(one, Observed::HigherEpoch(_))), 1, "said once");
    }
    assert!(table.nodes[2].may_vote());
}

#[test]
fn the_table_is_bounded_and_the_longest_silent_goes() {
    let mut table = Table::voters(1);
    table.until("founded", 100, Node::may_vote);
    let hello = table.running(0).hello(Now::default(), &standing());
    let mut last = NodeId(0);
    for number in 0..1_100_u64 {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&number.to_be_bytes());
        let identity = Identity(identity);
        last = identity.node_id();
        let from = Sender { id: last, boot: Boot(1), direct: false };
        let now = Now { time: Time(1_000_000 + number), clock_ms: 0 };
        let hello = crate::message::Hello { identity, ..hello.clone() };
        let _ = table.running(0).on_hello(now, from, hello);
    }
    let presence = table.running(0);
    assert_eq!(presence.peers().count(), 1_024);
    assert!(presence.peer(last).is_some());
    let heard = presence.hello(Now { time: Time(1_002_000), clock_ms: 0 }, &standing()).heard.len();
    assert!((8..=256).contains(&heard), "one HELLO names some of them: {heard}");
}

#[test]
fn a_hello_that_names_another_identity_than_its_sender_is_not_believed() {
    let mut table = Table::voters(2);
    let hello = table.running(1).hello(Now::default(), &standing());
    let now = table.now;
    let from = Sender { id: NodeId(5), boot: Boot(1), direct: false };
    assert!(table.running(0).on_hello(now, from, hello).is_empty());
    assert!(table.running(0).peer(NodeId(5)).is_none());
}

#[test]
fn what_a_disk_had_is_told_to_every_start_that_began_with_less() {
    let mut table = Table::voters(2);
    table.until("founded", 1_000, Node::may_vote);
    let (now, from) = (table.now, table.sender(1));
    let hello = table.running(1).hello(now, &standing());
    let held = |term: u64, index: u64| Held { term: Term(term), index: Index(index) };
    let said = |table: &mut Table, boot: u64, began: Option<Held>, term: u64, durable: u64, commit: u64| {
        let (durable, commit_index) = (EntryId::new(1, durable), Index(commit));
        let hello = Hello { term: Term(term), began, durable, commit_index, ..hello.clone() };
        let from = Sender { boot: Boot(from.boot.0 + boot), ..from };
        let _ = table.running(0).on_hello(now, from, hello);
        table.running(0).hello(now, &standing()).had
    };
    assert_eq!(said(&mut table, 0, Some(held(1, 1)), 3, 90, 80), []);
    assert_eq!(said(&mut table, 1, Some(held(3, 85)), 3, 85, 80), [], "what was not committed may be cut");
    assert_eq!(
        said(&mut table, 2, None, 2, 40, 30),
        [],
        "an earlier version does not say with what it began"
    );
    let had = [(from.id, held(3, 80))];
    assert_eq!(said(&mut table, 3, Some(held(2, 40)), 2, 40, 30), had);
    assert_eq!(said(&mut table, 3, Some(held(2, 40)), 4, 200, 200), had, "it caught up, and began with less");
    let had = [(from.id, held(4, 200))];
    assert_eq!(said(&mut table, 4, Some(held(3, 200)), 4, 200, 200), had, "its term fell");
}

#[test]
fn what_a_disk_had_in_another_epoch_is_no_matter() {
    let mut table = Table::voters(2);
    table.until("founded", 1_000, Node::may_vote);
    let (now, from, own) = (table.now, table.sender(1), table.sender(0).id);
    let hello = table.running(1).hello(now, &standing());
    let more = Held { term: Term(9), index: Index(90) };
    let later = hello.cluster.map(|cluster| Cluster { epoch: cluster.epoch + 1, ..cluster });
    let said =
        Hello { term: more.term, durable: EntryId::new(9, 90), commit_index: Index(90), ..hello.clone() };
    let _ = table.running(0).on_hello(now, from, said);
    let again = Sender { boot: Boot(from.boot.0 + 1), ..from };
    let _ = table.running(0).on_hello(now, again, Hello { cluster: later, ..hello.clone() });
    assert_eq!(table.running(0).hello(now, &standing()).had, [], "the new epoch went on from less");
    let told = Hello { cluster: later, had: vec![(own, more)], ..hello.clone() };
    let observed = table.running(0).on_hello(now, again, told);
    assert!(!observed.contains(&Observed::Had(more)), "{observed:?}");
    let told = Hello { had: vec![(own, more)], ..hello };
    assert!(table.running(0).on_hello(now, again, told).contains(&Observed::Had(more)), "in its own epoch");
}

#[test]
fn what_others_remember_of_a_node_counts_until_it_is_made_good() {
    let mut table = Table::voters(2);
    table.until("founded", 1_000, Node::may_vote);
    let (now, from, own) = (table.now, table.sender(0), table.sender(1).id);
    let hello = table.running(0).hello(now, &standing());
    let held = |term: u64, index: u64| Held { term: Term(term), index: Index(index) };
    let told = |table: &mut Table, id: NodeId, from: Sender, had: Held| {
        let hello = Hello { had: vec![(id, had)], ..hello.clone() };
        table.running(1).on_hello(now, from, hello)
    };
    assert_eq!(told(&mut table, own, from, held(3, 40)), [Observed::Had(held(3, 40))]);
    assert_eq!(told(&mut table, from.id, from, held(3, 40)), [], "of another node");
    let stranger = Sender { id: NodeId(5), ..from };
    assert_eq!(told(&mut table, own, stranger, held(3, 40)), [], "an identity that is not its sender's");
    table.running(1).made_good(held(3, 50));
    assert_eq!(table.running(1).hello(now, &standing()).made_good, Some(held(3, 50)));
    assert_eq!(told(&mut table, own, from, held(3, 40)), [], "it is over");
    assert_eq!(told(&mut table, own, from, held(4, 40)), [Observed::Had(held(4, 40))]);
    assert_eq!(told(&mut table, own, from, held(3, 51)), [Observed::Had(held(3, 51))]);
}

#[test]
fn what_a_start_lost_is_told_to_the_next_ones_until_it_is_made_good() {
    let mut table = Table::voters(2);
    table.until("founded", 1_000, Node::may_vote);
    let (now, from) = (table.now, table.sender(1));
    let hello = table.running(1).hello(now, &standing());
    let held = |term: u64, index: u64| Held { term: Term(term), index: Index(index) };
    let said = |table: &mut Table, boot: u64, began: Held, made_good: Option<Held>| {
        let (durable, commit_index) = (EntryId { term: began.term, index: began.index }, began.index);
        let hello =
            Hello { term: began.term, began: Some(began), durable, commit_index, made_good, ..hello.clone() };
        let from = Sender { boot: Boot(from.boot.0 + boot), ..from };
        let _ = table.running(0).on_hello(now, from, hello);
        table.running(0).hello(now, &standing()).had
    };
    let had = [(from.id, held(3, 80))];
    assert_eq!(said(&mut table, 0, held(3, 80), None), []);
    assert_eq!(said(&mut table, 1, held(2, 40), None), had);
    assert_eq!(
        said(&mut table, 2, held(4, 90), None),
        had,
        "it began with all of it, but not with its votes"
    );
    assert_eq!(said(&mut table, 3, held(4, 90), None), had);
    assert_eq!(said(&mut table, 3, held(4, 90), Some(held(3, 79))), had, "of less than that");
    assert_eq!(said(&mut table, 3, held(4, 90), Some(held(4, 91))), []);
    assert_eq!(said(&mut table, 4, held(4, 91), None), []);
}

#[test]
fn the_median_clock_ignores_a_clock_that_runs_ahead() {
    let mut table = Table::voters(3);
    table.until("founded", 1_000, Node::may_vote);
    let voters = table.nodes.iter().map(|node| node.config.id()).collect::<Vec<_>>();
    let (now, from) = (table.now, table.sender(1));
    let mut hello = table.running(1).hello(now, &standing());
    hello.clock_ms += 3_600_000;
    let _ = table.running(0).on_hello(now, from, hello);
    let later = Now { time: now.time + Span::from_millis(40), clock_ms: now.clock_ms + 40 };
    let median = table.running(0).median_clock_ms(later, &voters);
    assert!(median.abs_diff(later.clock_ms) <= 5, "{median} is not near {}", later.clock_ms);
}

#[test]
fn heard_and_missing_name_every_voter() {
    let mut table = Table::voters(3);
    table.stop(2);
    table.pass(500);
    let now = table.now;
    let (heard, missing) = table.running(0).heard_and_missing(now, &crate::types::Configuration::default());
    assert_eq!((heard, missing), (vec!["n1".to_owned(), "n2".to_owned()], vec!["n3".to_owned()]));
}

/// Three voters that know each other.
fn acquainted() -> Table {
    let mut table = Table::voters(3);
    table.until("founded", 1_000, Node::may_vote);
    table.pass(5_000);
    table
}

const NOBODY: Vec<usize> = Vec::new();

#[test]
fn while_the_group_reaches_everybody_nothing_is_copied() {
    let mut table = Table::voters(5);
    for _ in 0..4_000 {
        table.pass(5);
        assert_eq!(table.copies(), [NOBODY; 5]);
    }
}

#[test]
fn what_the_group_does_not_carry_is_copied_within_two_seconds_and_no_longer_than_needed() {
    let (all, none) = ([0, 1, 2], [NOBODY; 3]);
    // Nobody's words arrive; one hears nobody; one is heard by nobody; one way between two; two sides.
    type Case<'a> = (&'a [usize], &'a [usize], [Vec<usize>; 3]);
    let cases: [Case<'_>; 5] = [
        (&all, &all, [vec![1, 2], vec![0, 2], vec![0, 1]]),
        (&all, &[1], [vec![1], NOBODY, vec![1]]),
        (&[1], &all, [NOBODY, vec![0, 2], NOBODY]),
        (&[0], &[2], [vec![2], NOBODY, NOBODY]),
        (&[0, 1], &[2], [vec![2], vec![2], NOBODY]),
    ];
    for (from, to, expected) in cases {
        let mut table = acquainted();
        for _ in 0..3 {
            table.cut_group(from, to);
            let took = table.until_copies(&expected);
            assert!(took <= 2_000, "{took} ms until copies go {expected:?}");
            table.pass(10_000);
            assert_eq!(table.copies(), expected, "as long as it lasts");
            table.group_cut.clear();
            let took = table.until_copies(&none);
            assert!(took <= 4_000, "{took} ms until nothing is copied any more");
            table.pass(10_000);
            assert_eq!(table.copies(), none);
        }
    }
}

#[test]
fn a_leader_that_is_missed_hears_of_it_at_once() {
    let mut table = acquainted();
    table.cut_group(&[0], &[1]);
    let (now, leader) = (table.now, table.nodes[0].config.id());
    table.running(1).miss(now, leader);
    let took = table.until_copies(&[vec![1], NOBODY, NOBODY]);
    assert!(took <= 100, "{took} ms");
    // It was the leader's process that stood still: what it says next comes over the group.
    table.group_cut.clear();
    let took = table.until_copies(&[NOBODY, NOBODY, NOBODY]);
    assert!(took <= 2_400, "{took} ms");
}

#[test]
fn a_learner_that_hears_nothing_from_the_group_is_found_by_the_voters() {
    let mut table = Table::voters(3);
    table.until("founded", 1_000, Node::may_vote);
    table.add(config("l1", 7, &[]));
    table.cut_group(&[0, 1, 2], &[3]);
    table.until_copies(&[vec![3], vec![3], vec![3], NOBODY]);
    table.pass(4_000);
    assert_eq!(table.clusters()[3], table.clusters()[0]);
}

#[test]
fn learners_that_hear_the_group_get_no_hello_of_their_own() {
    let mut table = Table::voters(3);
    table.until("founded", 1_000, Node::may_vote);
    table.add(config("l1", 7, &[]));
    table.pass(6_000);
    let now = table.now;
    let hello = Message::Hello(Box::new(table.running(0).hello(now, &standing())));
    let voters = [table.nodes[1].config.id(), table.nodes[2].config.id()];
    let mut direct = table.running(0).besides(&hello).to_vec();
    direct.sort_unstable();
    let mut expected = voters.to_vec();
    expected.sort_unstable();
    assert_eq!(direct, expected);
}

#[test]
fn a_voter_without_a_leader_hurries_for_a_while_only() {
    let mut table = Table::voters(1);
    table.until("founded", 100, Node::may_vote);
    let mut count = |ms: u64| {
        let begun = table.now.time;
        let mut hellos = 0;
        while table.now.time.since(begun) < Span::from_millis(ms) {
            table.now.time = table.now.time + Span::from_millis(5);
            let now = table.now;
            let alone = Standing { role: Role::Candidate, ..standing() };
            if table.running(0).hello_due(now) {
                let _ = table.running(0).hello(now, &alone);
                hellos += 1;
            }
        }
        hellos
    };
    let first = count(2_000);
    assert!((16..=26).contains(&first), "{first} HELLOs in the first 2 s");
    let later = count(60_000);
    assert!(later <= 80, "{later} HELLOs in the minute after");
}
