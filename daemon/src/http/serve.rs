//! The server: connections within limits, and a stop that lets what is under way end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;

use super::addresses::{Connected, Peer};
use super::gate::Local;
use super::limits::{
    CONNECTIONS_MAX, FEED_CLIENTS_MAX, HANDSHAKE_WAIT_MAX, HEAD_BYTES_MAX, HEAD_WAIT_MAX, SOCKET_BYTES,
    STOP_WAIT_MAX, TAKE_WAIT_MAX,
};
use super::site::{Shared, Site, WebState};
use super::{elections, router};

/// Serves pages, API and feed until `stop`; then ends the feeds with 1001, lets requests that are under way end
/// for at most two seconds, and returns.
pub async fn serve(listener: TcpListener, state: WebState, stop: impl Future<Output = ()>) {
    let listen = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
    bound_buffers(&listener);
    let (stopper, stopping) = watch::channel(false);
    let site = Site::new(state, listen, stopping.clone());
    let app = router::router(Arc::clone(&site));
    tokio::spawn(elections::follow(Arc::clone(&site)));
    let mut connections = JoinSet::new();
    tokio::select! {
        () = accept(&listener, &mut connections, &app, &site, &stopping) => {}
        () = stop => {}
    }
    // No further connection; the feeds hear of the stop through `stopping` too.
    drop(listener);
    stopper.send_replace(true);
    let all_ended = async {
        while connections.join_next().await.is_some() {}
        // A websocket outlives the connection that it began as: all followers are gone when every permit is back.
        let every_permit = u32::try_from(FEED_CLIENTS_MAX).unwrap_or(u32::MAX);
        let _all = site.feed_clients.acquire_many(every_permit).await;
    };
    let _in_time = tokio::time::timeout(STOP_WAIT_MAX, all_ended).await;
}

/// What a connection may hold in the kernel, which all that are accepted inherit.
fn bound_buffers(listener: &TcpListener) {
    let socket = socket2::SockRef::from(listener);
    let bounded =
        socket.set_send_buffer_size(SOCKET_BYTES).and_then(|()| socket.set_recv_buffer_size(SOCKET_BYTES));
    if let Err(error) = bounded {
        tracing::warn!(%error, "what a connection holds in the kernel stays as the system has it");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    app: &Router,
    site: &Shared,
    stopping: &watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, address)) => {
                let peer = Peer(address.ip());
                let Some(connected) = site.addresses.connect(peer) else {
                    tracing::debug!(%address, "a connection too many from this address was closed");
                    continue;
                };
                let held = Held { _slot: slot, connected: Mutex::new(Some(connected)) };
                connections.spawn(converse(
                    stream,
                    (peer, Arc::new(held)),
                    app.clone(),
                    Arc::clone(site),
                    stopping.clone(),
                ));
            }
            Err(error) => {
                // The caller's fault, or too many open files: the others go on, and a pause keeps this from spinning.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// What a connection takes while it is there; a websocket holds it on when the connection that it began as is over.
#[derive(Debug)]
pub(super) struct Held {
    _slot: OwnedSemaphorePermit,
    connected: Mutex<Option<Connected>>,
}

impl Held {
    /// It is a gateway's, and counts as nobody's: many come through it.
    pub(super) fn is_of_gateway(&self) {
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn converse(
    stream: TcpStream,
    (peer, held): (Peer, Arc<Held>),
    app: Router,
    site: Shared,
    stopping: watch::Receiver<bool>,
) {
    // An answer is one small write: waiting for a fuller segment would only add its delay.
    let _best_effort = stream.set_nodelay(true);
    let said = Said { local: stream.local_addr().ok().map(Local), peer, held };
    let stream = bounded(stream);
    site.metrics.connections.inc();
    match site.guard.tls() {
        None => answer(stream, said, app, stopping).await,
        Some(tls) => {
            let agreed =
                tokio::time::timeout(HANDSHAKE_WAIT_MAX, TlsAcceptor::from(tls).accept(stream)).await;
            match agreed {
                Ok(Ok(stream)) => answer(stream, said, app, stopping).await,
                Ok(Err(error)) => tracing::debug!(%error, "a connection did not agree on TLS"),
                Err(_late) => tracing::debug!("a connection did not agree on TLS in time"),
            }
        }
    }
    site.metrics.connections.dec();
}

/// Breaks when its client takes nothing of what is written for too long: below TLS, where each bit that it takes is seen.
fn bounded(stream: TcpStream) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(TAKE_WAIT_MAX));
    Box::pin(stream)
}

/// What the server says of a connection with each of its requests.
struct Said {
    local: Option<Local>,
    peer: Peer,
    held: Arc<Held>,
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    said: Said,
    app: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let extensions = request.extensions_mut();
        if let Some(local) = said.local {
            extensions.insert(local);
        }
        extensions.insert(said.peer);
        extensions.insert(Arc::clone(&said.held));
        app.call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => log_end(ended),
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            log_end(connection.await);
        }
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _asked = stopping.wait_for(|stopping| *stopping).await;
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
