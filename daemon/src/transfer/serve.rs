//! Giving files away.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tracing::{debug, info};

use super::Limits;
use super::channel::{Channel, ChannelError, PAYLOAD_BYTES_MAX};
use super::pace::Pace;
use super::shelf::{Offered, Shelf};
use super::words::{Answer, Ask, No, WORDS_BYTES_MAX, decode, encode};

/// What is read from the file at once.
const PIECE_BYTES: usize = 1 << 20;
/// After the system refused a connection: it has no descriptor left, and will not have one at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What all connections share.
struct Server {
    shelf: Arc<Shelf>,
    limits: Limits,
    pace: Pace,
    /// Files that may still be sent at once.
    sending: Semaphore,
}

/// Takes connections for ever.
pub(super) async fn serve(listener: TcpListener, shelf: Arc<Shelf>, limits: Limits) {
    let strangers = Arc::new(Semaphore::new(limits.strangers));
    let (pace, sending) = (Pace::new(limits.bytes_per_s), Semaphore::new(limits.connections));
    let server = Arc::new(Server { shelf, limits, pace, sending });
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(unproved) = Arc::clone(&strangers).try_acquire_owned() else { continue };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let asked = server.hear(stream).await;
            drop(unproved);
            let sent = match asked {
                Ok((channel, ask)) => server.answer(channel, ask).await,
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                debug!(%from, "a connection for a snapshot ended: {error}");
            }
        });
    }
}

impl Server {
    /// Until the connection has shown that a member is at the other end, and what it wants.
    async fn hear(&self, stream: TcpStream) -> Result<(Channel, Option<Ask>), ChannelError> {
        let keys = self.shelf.keys();
        if keys.is_empty() {
            return Err(std::io::Error::other("this node belongs to no cluster yet").into());
        }
        let mut channel = Channel::respond(stream, &keys, self.limits.wait_max).await?;
        let mut words = Vec::new();
        channel.receive(WORDS_BYTES_MAX, &mut words).await?;
        Ok((channel, decode(&words)))
    }

    async fn answer(&self, mut channel: Channel, ask: Option<Ask>) -> Result<(), ChannelError> {
        let offered = ask.and_then(|ask| Some((self.shelf.find(&ask.digest)?, ask.offset)));
        let Some((offered, offset)) = offered.filter(|(offered, offset)| *offset <= offered.size) else {
            return channel.send(&encode(&Answer::No(No::Gone))).await;
        };
        let Ok(_sending) = self.sending.try_acquire() else {
            return channel.send(&encode(&Answer::No(No::Busy))).await;
        };
        channel.send(&encode(&Answer::Here { size: offered.size })).await?;
        info!(offset, bytes = offered.size, "sends a snapshot");
        self.send(&mut channel, &offered, offset).await?;
        info!(bytes = offered.size, "has sent a snapshot");
        Ok(())
    }

    async fn send(
        &self,
        channel: &mut Channel,
        offered: &Arc<Offered>,
        offset: u64,
    ) -> Result<(), ChannelError> {
        let mut at = offset;
        while at < offered.size {
            let piece = read(Arc::clone(offered), at).await?;
            for payload in piece.chunks(PAYLOAD_BYTES_MAX) {
                self.pace.wait(payload.len()).await;
                channel.send(payload).await?;
            }
            at += piece.len() as u64;
        }
        Ok(())
    }
}

/// The next piece of the file, read where nobody waits for the disk.
async fn read(offered: Arc<Offered>, at: u64) -> Result<Vec<u8>, ChannelError> {
    let read = move || {
        let left = usize::try_from(offered.size - at).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(PIECE_BYTES)];
        offered.file.read_exact_at(&mut piece, at).map(|()| piece)
    };
    let read = spawn_blocking(read).await.map_err(std::io::Error::other)?;
    Ok(read?)
}
