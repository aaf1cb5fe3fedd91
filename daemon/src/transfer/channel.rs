//! A connection on which both ends have proved that they hold the cluster's secret, and every frame is sealed.
//!
//! Noise, `NNpsk0`: ephemeral keys agree on a session, the pre-shared key says between whom. What was recorded cannot be
//! opened later, when the secret is known; what is replayed ends at the second frame. A frame is its length (2 bytes,
//! big-endian), then a Noise message; frames are numbered, so that none can be left out, repeated or moved.

use std::io;
use std::time::Duration;

use snow::{Builder, HandshakeState, TransportState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Key;

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"Chorus transfer v1";
/// A key and a tag: each of the two messages of the handshake.
const HANDSHAKE_BYTES: usize = 32 + TAG_BYTES;
const TAG_BYTES: usize = 16;
/// The longest message of Noise.
const FRAME_BYTES_MAX: usize = 65_535;
/// What a frame carries at most.
pub(super) const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - TAG_BYTES;

/// Why a connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// It broke, or the other end closed it.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// A message that nobody with the secret wrote, or not in this place.
    #[error("the other end is no member of this cluster and epoch, or the bytes were changed on their way")]
    NotAuthentic(#[from] snow::Error),
    /// Longer than what may come here.
    #[error("a frame of {bytes} bytes, where {most} may come")]
    TooLong {
        /// What it says of itself.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// Nothing moved for so long.
    #[error("nothing moved on the connection for {0:?}")]
    TimedOut(Duration),
}

/// One end of it.
#[derive(Debug)]
pub(super) struct Channel {
    stream: TcpStream,
    noise: TransportState,
    /// The frame at hand; allocated when the handshake is over.
    sealed: Vec<u8>,
    /// Each frame must be through within this time.
    wait_max: Duration,
}

impl Channel {
    /// The end that connected.
    pub(super) async fn initiate(
        mut stream: TcpStream,
        key: &Key,
        wait_max: Duration,
    ) -> Result<Self, ChannelError> {
        let mut noise = builder(key)?.build_initiator()?;
        within(wait_max, async {
            say(&mut stream, &mut noise).await?;
            hear(&mut stream, &mut noise).await
        })
        .await?;
        Self::over(stream, noise, wait_max)
    }

    /// The end that was connected to. It says nothing before it has heard a member, which holds one of the keys.
    pub(super) async fn respond(
        mut stream: TcpStream,
        keys: &[Key],
        wait_max: Duration,
    ) -> Result<Self, ChannelError> {
        let noise = within(wait_max, async {
            let mut message = [0; HANDSHAKE_BYTES];
            stream.read_exact(&mut message).await?;
            let mut noise = heard_under(keys, &message)?;
            say(&mut stream, &mut noise).await?;
            Ok(noise)
        })
        .await?;
        Self::over(stream, noise, wait_max)
    }

    fn over(stream: TcpStream, noise: HandshakeState, wait_max: Duration) -> Result<Self, ChannelError> {
        // Questions and answers must not wait for more to send; a failure costs only time.
        let _slower = stream.set_nodelay(true);
        Ok(Self { stream, noise: noise.into_transport_mode()?, sealed: Vec::new(), wait_max })
    }

    /// Sends one frame. A payload has at most `PAYLOAD_BYTES_MAX` bytes.
    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<(), ChannelError> {
        self.sealed.resize(2 + payload.len() + TAG_BYTES, 0);
        let length = self.noise.write_message(payload, &mut self.sealed[2..])?;
        let length = u16::try_from(length).map_err(|_| snow::Error::Input)?;
        self.sealed[..2].copy_from_slice(&length.to_be_bytes());
        within(self.wait_max, async { Ok(self.stream.write_all(&self.sealed).await?) }).await
    }

    /// Receives one frame of at most `most` bytes and appends what it carries.
    pub(super) async fn receive(&mut self, most: usize, payload: &mut Vec<u8>) -> Result<(), ChannelError> {
        let Self { stream, sealed, .. } = self;
        within(self.wait_max, async {
            let mut length = [0; 2];
            stream.read_exact(&mut length).await?;
            let length = usize::from(u16::from_be_bytes(length));
            if length > most + TAG_BYTES {
                return Err(ChannelError::TooLong { bytes: length, most });
            }
            sealed.resize(length, 0);
            stream.read_exact(sealed).await?;
            Ok(())
        })
        .await?;
        let begin = payload.len();
        payload.resize(begin + self.sealed.len(), 0);
        let opened = self.noise.read_message(&self.sealed, &mut payload[begin..]);
        payload.truncate(begin + opened.as_ref().map_or(0, |length| *length));
        Ok(opened.map(drop)?)
    }
}

fn builder(key: &Key) -> Result<Builder<'_>, snow::Error> {
    Builder::new(PATTERN.parse()?).prologue(PROLOGUE)?.psk(0, key)
}

/// Both messages of the handshake have one length: nothing is allocated for what a stranger says of himself.
async fn say(stream: &mut TcpStream, noise: &mut HandshakeState) -> Result<(), ChannelError> {
    let mut message = [0; HANDSHAKE_BYTES];
    noise.write_message(&[], &mut message)?;
    Ok(stream.write_all(&message).await?)
}

/// The handshake under the key that its first message was made with.
fn heard_under(keys: &[Key], message: &[u8]) -> Result<HandshakeState, ChannelError> {
    let mut refused = snow::Error::Input;
    for key in keys {
        let mut noise = builder(key)?.build_responder()?;
        match noise.read_message(message, &mut [0; HANDSHAKE_BYTES]) {
            Ok(0) => return Ok(noise),
            Ok(_) => {}
            Err(error) => refused = error,
        }
    }
    Err(refused.into())
}

async fn hear(stream: &mut TcpStream, noise: &mut HandshakeState) -> Result<(), ChannelError> {
    let mut message = [0; HANDSHAKE_BYTES];
    stream.read_exact(&mut message).await?;
    let carried = noise.read_message(&message, &mut [0; HANDSHAKE_BYTES])?;
    if carried == 0 { Ok(()) } else { Err(snow::Error::Input.into()) }
}

async fn within<T>(
    wait_max: Duration,
    act: impl Future<Output = Result<T, ChannelError>>,
) -> Result<T, ChannelError> {
    timeout(wait_max, act).await.unwrap_or(Err(ChannelError::TimedOut(wait_max)))
}
