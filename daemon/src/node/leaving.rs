//! Leaving: leadership is handed over first, and who commanded it is told in a way that outlasts lost datagrams.

use std::net::SocketAddr;

use chorus_proto::message::{Message, Role};
use chorus_proto::types::{Now, Span, Time};

use super::Ended;
use super::driver::Driver;

/// A node that has left cannot be asked again: so it says its answer for so long,
const FAREWELL: Span = Span::from_millis(300);
/// once each of these.
const FAREWELL_AGAIN: Span = Span::from_millis(30);

/// A node on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    /// It goes then, successor or not.
    at: Time,
    /// As what it goes.
    ended: Ended,
    farewell: Option<Farewell>,
}

#[derive(Debug)]
struct Farewell {
    to: SocketAddr,
    answer: Message,
    again_at: Time,
    until: Time,
}

impl Leaving {
    /// When something is to be done.
    pub(super) fn deadline(&self) -> Time {
        self.farewell.as_ref().map_or(self.at, |farewell| farewell.again_at.min(farewell.until))
    }
}

impl Driver {
    /// Leaves: at once, or as leader once somebody else leads.
    pub(super) fn leave(&mut self, now: Now, ended: Ended) {
        if self.state.leaving.is_some() {
            return;
        }
        let mut at = now.time;
        if self.leads() {
            at = now.time + self.election_timeout_max;
            let actions = self.core.resign(now, None);
            self.carry_out(now, actions);
        }
        self.state.leaving = Some(Leaving { at, ended, farewell: None });
    }

    /// Whoever commanded this node to leave is told several times: to a repeated question nobody would answer.
    pub(super) fn say_farewell(&mut self, now: Now, to: SocketAddr, answer: Message) {
        if let Some(leaving) = &mut self.state.leaving {
            let (again_at, until) = (now.time + FAREWELL_AGAIN, now.time + FAREWELL);
            leaving.farewell = Some(Farewell { to, answer, again_at, until });
        }
    }

    pub(super) fn repeat_farewell(&mut self, now: Now) {
        let Some(Leaving { farewell: Some(farewell), .. }) = &mut self.state.leaving else { return };
        if farewell.again_at <= now.time {
            farewell.again_at = now.time + FAREWELL_AGAIN;
            self.speech.answer(farewell.to, &farewell.answer);
        }
    }

    /// How the node ends, once it may. A successor that is only elected by this node's vote needs it to stay until
    /// it leads.
    pub(super) fn gone(&mut self, now: Now) -> Option<Ended> {
        let standing = self.core.standing();
        let leaving = self.state.leaving.as_mut()?;
        leaving.farewell.take_if(|farewell| farewell.until <= now.time);
        let succeeded = standing.role != Role::Leader && standing.leader.is_some();
        if leaving.farewell.is_some() || (!succeeded && now.time < leaving.at) {
            return None;
        }
        self.state.leaving.take().map(|leaving| leaving.ended)
    }
}
