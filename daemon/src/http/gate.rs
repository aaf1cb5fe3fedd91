//! Who may ask: hosts and origins that are ours, those whose token opens what they ask for, and nobody too often. Keeps
//! foreign pages from writing here, also those that make their own name point to this machine (DNS rebinding).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN,
    UPGRADE, VARY,
};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::addresses::{self, Client, Peer};
use super::asker::{self, Asker};
use super::problem::Problem;
use super::serve::Held;
use super::site::Shared;
use super::{health, pages, token};
use crate::node::ClusterView;

/// The address of this machine that a connection came in on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Local(pub(super) SocketAddr);

/// What whoever watches over nodes asks by whatever name it has.
const HEALTH_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// What a button of the cluster's page asks for, of a node that is not to be hurt by it.
const DRILL_PATH: &str = "/cluster/drill";

/// An answer under a name that is none of ours: it says nothing of this node or its cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnderForeignName;

/// Where a browser says from whose page a request comes (Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";

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
    /// Further names that it was given.
    pub(super) hosts: &'a [String],
}

impl Known<'_> {
    /// By which name or address of ours it is asked, or else the name that is none.
    fn asked(&self, local: Option<SocketAddr>, request: &Request) -> Result<Place, String> {
        let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
        // The request's own authority wins over the header (RFC 9112, 3.2.2).
        let said = request.uri().authority().map(Authority::as_str).or_else(header).unwrap_or_default();
        Place::of_host(said).filter(|place| self.host(place, local)).ok_or_else(|| said.to_owned())
    }

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
        let further = self.hosts.contains(&place.host);
        place.is_loopback()
            || own_address
            || own_name
            || further
            || self.public().any(|public| public.is(place))
    }

    /// A page of this very node.
    fn own(&self, origin: &Place, host: &Place) -> bool {
        origin == host || self.public_url.and_then(Place::of_url).is_some_and(|public| public.is(origin))
    }

    /// A page of another member, which may follow the feed and post here.
    fn member(&self, origin: &Place) -> bool {
        self.public().any(|public| public.is(origin))
    }
}

/// Refuses foreign hosts and origins, and whoever may not do it, or not so often; the pages of other members, whose own node
/// may be gone, read and write here.
pub(super) async fn gate(State(site): State<Shared>, mut request: Request, next: Next) -> Response {
    let local = request.extensions().get::<Local>().map(|local| local.0);
    let known = site.known();
    let host = match known.asked(local, &request) {
        Ok(host) => host,
        Err(name) => return under_foreign_name(&name, request, next).await,
    };
    let from = match admit(&known, &host, &request) {
        Ok(from) => from,
        Err(problem) => return problem.into_response(),
    };
    let origin = request.headers().get(ORIGIN).cloned();
    let readable = origin.as_ref().and_then(place_of_origin).is_some_and(|place| known.member(&place));
    let mut response = if readable && is_preflight(&request) {
        preflight()
    } else {
        match let_in(&site, &mut request, from) {
            Ok(()) => next.run(request).await,
            Err(problem) => pages::refusal(&site, &request, problem),
        }
    };
    if let (true, Some(origin)) = (readable, origin) {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("chorus-index, chorus-node"));
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Who made that name point here may be a page, which then reads what is answered: so it is a word, and that only to those
/// who watch over nodes.
async fn under_foreign_name(name: &str, request: Request, next: Next) -> Response {
    let mut response = match word_alone(name, &request) {
        Ok(()) => health::word(next.run(request).await.status()),
        Err(problem) => problem.into_response(),
    };
    response.extensions_mut().insert(UnderForeignName);
    response
}

/// Whether this may be asked under any name.
fn word_alone(name: &str, request: &Request) -> Result<(), Problem> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || !HEALTH_PATHS.contains(&request.uri().path()) {
        let detail = format!("'{name}' is none of the names and addresses of this cluster's nodes");
        return Err(Problem::new("foreign_host", detail));
    }
    match request.headers().get(ORIGIN) {
        Some(origin) => Err(foreign_page(origin)),
        None => Ok(()),
    }
}

/// Whose page a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// No page, or this node's.
    Own,
    /// Another member's.
    Member,
}

/// Says who asks, to whom it concerns further in, if they may ask for this at all.
fn let_in(site: &Shared, request: &mut Request, from: From) -> Result<(), Problem> {
    let tokens = site.guard.tokens();
    let peer = request.extensions().get::<Peer>().copied();
    let client = Client::of(peer, request.headers(), &site.guard);
    if addresses::is_of_gateway(request.headers(), &site.guard) {
        request.extensions().get::<Arc<Held>>().inspect(|held| held.is_of_gateway());
    }
    let asker = Asker::of(&tokens, request.headers(), from == From::Own);
    // First how often: a token must not be guessed at leisure.
    if asker.is_err() || !request.method().is_safe() {
        site.addresses.post(client, std::time::Instant::now())?;
    }
    let asker = asker?;
    if !request.method().is_safe() && !asker.writes && request.uri().path() != token::PATH {
        return Err(asker::lacking("writing"));
    }
    request.extensions_mut().insert(asker);
    request.extensions_mut().insert(client);
    Ok(())
}

