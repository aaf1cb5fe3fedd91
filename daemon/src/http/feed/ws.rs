//! The feed over a websocket, and posts that come back over it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep_until, timeout};

use super::super::addresses::Client;
use super::super::api;
use super::super::asker::{self, Asker};
use super::super::limits::{FRAME_BYTES_MAX, FRAMES, POSTS_WAITING_MAX, Rate, SOCKET_READ_BYTES};
use super::super::problem::Problem;
use super::super::request::Key;
use super::super::serve::Held;
use super::super::site::{self, Shared};
use super::follower::{Follower, Next, reset_of_epoch};
use super::frames::{Frame, Word};
use super::{Seat, boards_of};
use crate::boards::{Input, Route};

/// The subprotocol.
const PROTOCOL: &str = "chorus.v1.json";

/// A client says `resume` within this time.
const RESUME_WAIT_MAX: Duration = Duration::from_secs(10);

/// A client that does not take a frame within this time is gone, or too slow.
const SEND_WAIT_MAX: Duration = Duration::from_secs(10);

/// Between two pings. A page that is there answers, whatever it shows.
const PING: Duration = Duration::from_secs(8);

/// A client that says nothing for so long, not even an answer to a ping, does not read either.
const CLIENT_SILENCE_MAX: Duration = Duration::from_secs(20);

/// How long the client's answer to a close is waited for.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Frames are read up to here, so that one over the limit is answered with its close code.
const READ_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// Why a websocket ends: code and reason of its close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Close(u16, Cow<'static, str>);

const STOPPING: Close = close(1001, "this node is stopping; ask another one");
const TOO_BIG: Close = close(1009, "a frame may have 131072 bytes");
const ASK_ANOTHER: Close = close(1013, "this node does not have that yet; ask another one");
const BUSY: Close =
    close(1013, "so much is read from this node that there is nothing for you; ask another one");
const BAD_MESSAGE: Close = close(4400, "one JSON object a text frame: resume or post");
const BAD_TOKEN: Close = close(4401, "this token is none of those that this node knows");
const TOKEN_GONE: Close = close(4401, "this node does not know the token any more by which you came");
const NO_RESUME: Close = close(4408, "no resume within 10 s");
const TOO_OFTEN: Close = close(4429, "too many frames");

/// A close frame's reason may have so many bytes (RFC 6455, 5.5).
const REASON_BYTES_MAX: usize = 123;

const fn close(code: u16, reason: &'static str) -> Close {
    Close(code, Cow::Borrowed(reason))
}

impl Close {
    /// For a message that is well formed, and asks for what is not there.
    fn because(problem: &Problem) -> Self {
        let mut reason = problem.detail().to_owned();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self(4400, reason.into())
    }
}

/// The feed as a websocket, which also takes posts
///
/// `/asyncapi.yaml` describes its frames.
#[utoipa::path(
    get, path = "/ws", tag = "feed",
    params(("Sec-WebSocket-Protocol" = Option<String>, Header, description = "chorus.v1.json")),
    responses((status = 101, description = "The websocket is open")),
)]
pub(in super::super) async fn websocket(
    State(site): State<Shared>,
    Extension(asker): Extension<Asker>,
    Extension(client): Extension<Client>,
    held: Option<Extension<Arc<Held>>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Problem::new("upgrade_required", rejection.body_text()).into_response(),
    };
    let seat = match Seat::take(&site) {
        Ok(seat) => seat,
        Err(problem) => return problem.into_response(),
    };
    let upgrade = upgrade.protocols([PROTOCOL]).read_buffer_size(SOCKET_READ_BYTES);
    upgrade.max_message_size(READ_BYTES_MAX).max_frame_size(READ_BYTES_MAX).on_upgrade(
        move |socket| async move {
            let _while_it_lasts = (seat, held);
            Conversation::new(site, asker, client).hold(socket).await;
        },
    )
}

/// One client, from hello to close.
struct Conversation {
    site: Shared,
    follower: Option<Follower>,
    /// Without a place in the feed it must ask for one until then.
    resume_until: Instant,
    posts: JoinSet<Frame>,
    rate: Rate,
    /// What it may do.
    asker: Asker,
    /// Whose posts they are.
    client: Client,
    /// When anything was heard last, be it the answer to a ping.
    heard: Instant,
}

