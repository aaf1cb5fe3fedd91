//! Signed commands: what the control key says to one start of one node.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::message::{Control, Message};
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
    /// SHUTDOWN: leave.
    Shutdown,
}

impl Verb {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Follow => "FOLLOW",
            Self::TryLead => "TRYLEAD",
            Self::Shutdown => "SHUTDOWN",
        }
    }

    /// The message that says it.
    #[must_use]
    pub fn message(self, control: Control) -> Message {
        match self {
            Self::Follow => Message::Follow(control),
            Self::TryLead => Message::TryLead(control),
            Self::Shutdown => Message::Shutdown(control),
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
        let signature = self.0.sign(&signed_bytes(verb, target, target_boot, &request_id));
        Control { request_id, target, target_boot, signature: signature.as_ref().to_vec() }
    }
}

/// Whether the holder of the control key said this. Whom it is for, and whether it was obeyed before, is another
/// question.
#[must_use]
pub fn verify(public: &[u8; 32], verb: Verb, control: &Control) -> bool {
    let signed = signed_bytes(verb, control.target, control.target_boot, &control.request_id);
    UnparsedPublicKey::new(&ED25519, public).verify(&signed, &control.signature).is_ok()
}

/// Context, verb, target, its boot, request id; texts behind one byte of length. A verb with arguments appends them.
fn signed_bytes(verb: Verb, target: NodeId, target_boot: Boot, request_id: &RequestId) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [
        CONTEXT,
        &text(verb.name()),
        &target.0.to_be_bytes(),
        &target_boot.0.to_be_bytes(),
        &text(request_id.as_str()),
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
}
