//! Signed commands: what the control key says to one start of one node.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::message::{Control, MemberChange, Message};
use crate::types::{Boot, NodeId, RequestId};

/// First in every signed string, so that a signature of this key for anything else is none for a command.
const CONTEXT: &[u8] = b"Chorus v1 control\0";

/// What can be commanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// FOLLOW: step down.
    Follow,
    /// TRYLEAD: lead.
    TryLead,
    /// PLAYDEAD: fall silent, if the node allows it.
    PlayDead,
    /// REVIVE: come back.
    Revive,
    /// SHUTDOWN: leave.
    Shutdown,
    /// MEMBERS: let others vote.
    Members,
    /// ROTATE: make another key.
    Rotate,
    /// RETIRE: refuse a key from now on.
    Retire,
}

impl Verb {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Follow => "FOLLOW",
            Self::TryLead => "TRYLEAD",
            Self::PlayDead => "PLAYDEAD",
            Self::Revive => "REVIVE",
            Self::Shutdown => "SHUTDOWN",
            Self::Members => "MEMBERS",
            Self::Rotate => "ROTATE",
            Self::Retire => "RETIRE",
        }
    }

    /// The message that says it.
    #[must_use]
    pub fn message(self, control: Control) -> Message {
        match self {
            Self::Follow => Message::Follow(control),
            Self::TryLead => Message::TryLead(control),
            Self::PlayDead => Message::PlayDead(control),
            Self::Revive => Message::Revive(control),
            Self::Shutdown => Message::Shutdown(control),
            Self::Members => Message::Members(control),
            Self::Rotate => Message::Rotate(control),
            Self::Retire => Message::Retire(control),
        }
    }
}

/// The control key: whoever holds it may command nodes.
pub struct ControlKey(Ed25519KeyPair);

impl std::fmt::Debug for ControlKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ControlKey(..)")
    }
}

impl ControlKey {
    /// The key of these 32 bytes (RFC 8032's private key).
    #[must_use]
    pub fn new(seed: &[u8; 32]) -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are a private key"))
    }

    /// The public half, which nodes check against.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().expect("Ed25519's public keys have 32 bytes")
    }

    /// Signs a command to one start of one node.
    #[must_use]
    pub fn sign(&self, verb: Verb, target: NodeId, target_boot: Boot, request_id: RequestId) -> Control {
        self.signed(verb, unsigned(target, target_boot, request_id))
    }

    /// Signs ROTATE or RETIRE of the key of this number to one start of the leader.
    #[must_use]
    pub fn sign_key(
        &self,
        verb: Verb,
        target: NodeId,
        target_boot: Boot,
        request_id: RequestId,
        number: u32,
    ) -> Control {
        self.signed(verb, Control { key: Some(number), ..unsigned(target, target_boot, request_id) })
    }

    /// Signs MEMBERS to one start of the leader.
    #[must_use]
    pub fn sign_change(
        &self,
        target: NodeId,
        target_boot: Boot,
        request_id: RequestId,
        change: MemberChange,
    ) -> Control {
        let change = Some(change);
        self.signed(Verb::Members, Control { change, ..unsigned(target, target_boot, request_id) })
    }

    fn signed(&self, verb: Verb, control: Control) -> Control {
        let signature = self.0.sign(&signed_bytes(verb, &control)).as_ref().to_vec();
        Control { signature, ..control }
    }
}

fn unsigned(target: NodeId, target_boot: Boot, request_id: RequestId) -> Control {
    Control { request_id, target, target_boot, signature: Vec::new(), change: None, key: None }
}

/// Whether the holder of the control key said this. Whom it is for, and whether it was obeyed before, is another
/// question.
#[must_use]
pub fn verify(public: &[u8; 32], verb: Verb, control: &Control) -> bool {
    let signed = signed_bytes(verb, control);
    UnparsedPublicKey::new(&ED25519, public).verify(&signed, &control.signature).is_ok()
}

/// Context, verb, target, its boot, request id, and what the verb changes, or the number of the key that it means; texts behind one byte of length.
fn signed_bytes(verb: Verb, control: &Control) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let change = control.change.as_ref().map(|MemberChange { add, name, node }| {
        let node = node.map_or_else(|| vec![0], |node| [&[1][..], &node.0.to_be_bytes()].concat());
        [&[u8::from(*add)], &text(name.as_str())[..], &node].concat()
    });
    [
        CONTEXT,
        &text(verb.name()),
        &control.target.0.to_be_bytes(),
        &control.target_boot.0.to_be_bytes(),
        &text(control.request_id.as_str()),
        &change.unwrap_or_default(),
        &control.key.map(|number| number.to_be_bytes().to_vec()).unwrap_or_default(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_verb_target_boot_and_request() {
        let key = ControlKey::new(&[3; 32]);
        let public = key.public();
        let id = |text: &str| RequestId::try_from(text.to_owned()).expect("a good id");
        let signed = key.sign(Verb::TryLead, NodeId(7), Boot(9), id("r-1"));
        assert!(verify(&public, Verb::TryLead, &signed));
        assert!(!verify(&public, Verb::Shutdown, &signed), "another verb");
        assert!(!verify(&public, Verb::TryLead, &Control { target: NodeId(8), ..signed.clone() }));
        assert!(!verify(&public, Verb::TryLead, &Control { target_boot: Boot(8), ..signed.clone() }));
        assert!(!verify(&public, Verb::TryLead, &Control { request_id: id("r-2"), ..signed.clone() }));
        assert!(!verify(&public, Verb::TryLead, &Control { signature: vec![0; 64], ..signed.clone() }));
        assert!(!verify(&public, Verb::TryLead, &Control { signature: Vec::new(), ..signed.clone() }));
        assert!(!verify(&ControlKey::new(&[4; 32]).public(), Verb::TryLead, &signed), "another key");
    }

    #[test]
    fn a_signature_covers_the_number_of_a_key() {
        let key = ControlKey::new(&[3; 32]);
        let id = RequestId::try_from("r-1".to_owned()).expect("a good id");
        let signed = key.sign_key(Verb::Rotate, NodeId(7), Boot(9), id, 2);
        let holds = |verb, number| verify(&key.public(), verb, &Control { key: number, ..signed.clone() });
        assert!(holds(Verb::Rotate, Some(2)));
        assert!(!holds(Verb::Rotate, Some(3)) && !holds(Verb::Rotate, None) && !holds(Verb::Retire, Some(2)));
    }

    #[test]
    fn a_signature_covers_every_part_of_a_change() {
        let key = ControlKey::new(&[3; 32]);
        let name = |name: &str| name.parse().expect("a good name");
        let id = RequestId::try_from("r-1".to_owned()).expect("a good id");
        let change = MemberChange { add: true, name: name("n6"), node: Some(NodeId(5)) };
        let signed = key.sign_change(NodeId(7), Boot(9), id, change.clone());
        let holds = |change: Option<MemberChange>| {
            verify(&key.public(), Verb::Members, &Control { change, ..signed.clone() })
        };
        assert!(holds(Some(change.clone())));
        assert!(!holds(Some(MemberChange { add: false, ..change.clone() })));
        assert!(!holds(Some(MemberChange { name: name("n7"), ..change.clone() })));
        assert!(!holds(Some(MemberChange { node: Some(NodeId(6)), ..change.clone() })));
        assert!(!holds(Some(MemberChange { node: None, ..change })));
        assert!(!holds(None));
    }
}