impl Conversation {
    fn new(site: Shared, asker: Asker, client: Client) -> Self {
        Self {
            asker,
            client,
            heard: Instant::now(),
            site,
            follower: None,
            resume_until: Instant::now() + RESUME_WAIT_MAX,
            posts: JoinSet::new(),
            rate: Rate::new(FRAMES, std::time::Instant::now()),
        }
    }

    async fn hold(mut self, mut socket: WebSocket) {
        let goodbye = self.talk(&mut socket).await;
        let _in_time = timeout(CLOSE_WAIT_MAX, say_goodbye(&mut socket, goodbye)).await;
    }

    /// Talks until one side ends it; none when the client did, or is gone.
    async fn talk(&mut self, socket: &mut WebSocket) -> Option<Close> {
        let mut stopping = self.site.stopping.clone();
        let Ok(oldest) = self.site.read(|stores| stores.oldest_event()).await else {
            return Some(BUSY);
        };
        let hello =
            Frame::hello(&self.site.view(), self.site.handle.name.as_str(), self.site.applied(), oldest);
        send(socket, &hello).await?;
        let mut pings = interval_at(Instant::now() + PING, PING);
        loop {
            let resumed = self.follower.is_some();
            let silent_at = self.heard + CLIENT_SILENCE_MAX;
            let mut ping_due = false;
            let turn = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => ControlFlow::Break(Some(STOPPING)),
                () = self.site.guard.forgets(self.asker.held()) => ControlFlow::Break(Some(TOKEN_GONE)),
                message = socket.recv() => self.hear(message),
                Some(Ok(frame)) = self.posts.join_next() => ControlFlow::Continue(Some(frame)),
                next = next_of(&mut self.follower), if resumed => self.tell(next),
                _ = pings.tick() => {
                    ping_due = true;
                    ControlFlow::Continue(None)
                }
                // Nobody reads: nobody hears a goodbye.
                () = sleep_until(silent_at) => ControlFlow::Break(None),
                () = sleep_until(self.resume_until), if !resumed => ControlFlow::Break(Some(NO_RESUME)),
            };
            match turn {
                ControlFlow::Continue(Some(frame)) => send(socket, &frame).await?,
                ControlFlow::Continue(None) if ping_due => say(socket, Message::Ping(Bytes::new())).await?,
                ControlFlow::Continue(None) => {}
                ControlFlow::Break(close) => return close,
            }
        }
    }

    fn tell(&mut self, next: Next) -> ControlFlow<Option<Close>, Option<Frame>> {
        match next {
            Next::Say(frame) => {
                if matches!(frame, Frame::Reset { .. }) {
                    self.lose_place();
                }
                ControlFlow::Continue(Some(frame))
            }
            Next::Ahead => ControlFlow::Break(Some(ASK_ANOTHER)),
            Next::Busy => ControlFlow::Break(Some(BUSY)),
            Next::End => ControlFlow::Break(Some(STOPPING)),
        }
    }

    fn lose_place(&mut self) {
        self.follower = None;
        self.resume_until = Instant::now() + RESUME_WAIT_MAX;
    }

    fn hear(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
    ) -> ControlFlow<Option<Close>, Option<Frame>> {
        self.heard = Instant::now();
        let text = match message {
            None | Some(Ok(Message::Close(_))) => return ControlFlow::Break(None),
            Some(Err(error)) => return ControlFlow::Break(close_for(&error)),
            Some(Ok(_)) if !self.rate.take(std::time::Instant::now()) => {
                return ControlFlow::Break(Some(TOO_OFTEN));
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return ControlFlow::Continue(None),
            Some(Ok(Message::Binary(bytes))) if bytes.len() > FRAME_BYTES_MAX => {
                return ControlFlow::Break(Some(TOO_BIG));
            }
            Some(Ok(Message::Binary(_))) => return ControlFlow::Break(Some(BAD_MESSAGE)),
            Some(Ok(Message::Text(text))) => text,
        };
        if text.len() > FRAME_BYTES_MAX {
            return ControlFlow::Break(Some(TOO_BIG));
        }
        match serde_json::from_str(&text) {
            Ok(Word::Resume { epoch, after, topics, token }) => {
                let tokens = self.site.guard.tokens();
                // Where nobody asks for tokens, one that a page has from elsewhere says nothing.
                if let Some(token) = token.filter(|_| !tokens.are_none()) {
                    match Asker::by_token(&tokens, &token) {
                        Ok(asker) => self.asker = asker,
                        Err(_) => {
                            // Counted as it is where a request shows one: it must not be guessed at leisure.
                            let _counted = self.site.addresses.post(self.client, std::time::Instant::now());
                            return ControlFlow::Break(Some(BAD_TOKEN));
                        }
                    }
                }
                // Who belongs to no cluster has nothing to put in the place of what a reader of one shows.
                let view = self.site.view();
                if view.epoch == 0 && epoch.as_deref().is_some_and(|asked| asked != site::epoch(&view)) {
                    return ControlFlow::Break(Some(ASK_ANOTHER));
                }
                let topics = topics.map(|asked| boards_of(self.site.boards, &asked)).transpose();
                match topics {
                    Ok(topics) => ControlFlow::Continue(self.resume(epoch.as_deref(), after, topics)),
                    Err(problem) => ControlFlow::Break(Some(Close::because(&problem))),
                }
            }
            Ok(Word::Post { id, topic, body }) => ControlFlow::Continue(self.post(id, &topic, body)),
            Err(_) => ControlFlow::Break(Some(BAD_MESSAGE)),
        }
    }

    fn resume(
        &mut self,
        epoch: Option<&str>,
        after: Option<u64>,
        topics: Option<BTreeSet<&'static str>>,
    ) -> Option<Frame> {
        let reset = reset_of_epoch(&self.site, epoch);
        if reset.is_some() {
            self.lose_place();
        } else {
            self.follower = Some(Follower::after(self.site.clone(), after, topics, self.asker.reads));
        }
        reset
    }

    /// Carries a post out beside the feed; only a refusal at the edge is said at once.
    fn post(&mut self, id: String, topic: &str, body: Value) -> Option<Frame> {
        if self.posts.len() >= POSTS_WAITING_MAX {
            let problem = Problem::new("overloaded", "too many posts of this page wait for their outcome")
                .retry_after(Duration::from_millis(200));
            return Some(Frame::nack(id, &problem));
        }
        let allowed = match self.asker.writes {
            true => self.site.addresses.post(self.client, std::time::Instant::now()),
            false => Err(asker::lacking("writing")),
        };
        if let Err(problem) = allowed {
            return Some(Frame::nack(id, &problem));
        }
        let site = self.site.clone();
        let topic = topic.to_owned();
        self.posts.spawn(async move {
            match carry_out(&site, &id, &topic, body).await {
                Ok(seq) => Frame::Ack { id, seq },
                Err(problem) => Frame::nack(id, &problem),
            }
        });
        None
    }
}

