//! The server: connections within limits, and a stop that lets what is under way end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::gate::Local;
use super::limits::{CONNECTIONS_MAX, FEED_CLIENTS_MAX, HEAD_WAIT_MAX, STOP_WAIT_MAX};
use super::site::{Site, WebState};
use super::{elections, router};
use crate::metrics::Metrics;

/// Serves pages, API and feed until `stop`; then ends the feeds with 1001, lets requests that are under way end
/// for at most two seconds, and returns.
pub async fn serve(listener: TcpListener, state: WebState, stop: impl Future<Output = ()>) {
    let listen = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 0)));
    let metrics = Arc::clone(&state.metrics);
    let (stopper, stopping) = watch::channel(false);
    let site = Site::new(state, listen, stopping.clone());
    let app = router::router(Arc::clone(&site));
    tokio::spawn(elections::follow(Arc::clone(&site)));
    let mut connections = JoinSet::new();
    tokio::select! {
        () = accept(&listener, &mut connections, &app, &metrics, &stopping) => {}
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

async fn accept(
    listener: &TcpListener,
    connections: &mut JoinSet<()>,
    app: &Router,
    metrics: &Arc<Metrics>,
    stopping: &watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, slot, app.clone(), Arc::clone(metrics), stopping.clone()));
            }
            Err(error) => {
                // The caller's fault, or too many open files: the others go on, and a pause keeps this from spinning.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
    app: Router,
    metrics: Arc<Metrics>,
    mut stopping: watch::Receiver<bool>,
) {
    // An answer is one small write: waiting for a fuller segment would only add its delay.
    let _best_effort = stream.set_nodelay(true);
    let local = stream.local_addr().ok().map(Local);
    let app = TowerToHyperService::new(app);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(local) = local {
            request.extensions_mut().insert(local);
        }
        app.call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    metrics.connections.inc();
    tokio::select! {
        ended = &mut connection => log_end(ended),
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            log_end(connection.await);
        }
    }
    metrics.connections.dec();
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _asked = stopping.wait_for(|stopping| *stopping).await;
}

fn log_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
