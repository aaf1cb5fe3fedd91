//! Who may ask: hosts and origins that are ours. Keeps foreign pages from writing here, also those that make
//! their own name point to this machine (DNS rebinding).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use super::site::Shared;
use crate::node::ClusterView;

/// The address of this machine that a connection came in on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local(pub(super) SocketAddr);

/// What machines ask by whatever name they have: they change nothing and tell nothing of the boards.
const OPEN_PATHS: [&str; 4] = ["/livez", "/readyz", "/metrics", "/version"];

/// A host and its port, without the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    host: String,
    port: Option<u16>,
}

impl Place {
    fn new(authority: &Authority, usual_ports: &[u16]) -> Self {
        let host = authority.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let port = authority.port_u16().filter(|port| !usual_ports.contains(port));
        Self { host, port }
    }

    /// From a `Host` header.
    fn of_host(text: &str) -> Option<Self> {
        let authority = text.parse::<Authority>().ok()?;
        (!text.contains('@')).then(|| Self::new(&authority, &[80, 443]))
    }

    /// From a URL or an `Origin` header; `null` is no place.
    pub(super) fn of_url(text: &str) -> Option<Self> {
        let uri = text.parse::<Uri>().ok()?;
        let usual_port = match uri.scheme_str()? {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some(Self::new(uri.authority()?, &[usual_port]))
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// A name of this very machine, which nobody else can have.
    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// The same place, `localhost` and the loopback addresses being one.
    fn is(&self, other: &Self) -> bool {
        self.port == other.port && (self.host == other.host || self.is_loopback() && other.is_loopback())
    }
}

/// What this node answers to.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// Its name, which resolves among containers.
    pub(super) name: &'a str,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    /// The cluster as last seen, with the `public_url` of every member.
    pub(super) view: Arc<ClusterView>,
    /// This node's own, which it knows before the others are heard.
    pub(super) public_url: Option<&'a str>,
}

impl Known<'_> {
    /// Taken apart only where nothing cheaper decides: most requests name a loopback address or ours.
    fn public(&self) -> impl Iterator<Item = Place> {
        let urls = self.view.nodes.iter().filter_map(|node| node.url.as_deref());
        urls.chain(self.public_url).filter_map(Place::of_url)
    }

    fn host(&self, place: &Place, local: Option<SocketAddr>) -> bool {
        // A page cannot choose the address of a machine as its own name, so that an address is as good as ours.
        let own_address =
            place.ip().is_some_and(|ip| ip == self.listen.ip() || local.is_some_and(|at| at.ip() == ip));
        let own_name = place.host == self.name && place.port == Some(self.listen.port());
        place.is_loopback() || own_address || own_name || self.public().any(|public| public.is(place))
    }

    fn origin(&self, origin: &Place, host: &Place) -> bool {
        origin == host || self.member(origin)
    }

    /// A page of another member, which may follow the feed and post here.
    fn member(&self, origin: &Place) -> bool {
        self.public().any(|public| public.is(origin))
    }
}

/// Refuses foreign hosts and origins; the pages of other members, whose own node may be gone, read and write here.
pub(super) async fn gate(State(site): State<Shared>, request: Request, next: Next) -> Response {
    if OPEN_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let local = request.extensions().get::<Local>().map(|local| local.0);
    let known = site.known();
    let origin = request.headers().get(ORIGIN).cloned();
    if let Err(problem) = admit(&known, local, request.uri(), request.headers()) {
        return problem.into_response();
    }
    let readable = origin.as_ref().and_then(place_of_origin).is_some_and(|place| known.member(&place));
    let mut response = if readable && is_preflight(&request) { preflight() } else { next.run(request).await };
    if let (true, Some(origin)) = (readable, origin) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("chorus-index, chorus-node"));
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// A browser asks whether a page of another member may send what is no plain form (Fetch standard, CORS preflight).
fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What pages of members may send. The answer is good for ten minutes.
fn preflight() -> Response {
    let allowed = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "content-type, idempotency-key, if-match"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

fn admit(
    known: &Known<'_>,
    local: Option<SocketAddr>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    // The request's own authority wins over the header (RFC 9112, 3.2.2).
    let header = || headers.get(HOST).and_then(|host| host.to_str().ok());
    let said = uri.authority().map(Authority::as_str).or_else(header).unwrap_or_default();
    let host = Place::of_host(said).filter(|place| known.host(place, local)).ok_or_else(|| {
        Problem::new(
            "foreign_host",
            format!("'{said}' is none of the names and addresses of this cluster's nodes"),
        )
    })?;
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    if place_of_origin(origin).is_some_and(|place| known.origin(&place, &host)) {
        return Ok(());
    }
    let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
    Err(Problem::new("foreign_origin", format!("a page of '{origin}' may not ask here")))
}

fn place_of_origin(origin: &HeaderValue) -> Option<Place> {
    origin.to_str().ok().and_then(Place::of_url)
}

#[cfg(test)]
mod tests {
    use chorus_proto::message::NodeReport;

    use super::*;

    fn code(host: &str, origin: Option<&str>) -> Result<(), String> {
        let url = Some("https://quotes.example".to_owned());
        let member = NodeReport { url, ..NodeReport::unheard("n3".parse().unwrap(), String::new()) };
        let known = Known {
            name: "n2",
            listen: "0.0.0.0:8001".parse().unwrap(),
            view: Arc::new(ClusterView { nodes: vec![member], ..ClusterView::default() }),
            public_url: Some("http://127.0.0.1:8000"),
        };
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        let local = Some("10.0.0.2:8001".parse().unwrap());
        admit(&known, local, &Uri::from_static("/x"), &headers).map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn own_names_are_hosts_and_others_are_foreign() {
        for host in [
            "127.0.0.1:8001",
            "localhost:9999",
            "[::1]:8001",
            "10.0.0.2:8001",
            "quotes.example",
            "n2:8001",
            "LOCALHOST",
        ] {
            assert_eq!(code(host, None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8001",
            "localhost.evil.example",
            "n2",
            "a@localhost",
            "10.0.0.3",
            "",
        ] {
            assert_eq!(code(host, None), Err("foreign_host".to_owned()), "{host}");
        }
    }

    #[test]
    fn only_pages_of_members_may_ask() {
        for origin in [
            "http://localhost:8001",
            "http://127.0.0.1:8000",
            "http://localhost:8000",
            "https://quotes.example",
        ] {
            assert_eq!(code("localhost:8001", Some(origin)), Ok(()), "{origin}");
        }
        for origin in [
            "http://localhost:3000",
            "https://evil.example",
            "null",
            "http://quotes.example.evil",
            "file:///etc",
        ] {
            assert_eq!(code("localhost:8001", Some(origin)), Err("foreign_origin".to_owned()), "{origin}");
        }
    }
}
