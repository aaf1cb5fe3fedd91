//! Bodies that miss by little, and bodies that are anything, on every route of every board: each is answered, none as a fault
//! of the node, and every field that is wrong is named.

use std::cell::Cell;

use chorus::boards::{Boards, Field, Kind, Operation, Route};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::stage::{Reply, Stage};

/// Requests of each test; `./test long` asks for more.
fn cases() -> ProptestConfig {
    let asked = ProptestConfig::default().cases;
    ProptestConfig { cases: asked.max(1_000), failure_persistence: None, ..ProptestConfig::default() }
}

/// An operation, and the name of its board.
type Way = (&'static str, &'static Operation);

fn ways() -> Vec<Way> {
    let of = |board: &'static dyn chorus::boards::Board| {
        board.operations().iter().map(move |operation| (board.name(), operation))
    };
    Boards::all().iter().flat_map(of).collect()
}

/// What a request says in one field.
#[derive(Clone, Debug)]
struct Said {
    value: Option<Value>,
    /// It must be refused by name.
    wrong: bool,
}

fn right(value: impl Into<Value>) -> Said {
    Said { value: Some(value.into()), wrong: false }
}

fn wrong(value: impl Into<Value>) -> Said {
    Said { value: Some(value.into()), wrong: true }
}

/// Right values of a field, and all the ways to miss them by little.
fn near(field: &'static Field) -> BoxedStrategy<Said> {
    let mut misses = vec![Said { value: None, wrong: field.required }, wrong(true), wrong(json!({ "a": 1 }))];
    let rights: BoxedStrategy<Said> = match field.kind {
        Kind::Text { chars_min, chars_max, lines } => {
            misses.extend([
                wrong("é".repeat(chars_max + 1)),
                wrong("a\u{7}b"),
                wrong(7),
                wrong(json!(["a"])),
            ]);
            if chars_min > 0 {
                misses.push(wrong(""));
            }
            if !lines {
                misses.push(wrong("a\nb"));
            }
            "[a-zA-Zäö ]{1,12}".prop_map(right).boxed()
        }
        Kind::Blob { bytes_max } => {
            misses.extend([wrong("x".repeat(bytes_max + 1)), wrong(7)]);
            "\\PC{0,20}".prop_map(right).boxed()
        }
        Kind::Whole { min, max } => {
            misses.extend([min.checked_sub(1), max.checked_add(1)].into_iter().flatten().map(wrong));
            misses.extend([wrong(min as f64 + 0.5), wrong(1e300)]);
            misses.extend([wrong(u64::MAX), wrong(min.to_string())]);
            (min..=max).prop_map(right).boxed()
        }
        Kind::Choice(words) => {
            misses.extend([wrong("none of them"), wrong(words[0].to_uppercase()), wrong(1)]);
            select(words).prop_map(right).boxed()
        }
        Kind::Rows { .. } => {
            misses.extend([wrong(json!([])), wrong("rows"), wrong(json!([7])), wrong(json!([{}]))]);
            Just(Said { value: None, wrong: field.required }).boxed()
        }
    };
    Union::new_weighted(vec![(3, rights), (2, select(misses).boxed())]).boxed()
}

/// One request: where to, what of, and the fields that must be named.
#[derive(Clone, Debug)]
struct Request {
    way: Way,
    key: &'static str,
    body: Value,
    wrong: Vec<&'static str>,
}

fn request() -> impl Strategy<Value = Request> {
    let keys = select(vec!["1", "2", "a", "99999999999999999999", "%20", "x/y"]);
    (select(ways()), keys).prop_flat_map(|(way, key)| {
        let fields: Vec<_> =
            way.1.fields.iter().map(|field| near(field).prop_map(|said| (field.name, said))).collect();
        fields.prop_map(move |fields| {
            let wrong = fields.iter().filter(|(_, said)| said.wrong).map(|(name, _)| *name).collect();
            let body: Map<String, Value> =
                fields.into_iter().filter_map(|(name, said)| Some((name.to_owned(), said.value?))).collect();
            Request { way, key, body: Value::Object(body), wrong }
        })
    })
}

