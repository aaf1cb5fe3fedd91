//! Messages under way. In most lives they travel as they are, and the tags are only imitated; in some they are sealed and
//! opened as real datagrams, so that everything the core says is known to fit, to make sense, and to come out the same.

use std::rc::Rc;

use chorus_proto::message::{Message, Recipient, Sender};
use chorus_proto::raft::To;
use chorus_proto::types::Cluster;
use chorus_proto::wire::{Dropped, Under};

use super::{What, World};

/// A message under way.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    sender: Sender,
    /// The cluster under whose tag it travels; the common tag is heard by all.
    cluster: Option<Cluster>,
    message: Rc<Message>,
    /// The real thing, in lives that have it.
    sealed: Option<Rc<Vec<u8>>>,
}

impl World {
    pub(super) fn send(&mut self, from: usize, to: To, message: Message) -> Result<(), String> {
        // One HELLO in two goes out under the common tag; WELCOME always does.
        let common = match &message {
            Message::Hello(_) => {
                self.lives[from].hellos += 1;
                self.lives[from].hellos.is_multiple_of(2)
            }
            Message::Welcome(_) => true,
            _ => false,
        };
        let host = &self.hosts[from];
        let sender = Sender { id: host.id, boot: host.config.boot, direct: to != To::Group };
        let cluster = host.cluster().filter(|_| !common);
        let sealed = self.seal(from, to, common, &message)?;
        let datagram = Datagram { sender, cluster, message: Rc::new(message), sealed };
        let receiver = match to {
            To::Group => None,
            To::Node(id) => self.ids.get(&id).copied(),
        };
        for to in (0..self.hosts.len()).filter(|to| *to != from) {
            if sender.direct && receiver != Some(to) {
                continue;
            }
            self.transmit(from, to, &datagram);
        }
        Ok(())
    }

    fn transmit(&mut self, from: usize, to: usize, datagram: &Datagram) {
        if self.links.hears(from, to) {
            let [first, second] = self.weather.fate(&mut self.rng);
            // The core bears repetitions; a STORE must not come twice, which is what replay windows are for.
            let windowed = datagram.sealed.is_none() && matches!(*datagram.message, Message::Store(_));
            for delay in first.into_iter().chain(second.filter(|_| !windowed)) {
                self.after(delay, What::Deliver { to, from, datagram: datagram.clone() });
            }
        }
    }

    fn seal(
        &mut self,
        from: usize,
        to: To,
        common: bool,
        message: &Message,
    ) -> Result<Option<Rc<Vec<u8>>>, String> {
        let (cluster, name) = (self.hosts[from].cluster(), |id| {
            self.ids.get(&id).map(|at| self.hosts[*at].config.name.clone())
        });
        let recipient = match to {
            To::Group => Recipient::Everyone,
            To::Node(id) => name(id).map_or(Recipient::Everyone, Recipient::Name),
        };
        let Some(endpoint) = &mut self.lives[from].endpoint else { return Ok(None) };
        endpoint.set_cluster(cluster);
        let under = if common { Under::Common } else { Under::Cluster };
        let sealed = endpoint.seal(under, &recipient, message);
        sealed.map(|bytes| Some(Rc::new(bytes))).map_err(|error| format!("{error}: {message:?}"))
    }

    pub(super) fn deliver(&mut self, to: usize, from: usize, datagram: Datagram) -> Result<(), String> {
        if !self.is_up(to) || self.buffers(to, || What::Deliver { to, from, datagram: datagram.clone() }) {
            return Ok(());
        }
        let heard = match &datagram.sealed {
            Some(sealed) => self.open(to, sealed, &datagram.message)?,
            None => self.hears(to, from, &datagram).then(|| (*datagram.message).clone()),
        };
        heard.map_or(Ok(()), |message| self.receive(to, from, datagram.sender, message))
    }

    /// The tag and the replay window, imitated: an earlier start is heard no more.
    fn hears(&mut self, to: usize, from: usize, datagram: &Datagram) -> bool {
        let heard = match datagram.cluster {
            Some(cluster) => self.hosts[to].cluster() == Some(cluster),
            None => matches!(*datagram.message, Message::Hello(_) | Message::Welcome(_)),
        };
        let boot = &mut self.lives[to].boots[from];
        if !heard || *boot > datagram.sender.boot {
            return false;
        }
        *boot = datagram.sender.boot;
        true
    }

    fn open(&mut self, to: usize, sealed: &[u8], said: &Message) -> Result<Option<Message>, String> {
        let cluster = self.hosts[to].cluster();
        let Some(endpoint) = &mut self.lives[to].endpoint else { return Ok(None) };
        endpoint.set_cluster(cluster);
        match endpoint.open(&mut sealed.to_vec()) {
            // HELLO may have lost some of those it heard, to fit.
            Ok(opened) if opened.message == *said || matches!(said, Message::Hello(_)) => {
                Ok(Some(opened.message))
            }
            Ok(opened) => Err(format!("said {said:?}, heard {:?}", opened.message)),
            Err(Dropped::Tag | Dropped::Replay | Dropped::NotAllowed) => Ok(None),
            Err(dropped) => Err(format!("{dropped}: {said:?}")),
        }
    }
}
