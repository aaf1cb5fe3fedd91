//! The cluster as this node sees it, for pages and controllers.

use chorus_proto::message::{NodeReport, Role};
use chorus_proto::presence::{Peer, Standing};
use chorus_proto::raft::Raft;
use chorus_proto::types::{KeyId, NodeId, NodeName, Now, Span, Time};

use super::ailment::Ailment;
use super::handle::{ClusterView, Link};
use super::links::{Links, Rounds};
use super::silence::SILENT;

/// A node that was not heard for so long is shown as dead.
const DEAD: Span = Span::from_millis(3_000);

/// What a node tells about itself that the core does not know.
#[derive(Clone, Debug)]
pub(super) struct Oneself {
    pub(super) id: NodeId,
    pub(super) name: NodeName,
    /// The names that found a cluster together.
    pub(super) voters: Vec<NodeName>,
    pub(super) url: Option<String>,
    pub(super) pid: u32,
    pub(super) version: String,
    /// What holds the founding or an election up, in words; over once there is a leader.
    pub(super) trouble: Option<String>,
    /// What keeps this node itself from taking part.
    pub(super) ailment: Option<Ailment>,
    /// Why it takes no writes although it takes part, in words.
    pub(super) short_of_room: Option<String>,
    /// How far it is from what the others hold, in words; none when it is not behind.
    pub(super) catching_up: Option<String>,
    /// The newest key that it holds.
    pub(super) key: KeyId,
    /// The number of the key in force.
    pub(super) key_in_force: u32,
}

impl Oneself {
    /// The object of `/api/v1/cluster`.
    pub(super) fn view(&self, core: &Raft, links: &Links, now: Now) -> ClusterView {
        let standing = core.standing();
        let cluster = core.presence().cluster();
        let mut nodes = self.voters_seen(core, &standing, now);
        nodes.extend(self.others_seen(core, &standing, now));
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        ClusterView {
            cluster: cluster.map_or_else(String::new, |cluster| {
                cluster.to_string().split('.').next().unwrap_or_default().to_owned()
            }),
            epoch: cluster.map_or(0, |cluster| cluster.epoch),
            node: Some(self.name.clone()),
            leader: standing.leader.and_then(|leader| self.name_of(core, leader)),
            term: standing.term.0,
            commit_index: standing.commit_index.0,
            why: self.why(core, now),
            nodes,
            links: links
                .rounds(now.time)
                .filter_map(|(id, Rounds { said, missed })| {
                    Some(Link { node: self.name_of(core, id)?, rounds: said, missed })
                })
                .collect(),
        }
    }

    /// This node, for a controller: with its boot, whom it follows and what it misses.
    pub(super) fn report(&self, core: &Raft, now: Now, boot: chorus_proto::types::Boot) -> NodeReport {
        let standing = core.standing();
        NodeReport {
            boot: Some(boot),
            leader: standing.leader.and_then(|leader| self.name_of(core, leader)),
            why: self.why(core, now),
            cluster: core.presence().cluster().map(|cluster| cluster.to_string()),
            voters: self.known_voters(core),
            key_in_force: Some(self.key_in_force),
            ..self.seen_by_itself(core, &standing, now)
        }
    }

    /// The names of those that vote, or that shall found the cluster.
    fn known_voters(&self, core: &Raft) -> Vec<NodeName> {
        match core.configuration().voters.as_slice() {
            [] => self.voters.clone(),
            voters => voters.iter().map(|voter| voter.name.clone()).collect(),
        }
    }

    /// The name of a node, this one included.
    pub(super) fn name_of(&self, core: &Raft, id: NodeId) -> Option<NodeName> {
        if id == self.id {
            return Some(self.name.clone());
        }
        let voter = core.configuration().voters.iter().find(|voter| voter.id() == id);
        voter
            .map(|voter| voter.name.clone())
            .or_else(|| core.presence().peer(id).map(|peer| peer.hello.name.clone()))
    }

    /// Why there is no leader; with one, what this node itself suffers from.
    pub(super) fn why(&self, core: &Raft, now: Now) -> Option<String> {
        if core.plays_dead() {
            return Some(SILENT.to_owned());
        }
        if core.standing().leader.is_some() {
            let all = [self.ailing(), self.voteless(core), self.short_of_room.clone()];
            return all.into_iter().flatten().reduce(|one, other| format!("{one}; {other}"));
        }
        let (heard, missing) = core.presence().heard_and_missing(now, core.configuration());
        let all = heard.len() + missing.len();
        let heard_of_all = match (all, missing.as_slice()) {
            (0, _) => "no voter is known yet".to_owned(),
            (_, []) if core.presence().cluster().is_none() => {
                format!("heard {all} of {all} voters; founding")
            }
            (_, []) => format!("heard {all} of {all} voters; an election is under way"),
            (_, missing) => format!("heard {} of {all} voters; missing {}", heard.len(), missing.join(", ")),
        };
        let more = [self.trouble.clone(), self.ailing(), self.short_of_room.clone(), self.voteless(core)];
        Some(std::iter::once(heard_of_all).chain(more.into_iter().flatten()).collect::<Vec<_>>().join("; "))
    }

    fn ailing(&self) -> Option<String> {
        self.ailment.as_ref().map(|ailment| ailment.detail.clone())
    }