async fn send(stage: &Stage, (board, operation): Way, key: &str, body: Vec<u8>) -> Reply {
    let row = format!("/api/v1/{board}/{key}");
    let (method, path) = match operation.route {
        Route::Post => ("POST", format!("/api/v1/{board}")),
        Route::Word => ("POST", format!("/api/v1/{board}/{}", operation.name)),
        Route::Put => ("PUT", row),
        Route::Patch => ("PATCH", row),
        Route::Delete => ("DELETE", row),
        Route::Action => ("POST", format!("{row}/{}", operation.name)),
    };
    let method = method.parse().expect("a method");
    stage.ask(stage.http.request(method, stage.at(&path)).body(body)).await
}

/// The names in `errors`; every refusal says what it is.
fn named(reply: &Reply) -> Vec<String> {
    assert!((200..500).contains(&reply.status), "{reply:?}");
    if reply.status < 400 {
        return Vec::new();
    }
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{reply:?}");
    let problem = reply.json();
    assert_eq!(problem["status"], reply.status, "{reply:?}");
    assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()), "{reply:?}");
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    assert_eq!(reply.status == 422, !errors.is_empty(), "{reply:?}");
    let name = |error: Value| {
        assert!(error["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{reply:?}");
        error["field"].as_str().expect("a field's name").to_owned()
    };
    errors.into_iter().map(name).collect()
}

#[test]
fn every_wrong_field_is_named() {
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(Stage::open(64));
    let (taken, refused) = (Cell::new(0), Cell::new(0));
    proptest!(cases(), |(request in request())| {
        let Request { way, key, body, wrong } = &request;
        // No route is there for a key of two segments, but where keys are paths; a DELETE has no body to be wrong in.
        prop_assume!(*key != "x/y" || way.0 == "store");
        let reply = runtime.block_on(send(&stage, *way, key, body.to_string().into_bytes()));
        let named = named(&reply);
        if way.1.route != Route::Delete {
            let is_named = |field: &&str| named.iter().any(|name| name.as_str() == *field || name.starts_with(&format!("{field} ")));
            let missing: Vec<_> = wrong.iter().filter(|field| !is_named(field)).collect();
            prop_assert!(missing.is_empty(), "{missing:?} are wrong and not named: {reply:?}");
        }
        let counter = if reply.status < 300 { &taken } else { &refused };
        counter.set(counter.get() + 1);
    });
    let (taken, refused) = (taken.get(), refused.get());
    println!("measured: {taken} requests were carried out, {refused} refused");
    assert!(taken > 0 && refused > 0, "{taken} were carried out, {refused} refused");
}

/// Any JSON, of some depth.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,16}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        select(vec![
            "author", "text", "title", "name", "email", "amount", "quantity", "value", "rows", "version"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}"
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map(names.clone(), inner, 0..8).prop_map(|map| json!(map)),
        ]
    })
}

#[test]
fn any_body_is_answered() {
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(Stage::open(64));
    let bytes = prop_oneof![
        3 => anything().prop_map(|value| value.to_string().into_bytes()),
        // Cut off, and with a byte that is another one.
        1 => (anything(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(value, at, byte)| {
            let mut bytes = value.to_string().into_bytes();
            let at = at.index(bytes.len());
            if byte < 64 { bytes.truncate(at) } else { bytes[at] = byte }
            bytes
        }),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ];
    proptest!(cases(), |(way in select(ways()), body in bytes)| {
        let is_object = serde_json::from_slice::<Value>(&body).is_ok_and(|value| value.is_object());
        let reply = runtime.block_on(send(&stage, way, "1", body.clone()));
        named(&reply);
        if reply.status == 400 {
            prop_assert!(!is_object, "an object is refused as none: {reply:?}");
            prop_assert_eq!(&reply.json()["code"], "bad_json");
        }
    });
}
