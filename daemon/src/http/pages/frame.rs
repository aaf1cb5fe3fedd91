//! What every page says about where it comes from, and how a page becomes an answer.

use askama::Template;
use axum::http::header::{CONTENT_SECURITY_POLICY, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;

use super::super::api::CHORUS_INDEX;
use super::super::assets;
use super::super::clock::Moment;
use super::super::problem::Problem;
use super::super::site::{Site, epoch};
use crate::node::ClusterView;

/// What every page says about where it comes from.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) title: &'static str,
    pub(super) node: String,
    pub(super) leader: Option<String>,
    pub(super) why: Option<String>,
    pub(super) term: u64,
    pub(super) epoch: String,
    /// The applied index of the read that rendered it.
    pub(super) seq: u64,
    pub(super) now: Moment,
    pub(super) assets: &'static str,
    /// Other nodes, as JSON: where the page goes on when this one is gone.
    pub(super) peers: String,
    /// Not everyone may do everything: there is a page that takes tokens.
    pub(super) guarded: bool,
}

impl Frame {
    pub(super) fn new(site: &Site, title: &'static str, seq: u64) -> Self {
        let view = site.view();
        let peers: Vec<_> = view
            .nodes
            .iter()
            .filter_map(|node| Some(serde_json::json!({ "name": node.name, "url": node.url.as_ref()? })))
            .collect();
        Self {
            title,
            node: site.handle.name.to_string(),
            leader: view.leader.as_ref().map(ToString::to_string),
            why: view.why.clone(),
            term: view.term,
            epoch: epoch(&view),
            seq,
            now: Moment::now(),
            assets: &assets::VERSION,
            peers: Value::from(peers).to_string(),
            guarded: !site.guard.tokens().are_none(),
        }
    }
}

/// A page as an answer, with the policy of what it may load.
///
/// # Errors
/// `internal` when it cannot be rendered.
pub(super) fn render(
    site: &Site,
    headers: &HeaderMap,
    status: StatusCode,
    seq: u64,
    page: &impl Template,
) -> Result<Response, Problem> {
    let text = page
        .render()
        .map_err(|error| Problem::new("internal", format!("the page cannot be shown: {error}")))?;
    let mut response = (status, Html(visible(text))).into_response();
    response.headers_mut().insert(CHORUS_INDEX, HeaderValue::from(seq));
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if let Ok(policy) = HeaderValue::from_str(&policy(&site.view(), host)) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// Controls that are no line break or tab, and those that turn the direction of what follows (Unicode's UAX 9).
const UNSEEN: [(char, char); 10] = [
    ('\u{0}', '\u{8}'),
    ('\u{b}', '\u{b}'),
    ('\u{c}', '\u{c}'),
    ('\u{e}', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{200e}', '\u{200e}'),
    ('\u{200f}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2066}', '\u{2069}'),
];

fn acts_unseen(sign: char) -> bool {
    UNSEEN.iter().any(|&(first, last)| (first..=last).contains(&sign))
}

/// A page whose texts hold nothing that acts unseen, whoever wrote them: it stands there by its name. The modules do the
/// same (`words.js`). What a form or an attribute holds is a value: it is sent back, or compared, as it is.
fn visible(page: String) -> String {
    if !page.contains(acts_unseen) {
        return page;
    }
    let mut shown = String::with_capacity(page.len() + 64);
    let mut rest = page.as_str();
    while !rest.is_empty() {
        let (text, behind) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        let (values, behind) = behind.split_at(values_end(behind));
        name_unseen(text, &mut shown);
        shown.push_str(values);
        rest = behind;
    }
    shown
}

/// Where a tag ends, or a text area with what was typed into it. Whatever people wrote is escaped: `<` begins a tag and
/// nothing else, `>` ends it.
fn values_end(markup: &str) -> usize {
    let end = if markup.starts_with("<textarea") { "</textarea>" } else { ">" };
    markup.find(end).map_or(markup.len(), |place| place + end.len())
}

fn name_unseen(text: &str, shown: &mut String) {
    for sign in text.chars() {
        if acts_unseen(sign) {
            shown.push_str(&format!("⟨U+{:04X}⟩", u32::from(sign)));
        } else {
            shown.push(sign);
        }
    }
}

/// Nothing but what comes from here; the feed also from the other members, where the page goes on when this node
/// is gone.
fn policy(view: &ClusterView, host: Option<&str>) -> String {
    let members = view.nodes.iter().filter_map(|node| node.url.as_deref());
    let mut sources: Vec<String> = members.filter_map(origins).collect();
    // Not every browser takes 'self' for the websocket too.
    sources.extend(host.and_then(|host| origins(&format!("http://{host}"))));
    sources.sort();
    sources.dedup();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {}; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        sources.join(" ")
    )
}

/// The origin of a URL and that of its websocket, if both can stand in a policy.
fn origins(url: &str) -> Option<String> {
    let uri = url.parse::<Uri>().ok()?;
    let authority = uri.authority()?.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    let (page, socket) = match uri.scheme_str()? {
        "http" => ("http", "ws"),
        "https" => ("https", "wss"),
        _ => return None,
    };
    authority.bytes().all(plain).then(|| format!("{page}://{authority} {socket}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_unseen_is_shown_by_its_name() {
        let told = |text: &str| visible(text.to_owned());
        assert_eq!(
            told("pay \u{202e}001\u{202c} now\u{7}\u{9b}"),
            "pay ⟨U+202E⟩001⟨U+202C⟩ now⟨U+0007⟩⟨U+009B⟩"
        );
        for text in ["two\nlines\tand\r\nmore", "שלום עולם", "می\u{200c}خواهم", "👩\u{200d}👧"]
        {
            assert_eq!(told(text), text);
        }
    }

    #[test]
    fn values_stay_what_they_are() {
        let page =
            "<p title=\"\u{200f}\">\u{200f}</p><textarea name=\"text\">a\u{200e}\n&#60;</textarea>\u{200e}";
        assert_eq!(
            visible(page.to_owned()),
            "<p title=\"\u{200f}\">⟨U+200F⟩</p><textarea name=\"text\">a\u{200e}\n&#60;</textarea>⟨U+200E⟩"
        );
        for broken in ["\u{200e}<p title=\"", "<textarea>\u{200e}"] {
            assert!(visible(broken.to_owned()).ends_with(&broken[broken.len() - 3..]), "{broken}");
        }
    }

    #[test]
    fn the_modules_know_the_same_signs() {
        let sign = |sign: char| format!("\\u{:04x}", u32::from(sign));
        let range = |&(first, last): &(char, char)| match first == last {
            true => sign(first),
            false => format!("{}-{}", sign(first), sign(last)),
        };
        let class: String = UNSEEN.iter().map(range).collect();
        let words = include_str!("../../../../web/assets/words.js");
        assert!(words.contains(&format!("const UNSEEN = /[{class}]/g;")), "{class}");
    }

    #[test]
    fn the_policy_names_members_and_lets_nothing_else_in() {
        assert_eq!(origins("https://n1.example/x").as_deref(), Some("https://n1.example wss://n1.example"));
        for url in ["http://a;b", "javascript:x", "http://u@h", "n1"] {
            assert_eq!(origins(url), None, "{url}");
        }
        let policy = policy(&ClusterView::default(), Some("[::1]:8000"));
        assert!(policy.contains("connect-src 'self' http://[::1]:8000 ws://[::1]:8000;"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
