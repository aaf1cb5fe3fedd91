//! How a cluster is founded once, and how a node finds its place in one (design: Founding).
//!
//! A node is either *outside* every cluster, or *inside* one. From outside three ways lead in: it founds (its name is
//! the first of the list and all the others are there, empty and of one mind), it joins (a WELCOME names it), or it
//! adopts the cluster that it hears and lives in it as a learner. No way leads out again.

use std::collections::{BTreeMap, BTreeSet};

use super::peers::{HEARD_WITHIN, Peer, Peers};
use crate::message::Welcome;
use crate::raft::{Config, Durable};
use crate::types::{
    Cluster, Configuration, EntryId, Founding, Index, NodeId, NodeName, Now, Span, Time, Voter,
};

/// How long a node outside listens to a founded cluster that hears it, before it lives there without a vote.
/// Long enough for two HELLOs of every member, and for the record to come again and again to a node that it names.
const ADOPT_AFTER: Span = Span::from_millis(2_000);

/// Where this node stands.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In no cluster.
    Outside(Outside),
    /// In one.
    Inside(Inside),
}

/// In no cluster.
#[derive(Clone, Debug)]
pub(super) struct Outside {
    /// Its disk holds nothing, so that it may be part of a founding.
    pub(super) empty: bool,
    /// A record is on its way to disk: no other is taken.
    pub(super) taking: bool,
    /// The founded cluster that hears this node, and since when.
    hears_us: Option<(Cluster, Time)>,
}

/// In a cluster.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    pub(super) cluster: Cluster,
    /// The founding record, while it is all that the log holds or since this node stored it.
    pub(super) record: Option<Welcome>,
    /// Named in the record and not yet heard with it; none when this node never held the record.
    pub(super) unheard: Option<BTreeSet<NodeId>>,
    /// Voting is allowed: on disk.
    pub(super) founded: bool,
    /// On its way to disk.
    pub(super) founding_said: bool,
}

impl Place {
    /// The place that the disk gives.
    pub(super) fn new(own: NodeId, durable: &Durable) -> Self {
        let Some(cluster) = durable.cluster else {
            return Self::Outside(Outside { empty: durable.empty, taking: false, hears_us: None });
        };
        let founders = durable.configurations.iter().find(|(index, _)| *index == Index(1));
        let configuration = founders.map(|(_, configuration)| configuration.clone());
        // Beyond entry 1 the record is of no use: nothing is appended before every voter had it on disk.
        let record =
            configuration.clone().filter(|_| durable.last_id == EntryId::new(0, 1)).map(|configuration| {
                Welcome { founding: Founding { cluster, configuration }, time_ms: durable.last_time_ms }
            });
        Self::Inside(Inside {
            cluster,
            record,
            unheard: configuration.as_ref().map(|configuration| others(configuration, own)),
            founded: durable.founded,
            founding_said: durable.founded,
        })
    }
}

impl Outside {
    /// The record, when this node is the one to found and everybody is there.
    pub(super) fn found(&mut self, now: Now, config: &Config, peers: &Peers) -> Option<Welcome> {
        if !self.empty || self.taking || config.voters.iter().min() != Some(&config.name) {
            return None;
        }
        let names: BTreeSet<&NodeName> = config.voters.iter().collect();
        let voters: Vec<Voter> = names
            .into_iter()
            .map(|name| sole_candidate(now.time, config, peers, name))
            .collect::<Option<_>>()?;
        self.taking = true;
        let cluster = Cluster { id: new_cluster_id(config), epoch: 1 };
        let founding = Founding { cluster, configuration: Configuration { voters } };
        Some(Welcome { founding, time_ms: now.clock_ms })
    }

    /// Whether this node takes the record: only its first, and only one that names its list and its identity.
    pub(super) fn take(&mut self, config: &Config, record: &Welcome) -> bool {
        let named = &record.founding.configuration.voters;
        let mut listed = config.voters.clone();
        listed.sort();
        listed.dedup();
        let takes = self.empty
            && !self.taking
            && named.iter().map(|voter| &voter.name).eq(&listed)
            && named.iter().any(|voter| voter.name == config.name && voter.identity == config.identity);
        self.taking |= takes;
        takes
    }

    /// The cluster to live in without a vote, once it is clear that there is one, and only one, and that it knows
    /// no place for this node.
    pub(super) fn adopt(&mut self, now: Time, config: &Config, peers: &Peers) -> Option<Cluster> {
        let own = config.id();
        let sole = sole_cluster(now, peers).filter(|cluster| {
            peers.fresh(now).any(|(_, peer)| is_founded_in(peer, *cluster) && peer.names(own, config.boot))
        });
        let since = match (self.hears_us, sole) {
            (Some((known, since)), Some(cluster)) if known == cluster => since,
            _ => now,
        };
        self.hears_us = sole.map(|cluster| (cluster, since));
        sole.filter(|_| !self.taking && now.since(since) >= ADOPT_AFTER)
    }

