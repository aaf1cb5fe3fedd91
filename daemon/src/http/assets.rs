//! Modules, style sheet and icon, held in the program.
//!
//! Pages name them under a path that holds the digest of all of them, `/assets/DIGEST/NAME`: modules that import
//! each other by relative names stay in one version, and each may be kept for ever. Without the digest they are
//! asked for again each time, and answered 304 by their ETag. Whoever takes gzip gets them packed.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::problem::Problem;

struct Asset {
    name: &'static str,
    mime: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $mime:expr) => {
        Asset { name: $name, mime: $mime, bytes: include_bytes!(concat!("../../../web/assets/", $name)) }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

const ASSETS: &[Asset] = &[
    asset!("chorus.css", STYLE),
    asset!("icon.svg", PICTURE),
    asset!("quotes.js", SCRIPT),
    asset!("donors.js", SCRIPT),
    asset!("books.js", SCRIPT),
    asset!("tasks.js", SCRIPT),
    asset!("cluster.js", SCRIPT),
    asset!("picture.js", SCRIPT),
    asset!("ring.js", SCRIPT),
    asset!("watch.js", SCRIPT),
    asset!("drills.js", SCRIPT),
    asset!("keys.js", SCRIPT),
    asset!("shortcuts.js", SCRIPT),
    asset!("live.js", SCRIPT),
    asset!("reach.js", SCRIPT),
    asset!("record.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("money.js", SCRIPT),
    asset!("clock.js", SCRIPT),
    asset!("connection.js", SCRIPT),
    asset!("feed.js", SCRIPT),
    asset!("backoff.js", SCRIPT),
    asset!("outbox.js", SCRIPT),
    asset!("state.js", SCRIPT),
    asset!("words.js", SCRIPT),
];

/// The digest of all assets, 16 hexadecimal digits.
pub(super) static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = blake3::Hasher::new();
    for asset in ASSETS {
        hasher.update(asset.name.as_bytes()).update(&asset.bytes.len().to_be_bytes()).update(asset.bytes);
    }
    hasher.finalize().to_hex()[..16].to_owned()
});

/// Each asset packed, in the order of `ASSETS`.
static PACKED: LazyLock<Vec<Bytes>> =
    LazyLock::new(|| ASSETS.iter().map(|asset| packed(asset.bytes)).collect());

fn packed(bytes: &[u8]) -> Bytes {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes).and_then(|()| packer.finish()).expect("memory takes every byte").into()
}

/// A module, style sheet or picture of the pages
#[utoipa::path(
    get, path = "/assets/{name}", tag = "pages",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "It", content_type = "*/*", body = String), (status = 304, description = "It is as you know it")),
)]
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    send(&name, &headers, false)
}

/// The same, to be kept for ever
///
/// Another program's version gets ours, but must not keep it.
#[utoipa::path(
    get, path = "/assets/{version}/{name}", tag = "pages",
    params(
        ("version" = String, Path, description = "The digest of all of them"),
        ("name" = String, Path, description = "Its name"),
    ),
    responses((status = 200, description = "It", content_type = "*/*", body = String), (status = 304, description = "It is as you know it")),
)]
pub(super) async fn asset_of_version(
    Path((version, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    send(&name, &headers, version == *VERSION)
}

/// The icon, for browsers that do not look into the page
#[utoipa::path(
    get, path = "/favicon.ico", tag = "pages",
    responses((status = 200, description = "It", content_type = "image/svg+xml", body = String), (status = 304, description = "It is as you know it")),
)]
pub(super) async fn favicon(headers: HeaderMap) -> Result<Response, Problem> {
    send("icon.svg", &headers, false)
}

fn send(name: &str, headers: &HeaderMap, keep: bool) -> Result<Response, Problem> {
    let (asset, packed) = ASSETS
        .iter()
        .zip(PACKED.iter())
        .find(|(asset, _)| asset.name == name)
        .ok_or_else(|| Problem::new("not_found", format!("there is no asset '{name}'")))?;
    let tag = format!("\"{}\"", *VERSION);
    let known =
        headers.get(IF_NONE_MATCH).is_some_and(|tags| tags.to_str().is_ok_and(|tags| tags.contains(&tag)));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else if takes_gzip(headers) {
        ([(CONTENT_TYPE, asset.mime), (CONTENT_ENCODING, "gzip")], packed.clone()).into_response()
    } else {
        ([(CONTENT_TYPE, asset.mime)], asset.bytes).into_response()
    };
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    let keeping = if keep { "public, max-age=31536000, immutable" } else { "no-cache" };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(keeping));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// `gzip` is named, and not as the one thing that is unwelcome (RFC 9110, 12.5.3).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let named = |part: &str| {
        let mut halves = part.split(';').map(str::trim);
        halves.next() == Some("gzip") && halves.next().is_none_or(|weight| !matches!(weight, "q=0" | "q=0.0"))
    };
    headers
        .get(ACCEPT_ENCODING)
        .and_then(|kinds| kinds.to_str().ok())
        .is_some_and(|kinds| kinds.split(',').any(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_versioned_asset_is_kept_and_a_plain_one_is_asked_for_again() {
        let none = HeaderMap::new();
        let kept = send("chorus.css", &none, true).unwrap();
        assert!(kept.headers()[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let plain = send("chorus.css", &none, false).unwrap();
        assert_eq!(plain.headers()[CACHE_CONTROL], "no-cache");
        assert_eq!(plain.headers()[CONTENT_TYPE], STYLE);
        let mut again = HeaderMap::new();
        again.insert(IF_NONE_MATCH, plain.headers()[ETAG].clone());
        assert_eq!(send("chorus.css", &again, false).unwrap().status(), StatusCode::NOT_MODIFIED);
    }

    #[test]
    fn whoever_takes_gzip_gets_less() {
        let asks = |kinds: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, kinds.parse().unwrap());
            send("chorus.css", &headers, true).unwrap().headers().contains_key(CONTENT_ENCODING)
        };
        assert!(asks("gzip") && asks("br, gzip;q=0.5"));
        assert!(!asks("br") && !asks("gzip;q=0") && !asks("identity"));
        let plain = ASSETS.iter().find(|asset| asset.name == "chorus.css").unwrap().bytes;
        let mut unpacked = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed(plain).as_ref()), &mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain);
    }

    #[test]
    fn what_is_not_held_is_not_found() {
        assert_eq!(
            send("../Cargo.toml", &HeaderMap::new(), false).unwrap_err().status(),
            StatusCode::NOT_FOUND
        );
    }

    /// A module and all that it imports.
    fn modules(name: &'static str, known: &mut Vec<&'static str>) {
        if known.contains(&name) {
            return;
        }
        known.push(name);
        let asset = ASSETS.iter().find(|asset| asset.name == name).expect("what is imported is there");
        let text = std::str::from_utf8(asset.bytes).expect("a module is text");
        for import in text.split("from \"./").skip(1) {
            modules(import.split('"').next().expect("a name"), known);
        }
    }

    #[test]
    fn a_first_load_stays_small() {
        /// The page itself, without what people wrote.
        const PAGE: usize = 6_000;
        for page in ["quotes.js", "donors.js", "books.js", "tasks.js", "cluster.js"] {
            let mut known = vec!["chorus.css", "icon.svg"];
            modules("keys.js", &mut known);
            modules(page, &mut known);
            let named = ASSETS.iter().filter(|asset| known.contains(&asset.name));
            let all = PAGE + named.map(|asset| packed(asset.bytes).len()).sum::<usize>();
            assert!(all <= 60_000, "{page}: {all} bytes of {known:?}");
        }
    }
}
