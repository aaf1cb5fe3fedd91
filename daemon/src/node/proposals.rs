//! What this node, while it leads, was asked to propose: by its own requests, by nodes' STOREs, by controllers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use chorus_proto::types::{Index, RequestId};

use super::reader::Asker;
use crate::store::BodyDigest;

/// Commands that gather for the next `propose`, at most.
const QUEUED_MAX: usize = 4_096;
/// Commands that are in the log and not applied here, at most, as far as they are remembered: one that was forgotten
/// may be proposed twice, and is applied once.
pub(super) const IN_FLIGHT_MAX: usize = 16_384;
/// Requests whose outcome controllers wait for, and controllers that wait for one of them.
pub(super) const CONTROLLERS_MAX: usize = 1_024;
const CONTROLLERS_OF_ONE_MAX: usize = 8;
/// Stands for the place of a command that is queued and has none yet.
const QUEUED: Index = Index(u64::MAX);

/// A command on its way into the log.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) id: RequestId,
    pub(super) command: Bytes,
    pub(super) asker: Asker,
}

/// The leader's table of ids.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    queued: Vec<Proposal>,
    in_flight: BTreeMap<RequestId, Index>,
    /// Who wants DONE when the request is applied: a node hears it come round by itself, a controller does not.
    controllers: BTreeMap<RequestId, Vec<(SocketAddr, BodyDigest)>>,
}

impl Proposals {
    /// Whether there is room for one more before the next `propose`.
    pub(super) fn has_room(&self) -> bool {
        self.queued.len() < QUEUED_MAX
    }

    /// Queues a command, unless its id is on its way already.
    pub(super) fn queue(&mut self, proposal: Proposal) {
        if self.in_flight.contains_key(&proposal.id) {
            return;
        }
        if self.in_flight.len() < IN_FLIGHT_MAX {
            self.in_flight.insert(proposal.id.clone(), QUEUED);
        }
        self.queued.push(proposal);
    }

    /// All that waits, for one `propose`.
    pub(super) fn take(&mut self) -> Vec<Proposal> {
        std::mem::take(&mut self.queued)
    }

    /// The command stands in the log.
    pub(super) fn proposed(&mut self, id: &RequestId, index: Index) {
        if let Some(known) = self.in_flight.get_mut(id) {
            *known = index;
        }
    }

    /// The core did not take the command: it never will by this sending.
    pub(super) fn refused(&mut self, id: &RequestId) {
        self.in_flight.remove(id);
        self.controllers.remove(id);
    }

    /// How many are in the log and not applied, as far as they are remembered.
    pub(super) fn in_flight_len(&self) -> usize {
        self.in_flight.len()
    }

    /// Requests whose outcome controllers wait for.
    pub(super) fn controllers_len(&self) -> usize {
        self.controllers.len()
    }

    /// Whether the id is in the log and not applied.
    pub(super) fn is_in_flight(&self, id: &RequestId) -> bool {
        self.in_flight.contains_key(id)
    }

    /// A controller wants to hear what becomes of a request with this body.
    pub(super) fn expect(&mut self, id: RequestId, controller: SocketAddr, body: BodyDigest) {
        if self.controllers.len() >= CONTROLLERS_MAX {
            // Some wait for what was cut and will not come. Ids that begin with their time go oldest first.
            self.controllers.pop_first();
        }
        let waiting = self.controllers.entry(id).or_default();
        if !waiting.contains(&(controller, body)) && waiting.len() < CONTROLLERS_OF_ONE_MAX {
            waiting.push((controller, body));
        }
    }

    /// The request was applied with this body; the controllers that wait for it. Who waits for another body under its id
    /// asks again, and is told then that the id is taken.
    pub(super) fn applied(&mut self, id: &RequestId, body: Option<BodyDigest>) -> Vec<SocketAddr> {
        self.in_flight.remove(id);
        let waiting = self.controllers.remove(id).unwrap_or_default();
        waiting.into_iter().filter(|(_, wanted)| Some(*wanted) == body).map(|(address, _)| address).collect()
    }

    /// The log was cut: what stood there may be proposed again.
    pub(super) fn on_cut(&mut self, from: Index) {
        self.in_flight.retain(|_, index| *index < from);
    }

    /// This node began or ceased to lead. Ids of an earlier time may be in the log or not: the state machine tells
    /// them apart.
    pub(super) fn on_role(&mut self) {
        self.in_flight.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(id: &str, asker: Asker) -> Proposal {
        Proposal { id: RequestId::try_from(id.to_owned()).unwrap(), command: Bytes::new(), asker }
    }

    #[test]
    fn an_id_on_its_way_is_not_proposed_twice_until_it_is_cut_or_applied() {
        let mut proposals = Proposals::default();
        let id = RequestId::try_from("a".to_owned()).unwrap();
        proposals.queue(proposal("a", Asker::Here));
        proposals.queue(proposal("a", Asker::Here));
        assert_eq!(proposals.take().len(), 1);
        proposals.proposed(&id, Index(5));
        proposals.queue(proposal("a", Asker::Here));
        assert_eq!(proposals.take().len(), 0);
        proposals.on_cut(Index(6));
        assert!(proposals.is_in_flight(&id));
        proposals.on_cut(Index(5));
        proposals.queue(proposal("a", Asker::Here));
        assert_eq!(proposals.take().len(), 1);
        proposals.applied(&id, None);
        assert!(!proposals.is_in_flight(&id));
    }

    #[test]
    fn every_controller_that_asked_for_what_was_applied_is_told_once() {
        let mut proposals = Proposals::default();
        let id = RequestId::try_from("a".to_owned()).unwrap();
        let at = |port: u16| SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        let (body, other) = ([1; 16], [2; 16]);
        for (port, body) in [(1, body), (2, body), (1, body), (3, other)] {
            proposals.expect(id.clone(), at(port), body);
        }
        assert_eq!(proposals.applied(&id, Some(body)), [at(1), at(2)]);
        assert_eq!(proposals.applied(&id, Some(body)), []);
    }
}