    /// What stands in the way, in words.
    pub(super) fn troubles(&self, now: Time, started: Time, config: &Config, peers: &Peers) -> Vec<String> {
        let mut said = shared_names(now, config, peers);
        let heard = clusters(now, peers);
        if heard.len() > 1 {
            let list: Vec<String> = heard
                .iter()
                .map(|(id, (epoch, names))| format!("{} ({names})", Cluster { id: *id, epoch: *epoch }))
                .collect();
            said.push(format!(
                "{} clusters are heard under one secret and this node joins none of them: {}",
                heard.len(),
                list.join(", ")
            ));
        }
        if config.voters.is_empty() {
            if heard.is_empty() && now.since(started) > HEARD_WITHIN {
                said.push("no cluster is heard: name its voters (--voters) to found one, or start the nodes of the one that is meant".to_owned());
            }
        } else if heard.is_empty() {
            said.extend(held_up(now, started, config, peers));
        }
        if !self.empty && heard.is_empty() && now.since(started) > HEARD_WITHIN {
            said.push(
                "the disk is not empty and names no cluster: it can found none and waits for one".into(),
            );
        }
        said
    }
}

/// The one that may vote under `name`: itself, or the only fresh node of that name, if it is empty, has the same list and
/// hears this start of this node.
fn sole_candidate(now: Time, config: &Config, peers: &Peers, name: &NodeName) -> Option<Voter> {
    let own = config.id();
    let mut found = (*name == config.name).then(|| Voter { name: name.clone(), identity: config.identity });
    for (_, peer) in peers.fresh(now).filter(|(_, peer)| peer.hello.name == *name) {
        let ready = peer.hello.empty
            && peer.hello.cluster.is_none()
            && same_list(&peer.hello.voters, &config.voters)
            && peer.names(own, config.boot);
        if found.is_some() || !ready {
            return None;
        }
        found = Some(Voter { name: name.clone(), identity: peer.hello.identity });
    }
    found
}

/// Unique for as long as the driver's seeds are: 64 bits of the system's randomness, with who and when besides.
fn new_cluster_id(config: &Config) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"chorus cluster id");
    hasher.update(&config.seed.to_be_bytes());
    hasher.update(&config.identity.0);
    hasher.update(&config.boot.0.to_be_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}

impl Inside {
    /// A place taken without the record.
    pub(super) fn adopted(cluster: Cluster) -> Self {
        Self { cluster, record: None, unheard: None, founded: false, founding_said: false }
    }

    /// A place that the record gives.
    pub(super) fn recorded(own: NodeId, record: Welcome) -> Self {
        let unheard = Some(others(&record.founding.configuration, own));
        let cluster = record.founding.cluster;
        Self { cluster, record: Some(record), unheard, founded: false, founding_said: false }
    }

    /// Notes who has the record; one that heard everybody with it speaks for all.
    pub(super) fn confirm(&mut self, from: NodeId, peer: &Peer) {
        if peer.hello.cluster != Some(self.cluster) {
            return;
        }
        if let Some(unheard) = &mut self.unheard {
            unheard.remove(&from);
        }
        if peer.hello.founded {
            self.unheard = Some(BTreeSet::new());
        }
    }

    /// Everybody was heard with the record, and nobody was told yet.
    pub(super) fn is_confirmed(&self) -> bool {
        !self.founding_said && self.unheard.as_ref().is_some_and(BTreeSet::is_empty)
    }

    /// The record names this empty node.
    pub(super) fn greets(&self, peer: &Peer) -> bool {
        let names = |record: &Welcome| {
            record.founding.configuration.voters.iter().any(|voter| voter.identity == peer.hello.identity)
        };
        peer.hello.empty && peer.hello.cluster.is_none() && self.record.as_ref().is_some_and(names)
    }

    /// What stands in the way, in words.
    pub(super) fn troubles(&self, now: Time, started: Time, config: &Config, peers: &Peers) -> Vec<String> {
        let mut said = shared_names(now, config, peers);
        for (_, peer) in peers.fresh(now).filter(|(_, peer)| config.voters.contains(&peer.hello.name)) {
            if let Some(other) = peer.hello.cluster.filter(|other| other.id != self.cluster.id) {
                let name = &peer.hello.name;
                said.push(format!(
                    "{name} belongs to another cluster, {other}, and this node's data directory to {}: give one of the \
                     two the data directory or the group that is its own",
                    self.cluster
                ));
            }
        }
        said.extend(differing_lists(now, config, peers));
        if !self.founded && now.since(started) > HEARD_WITHIN {
            said.extend(self.unheard_voters(now, peers));
        }
        said
    }

