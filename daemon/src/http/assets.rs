//! Modules, style sheet and icon, held in the program.
//!
//! Pages name them under a path that holds the digest of all of them, `/assets/DIGEST/NAME`: modules that import
//! each other by relative names stay in one version, and each may be kept for ever. Without the digest they are
//! asked for again each time, and answered 304 by their ETag.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

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
    asset!("cluster.js", SCRIPT),
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

/// `GET /assets/{name}`.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    send(&name, &headers, false)
}

/// `GET /assets/{version}/{name}`. Another program's version gets ours, but must not keep it.
pub(super) async fn asset_of_version(
    Path((version, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    send(&name, &headers, version == *VERSION)
}

/// `GET /favicon.ico`, for browsers that do not look into the page.
pub(super) async fn favicon(headers: HeaderMap) -> Result<Response, Problem> {
    send("icon.svg", &headers, false)
}

fn send(name: &str, headers: &HeaderMap, keep: bool) -> Result<Response, Problem> {
    let asset = ASSETS
        .iter()
        .find(|asset| asset.name == name)
        .ok_or_else(|| Problem::new("not_found", format!("there is no asset '{name}'")))?;
    let tag = format!("\"{}\"", *VERSION);
    let known =
        headers.get(IF_NONE_MATCH).is_some_and(|tags| tags.to_str().is_ok_and(|tags| tags.contains(&tag)));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, asset.mime)], asset.bytes).into_response()
    };
    let keeping = if keep { "public, max-age=31536000, immutable" } else { "no-cache" };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(keeping));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
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
    fn what_is_not_held_is_not_found() {
        assert_eq!(
            send("../Cargo.toml", &HeaderMap::new(), false).unwrap_err().status(),
            StatusCode::NOT_FOUND
        );
    }

    #[test]
    fn a_first_load_stays_small() {
        let all: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(all <= 60_000, "{all} bytes");
    }
}