    /// Why a node that was started as a voter has no vote: it was removed, or its disk is not the one that votes.
    pub(super) fn voteless(&self, core: &Raft) -> Option<String> {
        let voters = &core.configuration().voters;
        let listed = self.voters.contains(&self.name);
        if !listed || voters.is_empty() || voters.iter().any(|voter| voter.id() == self.id) {
            return None;
        }
        let index = core.standing().configuration_index;
        Some(match voters.iter().find(|voter| voter.name == self.name) {
            Some(voter) => format!(
                "{} votes with another disk ({}): this one listens and serves as a learner until `chorus members replace` \
                 lets it vote",
                self.name,
                voter.id()
            ),
            None => format!(
                "{} is no voter any more since entry {index} of the log: it listens and serves as a learner",
                self.name
            ),
        })
    }

    /// Every voter, heard or not. Before the founding those are names.
    fn voters_seen(&self, core: &Raft, standing: &Standing, now: Now) -> Vec<NodeReport> {
        let voters = &core.configuration().voters;
        if voters.is_empty() {
            let by_name = |name: &NodeName| {
                let peer = core.presence().peers().find(|(_, peer)| peer.hello.name == *name);
                self.voter(core, standing, now, name, peer)
            };
            return self.voters.iter().map(by_name).collect();
        }
        let by_id = |voter: &chorus_proto::types::Voter| {
            let id = voter.id();
            if id == self.id {
                return self.seen_by_itself(core, standing, now);
            }
            match core.presence().peer(id) {
                Some(peer) => NodeReport { voter: true, ..self.seen(core, (id, peer), standing, now.time) },
                None => NodeReport::unheard(voter.name.clone(), id.to_string()),
            }
        };
        voters.iter().map(by_id).collect()
    }

    fn voter(
        &self,
        core: &Raft,
        standing: &Standing,
        now: Now,
        name: &NodeName,
        peer: Option<(NodeId, &Peer)>,
    ) -> NodeReport {
        match peer {
            _ if *name == self.name => self.seen_by_itself(core, standing, now),
            Some(peer) => NodeReport { voter: true, ..self.seen(core, peer, standing, now.time) },
            None => NodeReport::unheard(name.clone(), String::new()),
        }
    }

    /// Those that were heard and do not vote, this node among them if it does not.
    fn others_seen(&self, core: &Raft, standing: &Standing, now: Now) -> Vec<NodeReport> {
        let is_voter = |id: NodeId, name: &NodeName| match core.configuration().voters.as_slice() {
            [] => self.voters.contains(name),
            voters => voters.iter().any(|voter| voter.id() == id),
        };
        let others = core.presence().peers().filter(|(id, peer)| {
            !is_voter(*id, &peer.hello.name) && peer.hello.cluster == core.presence().cluster()
        });
        let mut others: Vec<_> = others.map(|peer| self.seen(core, peer, standing, now.time)).collect();
        if !is_voter(self.id, &self.name) {
            others.push(self.seen_by_itself(core, standing, now));
        }
        others
    }

    fn seen_by_itself(&self, core: &Raft, standing: &Standing, now: Now) -> NodeReport {
        let voters = &core.configuration().voters;
        // Names count for a founding alone: in a cluster that is there it votes once its log says so.
        let founds = voters.is_empty() && core.presence().cluster().is_none();
        let voter =
            voters.iter().any(|voter| voter.id() == self.id) || (founds && self.voters.contains(&self.name));
        NodeReport {
            name: self.name.clone(),
            id: self.id.to_string(),
            role: if core.plays_dead() { "silent" } else { role_name(standing.role) }.to_owned(),
            voter,
            term: standing.term,
            commit_index: standing.commit_index,
            applied_index: standing.applied_index,
            last_index: standing.durable.index,
            heard_ms: Some(0),
            heard_by: None,
            unicast_only: self.names_of(core, core.presence().heard_by_unicast(now)),
            catching_up: self.catching_up.clone(),
            url: self.url.clone(),
            pid: Some(self.pid),
            version: Some(self.version.clone()),
            boot: None,
            leader: None,
            why: None,
            cluster: None,
            voters: Vec::new(),
            key: Some(self.key),
            key_in_force: None,
        }
    }

    /// Another node, from its last HELLO. Who leads is known more freshly than that.
    fn seen(&self, core: &Raft, (id, peer): (NodeId, &Peer), standing: &Standing, now: Time) -> NodeReport {
        let hello = &peer.hello;
        let silent = now.since(peer.heard);
        let leads = standing.leader == Some(id);
        let role = match hello.role {
            _ if silent >= DEAD => "dead",
            _ if leads => "leader",
            Role::Leader | Role::Candidate if standing.leader.is_some() => "follower",
            role => role_name(role),
        };
        NodeReport {
            name: hello.name.clone(),
            id: id.to_string(),
            role: role.to_owned(),
            voter: false,
            term: if leads { standing.term } else { hello.term },
            commit_index: hello.commit_index,
            applied_index: hello.applied_index,
            last_index: hello.durable.index,
            heard_ms: Some(silent.0 / 1_000),
            heard_by: (silent < DEAD).then(|| peer.heard_by().name().to_owned()),
            unicast_only: self.names_of(core, hello.hears_by_unicast_only().filter(|_| silent < DEAD)),
            catching_up: None,
            url: hello.public_url.clone(),
            pid: Some(hello.pid),
            version: Some(hello.version.clone()),
            boot: None,
            leader: None,
            why: None,
            cluster: None,
            voters: Vec::new(),
            key: hello.key,
            key_in_force: None,
        }
    }

    /// The names of those that are known; of others nobody could tell who they are.
    fn names_of(&self, core: &Raft, ids: impl Iterator<Item = NodeId>) -> Vec<NodeName> {
        let mut names: Vec<NodeName> = ids.filter_map(|id| self.name_of(core, id)).collect();
        names.sort();
        names
    }
}

/// The role as interfaces spell it.
fn role_name(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Learner => "learner",
    }
}