    fn unheard_voters(&self, now: Time, peers: &Peers) -> Vec<String> {
        let (Some(record), Some(unheard)) = (&self.record, &self.unheard) else { return Vec::new() };
        let voters = record.founding.configuration.voters.iter();
        voters
            .filter(|voter| unheard.contains(&voter.id()))
            .map(|voter| {
                let other = peers.fresh(now).find(|(_, peer)| peer.hello.name == voter.name);
                match other.filter(|(_, peer)| peer.hello.identity != voter.identity) {
                    Some((_, peer)) => format!(
                        "the founding record names {} as {}, but it is heard as {}: its disk is not the one \
                         that was there at the founding",
                        voter.name, voter.identity, peer.hello.identity
                    ),
                    None => format!("voting waits until {} is heard with the founding record", voter.name),
                }
            })
            .collect()
    }
}

fn others(configuration: &Configuration, own: NodeId) -> BTreeSet<NodeId> {
    configuration.voters.iter().map(Voter::id).filter(|id| *id != own).collect()
}

fn is_founded_in(peer: &Peer, cluster: Cluster) -> bool {
    peer.hello.founded && peer.hello.cluster == Some(cluster)
}

/// Every cluster that is heard: its highest epoch, and the names that say so. An older epoch is no cluster of its own.
fn clusters(now: Time, peers: &Peers) -> BTreeMap<[u8; 16], (u64, String)> {
    let mut heard: BTreeMap<[u8; 16], (u64, BTreeSet<&str>)> = BTreeMap::new();
    for (_, peer) in peers.fresh(now) {
        if let Some(cluster) = peer.hello.cluster {
            let (epoch, names) = heard.entry(cluster.id).or_default();
            *epoch = cluster.epoch.max(*epoch);
            names.insert(peer.hello.name.as_str());
        }
    }
    let listed = |names: BTreeSet<&str>| names.into_iter().take(8).collect::<Vec<_>>().join(", ");
    heard.into_iter().map(|(id, (epoch, names))| (id, (epoch, listed(names)))).collect()
}

/// The cluster that is heard, when it is the only one.
fn sole_cluster(now: Time, peers: &Peers) -> Option<Cluster> {
    let heard = clusters(now, peers);
    let (id, (epoch, _)) = heard.first_key_value().filter(|_| heard.len() == 1)?;
    Some(Cluster { id: *id, epoch: *epoch })
}

fn same_list(one: &[NodeName], other: &[NodeName]) -> bool {
    one.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>()
}

/// Names of the list that two nodes bear.
fn shared_names(now: Time, config: &Config, peers: &Peers) -> Vec<String> {
    let mut bearers: BTreeMap<&NodeName, BTreeSet<String>> = BTreeMap::new();
    bearers.entry(&config.name).or_default().insert(config.identity.to_string());
    for (_, peer) in peers.fresh(now) {
        bearers.entry(&peer.hello.name).or_default().insert(peer.hello.identity.to_string());
    }
    bearers
        .into_iter()
        .filter(|(_, identities)| identities.len() > 1)
        .map(|(name, identities)| {
            let list = identities.into_iter().take(4).collect::<Vec<_>>().join(" and ");
            format!("the name {name} is borne by more than one node ({list}): stop or rename all but one")
        })
        .collect()
}

/// Voters whose configuration lists others than this node's does.
fn differing_lists(now: Time, config: &Config, peers: &Peers) -> Vec<String> {
    peers
        .fresh(now)
        .filter(|(_, peer)| {
            !config.voters.is_empty()
                && !peer.hello.voters.is_empty()
                && !same_list(&peer.hello.voters, &config.voters)
        })
        .map(|(_, peer)| {
            let (name, theirs, ours) = (&peer.hello.name, list(&peer.hello.voters), list(&config.voters));
            format!("{name} lists the voters {theirs}, this node lists {ours}: make them the same")
        })
        .collect()
}

/// Why a founding does not happen.
fn held_up(now: Time, started: Time, config: &Config, peers: &Peers) -> Vec<String> {
    let mut said = differing_lists(now, config, peers);
    let mut missing = Vec::new();
    for name in config.voters.iter().filter(|name| **name != config.name) {
        match peers.fresh(now).find(|(_, peer)| peer.hello.name == *name) {
            None => missing.push(name.clone()),
            Some((_, peer)) if !peer.hello.empty => {
                said.push(format!("{name} holds data of an earlier life and cannot be part of a founding"));
            }
            Some(_) => {}
        }
    }
    if !missing.is_empty() && now.since(started) > HEARD_WITHIN {
        said.push(format!("the founding waits for {}, not heard for 3 s", list(&missing)));
    }
    said
}

fn list(names: &[NodeName]) -> String {
    names.iter().map(NodeName::as_str).collect::<Vec<_>>().join(",")
}
