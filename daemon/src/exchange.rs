//! A key's way from who holds it to who asks: sealed to the asker alone.
//!
//! Question and answer each bring a half of a key agreement (X25519) that is drawn for them and forgotten with them. So who
//! recorded both, and learns the older secret later, does not have the newer one; who holds the older secret *while* it is
//! valid may ask like any member.

use chorus_proto::message::{GiveKey, SealedKey};
use chorus_proto::types::{Fingerprint, KeyId, RequestId};
use chorus_proto::wire::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

/// In the derivation of what seals a key, so that it is used for nothing else.
const CONTEXT: &str = "Chorus v1 sealed key of agreement, asker, giver, fingerprint";

/// Why a key cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// The system has no randomness.
    #[error("this system gives no random numbers")]
    NoRandomness,
    /// The other half is no point of the curve that anything can be agreed with.
    #[error("the other end's half of the key agreement is none")]
    BadHalf,
    /// The answer is to another question, or was changed.
    #[error("what came is not the key that was asked for")]
    NotTheKey,
}

/// A question that is open. It is answered once.
#[derive(Debug)]
pub struct Question {
    private: EphemeralPrivateKey,
    ask: GiveKey,
}

impl Question {
    /// Asks for the key with this fingerprint, or for the one in force.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(request_id: RequestId, fingerprint: Option<Fingerprint>) -> Result<Self, ExchangeError> {
        let (private, public) = half()?;
        Ok(Self { private, ask: GiveKey { request_id, fingerprint, public } })
    }

    /// As it is sent.
    #[must_use]
    pub fn ask(&self) -> &GiveKey {
        &self.ask
    }

    /// Whether this is an answer to it.
    #[must_use]
    pub fn is_answered_by(&self, answer: &SealedKey) -> bool {
        self.ask.request_id == answer.request_id
            && self.ask.fingerprint.is_none_or(|wanted| wanted == answer.key.fingerprint)
    }

    /// The key of an answer.
    ///
    /// # Errors
    /// When it cannot be opened, or is not the key that it says it is.
    pub fn open(self, answer: &SealedKey) -> Result<Secret, ExchangeError> {
        let Self { private, ask } = self;
        let cipher = agreed(private, &answer.public, (&ask.public, &answer.public), answer.key)?;
        let mut sealed = Zeroizing::new(answer.sealed);
        let key = cipher
            .open_in_place(once(), Aad::empty(), &mut sealed[..])
            .map_err(|_| ExchangeError::NotTheKey)?;
        let bytes: Zeroizing<[u8; 32]> =
            Zeroizing::new((&*key).try_into().map_err(|_| ExchangeError::NotTheKey)?);
        let secret = Secret::from(*bytes);
        (secret.fingerprint() == answer.key.fingerprint).then_some(secret).ok_or(ExchangeError::NotTheKey)
    }
}

/// Answers a question with a key.
///
/// # Errors
/// When the question is none, or the system has no randomness.
pub fn answer(ask: &GiveKey, number: u32, secret: &Secret) -> Result<SealedKey, ExchangeError> {
    let (private, public) = half()?;
    let key = KeyId { number, fingerprint: secret.fingerprint() };
    let cipher = agreed(private, &ask.public, (&ask.public, &public), key)?;
    let mut sealed = [0; 48];
    sealed[..32].copy_from_slice(secret.bytes());
    let tag = cipher
        .seal_in_place_separate_tag(once(), Aad::empty(), &mut sealed[..32])
        .expect("32 bytes are far below the cipher's limit");
    sealed[32..].copy_from_slice(tag.as_ref());
    Ok(SealedKey { request_id: ask.request_id.clone(), key, public, sealed })
}

fn half() -> Result<(EphemeralPrivateKey, [u8; 32]), ExchangeError> {
    let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())
        .map_err(|_| ExchangeError::NoRandomness)?;
    let public = private.compute_public_key().map_err(|_| ExchangeError::NoRandomness)?;
    let public = public.as_ref().try_into().expect("a half of X25519 has 32 bytes");
    Ok((private, public))
}

/// What both ends can seal with, and nobody else.
fn agreed(
    private: EphemeralPrivateKey,
    other: &[u8; 32],
    (asker, giver): (&[u8; 32], &[u8; 32]),
    key: KeyId,
) -> Result<LessSafeKey, ExchangeError> {
    let derive = |shared: &[u8]| {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(shared).update(asker).update(giver).update(&key.fingerprint.0);
        Zeroizing::new(*hasher.finalize().as_bytes())
    };
    let derived = agree_ephemeral(private, &UnparsedPublicKey::new(&X25519, other), derive)
        .map_err(|_| ExchangeError::BadHalf)?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &derived[..]).expect("the cipher's keys have 32 bytes");
    Ok(LessSafeKey::new(key))
}

/// The one nonce: each derived key seals one thing.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(wanted: Option<Fingerprint>) -> Question {
        Question::new(RequestId::try_from("r-1".to_owned()).unwrap(), wanted).unwrap()
    }

    #[test]
    fn who_asks_has_the_key_and_nobody_else() {
        let secret = Secret::from([7; 32]);
        for wanted in [None, Some(secret.fingerprint())] {
            let asked = question(wanted);
            let given = answer(asked.ask(), 2, &secret).unwrap();
            assert!(asked.is_answered_by(&given) && given.key.number == 2);
            assert!(!given.sealed.windows(4).any(|bytes| bytes == [7; 4]), "it travels sealed");
            let other = question(wanted);
            assert!(
                matches!(other.open(&given), Err(ExchangeError::NotTheKey)),
                "another question of the same"
            );
            assert_eq!(asked.open(&given).unwrap().bytes(), secret.bytes());
        }
        assert!(
            !question(Some(Fingerprint([1; 8])))
                .is_answered_by(&answer(question(None).ask(), 2, &secret).unwrap())
        );
    }

    #[test]
    fn what_was_changed_or_is_no_half_brings_nothing() {
        let secret = Secret::from([7; 32]);
        let changes: [fn(&mut SealedKey); 3] = [
            |given| given.sealed[47] ^= 1,
            |given| given.public[0] ^= 1,
            |given| given.key.fingerprint = Fingerprint([0; 8]),
        ];
        for change in changes {
            let asked = question(None);
            let mut given = answer(asked.ask(), 2, &secret).unwrap();
            change(&mut given);
            assert!(asked.open(&given).is_err());
        }
        let nothing = GiveKey { public: [0; 32], ..question(None).ask().clone() };
        assert!(matches!(answer(&nothing, 2, &secret), Err(ExchangeError::BadHalf)));
    }
}