/// A browser asks whether a page of another member may send what is no plain form (Fetch standard, CORS preflight).
fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What pages of members may send. The answer is good for ten minutes.
fn preflight() -> Response {
    let allowed = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, idempotency-key, if-match"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

fn admit(known: &Known<'_>, host: &Place, request: &Request) -> Result<From, Problem> {
    let headers = request.headers();
    let changes = !request.method().is_safe() || headers.contains_key(UPGRADE);
    let Some(origin) = headers.get(ORIGIN) else {
        // Browsers name the origin of what changes something; one that only says that it is not ours is believed.
        let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
        return match site {
            Some(site) if changes && !matches!(site, b"same-origin" | b"none") => {
                Err(Problem::new("foreign_origin", "a page of another origin may not ask for this"))
            }
            _ => Ok(From::Own),
        };
    };
    match place_of_origin(origin) {
        Some(place) if known.own(&place, host) => Ok(From::Own),
        Some(place) if known.member(&place) => {
            // A page that has moved uses API and feed; forms go to the node that they came from. A drill is asked of another
            // node than the one that it may end.
            let path = request.uri().path();
            let moves = path.starts_with("/api/") || path == DRILL_PATH;
            if request.method().is_safe() || moves || is_preflight(request) {
                return Ok(From::Member);
            }
            Err(Problem::new("foreign_origin", format!("a form of '{}' belongs to that node", shown(origin))))
        }
        _ => Err(foreign_page(origin)),
    }
}

fn foreign_page(origin: &HeaderValue) -> Problem {
    Problem::new("foreign_origin", format!("a page of '{}' may not ask here", shown(origin)))
}

fn shown(origin: &HeaderValue) -> String {
    String::from_utf8_lossy(origin.as_bytes()).into_owned()
}

fn place_of_origin(origin: &HeaderValue) -> Option<Place> {
    origin.to_str().ok().and_then(Place::of_url)
}

#[cfg(test)]
mod tests {
    use chorus_proto::message::NodeReport;

    use super::*;

    /// From whose page, or from nobody, who is told a word alone.
    fn asked(method: Method, path: &str, headers: &[(&str, &str)]) -> Result<Option<From>, String> {
        let url = Some("https://quotes.example".to_owned());
        let member = NodeReport { url, ..NodeReport::unheard("n3".parse().unwrap(), String::new()) };
        let known = Known {
            name: "n2",
            listen: "0.0.0.0:8001".parse().unwrap(),
            view: Arc::new(ClusterView { nodes: vec![member], ..ClusterView::default() }),
            public_url: Some("http://127.0.0.1:8000"),
            hosts: &["board.example".to_owned()],
        };
        let mut request = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let local = Some("10.0.0.2:8001".parse().unwrap());
        let request = request.body(axum::body::Body::empty()).unwrap();
        let admitted = match known.asked(local, &request) {
            Ok(host) => admit(&known, &host, &request).map(Some),
            Err(name) => word_alone(&name, &request).map(|()| None),
        };
        admitted.map_err(|problem| problem.code().to_owned())
    }

    fn code(host: &str, origin: Option<&str>) -> Result<(), String> {
        let headers: Vec<_> =
            [("host", host)].into_iter().chain(origin.map(|origin| ("origin", origin))).collect();
        asked(Method::POST, "/api/v1/quotes", &headers).map(|_| ())
    }

    #[test]
    fn what_a_browser_says_of_itself_counts_for_what_changes_something() {
        let host = ("host", "localhost:8001");
        for site in ["cross-site", "same-site", "anything"] {
            let headers = [host, ("sec-fetch-site", site)];
            assert_eq!(asked(Method::POST, "/quotes", &headers), Err("foreign_origin".to_owned()), "{site}");
            let upgrade = [host, ("sec-fetch-site", site), ("upgrade", "websocket")];
            assert_eq!(asked(Method::GET, "/ws", &upgrade), Err("foreign_origin".to_owned()), "{site}");
            assert_eq!(
                asked(Method::GET, "/", &headers),
                Ok(Some(From::Own)),
                "a link leads here from anywhere"
            );
        }
        for site in ["same-origin", "none"] {
            assert_eq!(
                asked(Method::POST, "/quotes", &[host, ("sec-fetch-site", site)]),
                Ok(Some(From::Own))
            );
        }
    }

    #[test]
    fn a_page_of_another_member_uses_api_and_feed_and_no_form() {
        let headers = [("host", "localhost:8001"), ("origin", "https://quotes.example")];
        let member = |method, path| asked(method, path, &headers);
        assert_eq!(member(Method::POST, "/api/v1/quotes"), Ok(Some(From::Member)));
        assert_eq!(member(Method::GET, "/ws"), Ok(Some(From::Member)));
        assert_eq!(
            member(Method::POST, "/cluster/drill"),
            Ok(Some(From::Member)),
            "of a node that outlives it"
        );
        for path in ["/quotes", "/token", "/buy"] {
            assert_eq!(member(Method::POST, path), Err("foreign_origin".to_owned()), "{path}");
        }
        let own = [("host", "localhost:8001"), ("origin", "http://localhost:8000")];
        assert_eq!(asked(Method::POST, "/quotes", &own), Ok(Some(From::Own)), "under its public URL");
    }

    #[test]
    fn health_is_asked_by_any_name_and_told_in_full_under_our_own_alone() {
        let foreign = ("host", "evil.example");
        for path in HEALTH_PATHS {
            for method in [Method::GET, Method::HEAD] {
                assert_eq!(asked(method.clone(), path, &[foreign]), Ok(None), "{method} {path}");
                assert_eq!(asked(method, path, &[("host", "n2:8001")]), Ok(Some(From::Own)));
            }
            assert_eq!(asked(Method::POST, path, &[foreign]), Err("foreign_host".to_owned()));
            for origin in ["http://evil.example", "https://quotes.example"] {
                let headers = [foreign, ("origin", origin)];
                assert_eq!(asked(Method::GET, path, &headers), Err("foreign_origin".to_owned()), "{origin}");
            }
        }
        assert_eq!(asked(Method::GET, "/metrics", &[foreign]), Err("foreign_host".to_owned()));
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
            "board.example",
            "board.example:8443",
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
