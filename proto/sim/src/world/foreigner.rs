//! Lives in which a node of another cluster under the same secret is heard: machines were emptied and founded anew with the
//! old key, and one of before runs on. It says HELLO as everybody does, and has far more than anybody here, retained to the
//! beginning or not. Nothing of it is of use, so that nobody turns to it. It is no host, only a voice that reaches whoever is
//! awake. Each life draws from a stream of its own whether it is such a one, so that the others stay what they were.

use chorus_proto::message::{HeardBy, Hello, Message, Role, Sender};
use chorus_proto::raft::{Config, To};
use chorus_proto::types::{Boot, NodeId, Span};

use super::{What, World};
use crate::host;
use crate::invariant::{Checked, Invariant};

/// Of so many lives one is such a one.
const ONE_IN: u64 = 20;

/// The last entry that it holds.
const COMMITTED: u64 = 1_000_000;

/// The identity's number: no other node has it.
const NUMBER: u8 = 200;

/// The voice.
#[derive(Debug)]
pub(super) struct Foreigner {
    rng: fastrand::Rng,
    config: Config,
    /// The first entry that it retains.
    first: u64,
    /// Over which way it hears those here.
    hears_by: HeardBy,
    role: Role,
}

impl Foreigner {
    /// Whether the life of this seed has one.
    pub(super) fn draw(seed: u64) -> Option<Self> {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x464f_5245_4947_4e45);
        if rng.u64(..ONE_IN) > 0 {
            return None;
        }
        let config = Config { boot: Boot(1), ..host::config("f1", NUMBER, &[]) };
        let first = [1, 900_000][rng.usize(..2)];
        let hears_by = if rng.bool() { HeardBy::Multicast } else { HeardBy::Unicast };
        let role = [Role::Leader, Role::Follower, Role::Learner][rng.usize(..3)];
        Some(Self { rng, config, first, hears_by, role })
    }

    /// What it says to that start of a node here.
    fn hello(&self, heard: (NodeId, Boot), clock_ms: u64) -> Hello {
        let direct_only = if self.hears_by == HeardBy::Unicast { vec![0] } else { Vec::new() };
        let hello = host::foreign_hello(&self.config, heard, COMMITTED, self.first);
        Hello { role: self.role, direct_only, clock_ms, ..hello }
    }
}

impl World {
    /// Its next HELLO comes in about a second.
    pub(super) fn meet_foreigner(&mut self) {
        let Some(Foreigner { rng, .. }) = &mut self.foreigner else { return };
        let wait = Span(rng.u64(800_000..=1_200_000));
        self.after(wait, What::ForeignHello);
    }

    pub(super) fn foreign_hello(&mut self) -> Checked {
        self.meet_foreigner();
        let awake: Vec<usize> = (0..self.hosts.len()).filter(|at| self.is_awake(*at)).collect();
        awake.into_iter().try_for_each(|at| self.hear_foreigner(at))
    }

    fn hear_foreigner(&mut self, at: usize) -> Checked {
        let (host, now) = (&self.hosts[at], self.clock(at));
        let Some(foreigner) = &self.foreigner else { return Ok(()) };
        let hello = foreigner.hello((host.id, host.config.boot), now.clock_ms);
        let Config { boot, .. } = foreigner.config;
        let sender = Sender { id: foreigner.config.id(), boot, direct: false };
        let actions = self.hosts[at].raft().receive(now, sender, Message::Hello(Box::new(hello)));
        self.carry_out(at, actions)
    }

    /// Nobody asks the foreigner for anything, and nobody sends it copies of what it cannot open.
    pub(super) fn turns_to_members(
        &self,
        from: usize,
        to: To,
        besides: &[NodeId],
        message: &Message,
    ) -> Checked {
        let Some(foreigner) = &self.foreigner else { return Ok(()) };
        let id = foreigner.config.id();
        let copied = besides.contains(&id) && !matches!(message, Message::Hello(_));
        Invariant::OnlyMembersAreAsked.check(to != To::Node(id) && !copied, || {
            format!("{} says {} to a node of another cluster", self.name(from), message.name())
        })
    }
}