async fn carry_out(site: &Shared, id: &str, topic: &str, body: Value) -> Result<u64, Problem> {
    let key = Key::named("id", id)?;
    let posting = site.boards.named(topic).and_then(|board| {
        let operation = board.operations().iter().find(|operation| operation.route == Route::Post)?;
        Some((board, operation))
    });
    let (board, operation) = posting
        .ok_or_else(|| Problem::new("not_found", format!("there is no board '{topic}' that takes posts")))?;
    let written = api::write(site, board, operation, key, Input { body, ..Input::default() }).await?;
    written.done().map(|(_, index)| index)
}

async fn next_of(follower: &mut Option<Follower>) -> Next {
    match follower {
        Some(follower) => follower.next().await,
        None => std::future::pending().await,
    }
}

/// Sends a frame; none when the client does not take it.
async fn send(socket: &mut WebSocket, frame: &Frame) -> Option<()> {
    say(socket, Message::Text(frame.text().into())).await
}

async fn say(socket: &mut WebSocket, message: Message) -> Option<()> {
    timeout(SEND_WAIT_MAX, socket.send(message)).await.ok()?.ok()
}

/// A broken connection hears nothing; one that said too much at once, or no text, hears why.
fn close_for(error: &axum::Error) -> Option<Close> {
    use tokio_tungstenite::tungstenite::Error;
    let source = std::error::Error::source(error)?;
    match source.downcast_ref::<Error>()? {
        Error::Capacity(_) => Some(TOO_BIG),
        Error::Utf8(_) => Some(BAD_MESSAGE),
        _ => None,
    }
}

/// Closes, and reads until the client has closed too: an early end of the connection would lose the close frame. Where the client
/// closed first, the library's answer (RFC 6455, 5.5.1) goes out while somebody reads on.
async fn say_goodbye(socket: &mut WebSocket, close: Option<Close>) {
    if let Some(Close(code, reason)) = close {
        let frame = CloseFrame { code, reason: Utf8Bytes::from(reason.into_owned()) };
        if socket.send(Message::Close(Some(frame))).await.is_err() {
            return;
        }
    }
    while let Some(Ok(_)) = socket.recv().await {}
}
