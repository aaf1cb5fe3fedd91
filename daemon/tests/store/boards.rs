//! The boards: what the edge takes, what apply makes of it, and how it is shown.

use chorus::boards::{Board, Boards, Change, Input, Invalid, ListQuery, Listed, Outcome};
use chorus_proto::types::{Entry, Payload};
use serde_json::{Value, json};

use super::support::{
    EPOCH_MS, Node, board, code, command, entry, id, list, list_by, noop, open, put, quote, uuid_v7,
};

/// What the first version of the commands can say, by name.
const COMMANDS: [&str; 15] = [
    "books.add",
    "books.change",
    "books.purchase",
    "books.restock",
    "books.seed",
    "donors.add",
    "donors.import",
    "quotes.hide",
    "quotes.post",
    "quotes.restore",
    "store.delete",
    "store.put",
    "tasks.add",
    "tasks.change",
    "tasks.delete",
];

fn check(name: &str, op: &str, key: Option<&str>, body: Value) -> Result<Vec<u8>, Vec<Invalid>> {
    let board = board(name);
    let operation = board.operations().iter().find(|known| known.name == op).unwrap();
    board.check(operation, Input { key: key.map(str::to_owned), if_match: None, body })
}

fn wrong_fields(name: &str, op: &str, key: Option<&str>, body: Value) -> Vec<String> {
    check(name, op, key, body).unwrap_err().into_iter().map(|invalid| invalid.field).collect()
}

#[test]
fn a_quote_has_an_author_and_a_text_and_every_wrong_field_is_named() {
    let post =
        |author: &str, text: &str| check("quotes", "post", None, json!({"author": author, "text": text}));
    assert!(post("Ada", "x").is_ok());
    assert!(post(&"ä".repeat(80), &"語".repeat(2_000)).is_ok(), "characters, not bytes");
    assert!(post("Ada", "two\nlines").is_ok());
    let wrong = |body: Value| wrong_fields("quotes", "post", None, body);
    assert_eq!(wrong(json!({"author": "", "text": ""})), ["author", "text"]);
    assert_eq!(wrong(json!({"author": " ", "text": "\n \n"})), ["author", "text"]);
    assert_eq!(wrong(json!({"author": "a".repeat(81), "text": "x"})), ["author"]);
    assert_eq!(wrong(json!({"author": "Ada", "text": "x".repeat(2_001)})), ["text"]);
    assert_eq!(wrong(json!({"author": "A\nda", "text": "bell \u{7}"})), ["author", "text"]);
    assert_eq!(wrong(json!({"text": 7})), ["author", "text"]);
    assert_eq!(wrong(json!([1])), ["body", "author", "text"]);
}

#[test]
fn lines_of_a_form_are_stored_with_newlines_alone() {
    let body = |text: &str| check("quotes", "post", None, json!({"author": "Ada", "text": text})).unwrap();
    assert_eq!(body("one\r\ntwo\rthree"), body("one\ntwo\nthree"));
}

#[test]
fn quotes_are_listed_newest_first_and_found_by_seq_and_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let uuid = uuid_v7(EPOCH_MS, 1);
    let outcomes = node.run(vec![
        entry(1, EPOCH_MS, &quote(&uuid, "one")),
        entry(2, EPOCH_MS + 5, &quote("mine", "two")),
        entry(3, EPOCH_MS + 9, &quote("yours", "three")),
    ]);
    let Outcome::Done { id: derived, .. } = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[0], Outcome::Done { change: Change::Created, id: uuid.clone(), index: 1 });
    assert_eq!(uuid::Uuid::parse_str(derived).unwrap().get_version_num(), 7);
    let first =
        json!({"seq": 1, "id": uuid, "author": "Ada", "text": "one", "at_ms": EPOCH_MS, "node": "n1"});
    let page = |before, limit| {
        let query = ListQuery { limit, before, ..ListQuery::default() };
        list_by(node.stores(), "quotes", &query)
    };
    assert_eq!(page(None, 2)["items"][0]["seq"], 3);
    assert_eq!(page(None, 2)["next"], 2);
    assert_eq!(page(Some(2), 2), json!({"items": [first], "next": null}));
    let find = |key: &str| node.stores().read(|connection| board("quotes").find(connection, key)).unwrap();
    assert_eq!(find("1"), Some(first.clone()));
    assert_eq!(find(&uuid), Some(first));
    assert_eq!(find("9"), None);
    assert_eq!(find("none"), None);
}

#[test]
fn an_id_that_another_quote_has_is_refused_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let Outcome::Done { id: derived, .. } =
        node.run(vec![entry(1, EPOCH_MS, &quote("mine", "one"))])[0].clone()
    else {
        panic!("a quote is stored")
    };
    assert_eq!(code(&node.run(vec![entry(2, EPOCH_MS, &quote(&derived, "two"))])[0]), "id_reused");
}

fn with_version(request: &str, op: &str, key: &str, version: Option<u64>) -> chorus::boards::Command {
    let input = Input { key: Some(key.to_owned()), if_match: Some(version), body: json!({"value": "new"}) };
    command(request, "store", op, input)
}

fn delete(request: &str, key: &str) -> chorus::boards::Command {
    let input = Input { key: Some(key.to_owned()), ..Input::default() };
    command(request, "store", "delete", input)
}

fn find(node: &Node, key: &str) -> Option<Value> {
    node.stores().read(|connection| board("store").find(connection, key)).unwrap()
}

#[test]
fn a_key_is_put_changed_and_deleted_and_the_feed_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let outcomes = node.run(vec![
        entry(1, EPOCH_MS, &put("a", "colour", "red")),
        entry(2, EPOCH_MS, &put("b", "colour", "blue")),
        entry(3, EPOCH_MS, &delete("c", "colour")),
        entry(4, EPOCH_MS, &delete("d", "colour")),
    ]);
    let change = |change, index| Outcome::Done { change, id: "colour".to_owned(), index };
    let done = [change(Change::Created, 1), change(Change::Changed, 2), change(Change::Deleted, 3)];
    assert_eq!(outcomes[..3], done);
    assert_eq!(code(&outcomes[3]), "not_found");
    assert_eq!(find(&node, "colour"), None);
    let told: Vec<Value> = node
        .stores()
        .events(0, 10, usize::MAX)
        .unwrap()
        .0
        .iter()
        .map(|entry| serde_json::to_value(&entry.items).unwrap())
        .collect();
    assert_eq!(
        told,
        [
            json!([{"topic": "store", "kind": "created", "item": {"key": "colour", "value": "red", "index": 1}}]),
            json!([{"topic": "store", "kind": "changed", "item": {"key": "colour", "value": "blue", "index": 2}}]),
            json!([{"topic": "store", "kind": "deleted", "item": {"key": "colour", "index": 3}}]),
        ]
    );
}

#[test]
fn compare_and_set_changes_only_the_version_that_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let outcomes = node.run(vec![
        entry(1, EPOCH_MS, &with_version("a", "put", "k", None)),
        entry(2, EPOCH_MS, &with_version("b", "put", "k", Some(1))),
        entry(3, EPOCH_MS, &put("c", "k", "old")),
        entry(4, EPOCH_MS, &with_version("d", "put", "k", Some(1))),
        entry(5, EPOCH_MS, &with_version("e", "put", "k", Some(3))),
        entry(6, EPOCH_MS, &with_version("f", "delete", "k", Some(3))),
        entry(7, EPOCH_MS, &with_version("g", "put", "k", None)),
        entry(8, EPOCH_MS, &with_version("h", "delete", "k", Some(7))),
        entry(9, EPOCH_MS, &with_version("i", "delete", "k", None)),
    ]);
    let codes: Vec<&str> = outcomes.iter().map(code).collect();
    let stale = "stale_version";
    assert_eq!(codes, [stale, stale, "done", stale, "done", stale, "done", "done", stale]);
}

#[test]
fn keys_are_listed_in_byte_order_by_prefix_and_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let keys = ["a", "b/1", "b/2", "b/3", "bc", "ü"];
    let puts = keys.iter().zip(1..).map(|(key, i)| entry(i, EPOCH_MS, &put(&format!("r{i}"), key, "v")));
    node.run(puts.collect());
    let page = |prefix: &str, after: Option<&str>, limit| {
        let filters = [("prefix", prefix.to_owned())].into();
        let query = ListQuery { limit, filters, after: after.map(str::to_owned), ..ListQuery::default() };
        let page = list_by(node.stores(), "store", &query);
        let keys =
            page["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap().to_owned());
        (keys.collect::<Vec<_>>(), page["next"].clone())
    };
    assert_eq!(page("", None, 500), (keys.map(str::to_owned).to_vec(), Value::Null));
    assert_eq!(page("b/", None, 2), (vec!["b/1".into(), "b/2".into()], json!("b/2")));
    assert_eq!(page("b/", Some("b/2"), 2), (vec!["b/3".into()], Value::Null));
    assert_eq!(page("z", None, 2), (vec![], Value::Null));
}

#[test]
fn a_key_and_a_value_have_limits() {
    let wrong = |key: &str, value: Value| wrong_fields("store", "put", Some(key), json!({ "value": value }));
    assert!(check("store", "put", Some(&"k".repeat(256)), json!({"value": "v".repeat(65_536)})).is_ok());
    assert!(check("store", "put", Some("k"), json!({"value": ""})).is_ok());
    assert_eq!(wrong(&"k".repeat(257), json!("v".repeat(65_537))), ["key", "value"]);
    assert_eq!(wrong("", Value::Null), ["key", "value"]);
    assert_eq!(wrong("a\tb", json!("v")), ["key"]);
}

#[test]
fn the_largest_put_fits_an_entry() {
    let largest = put(&"r".repeat(64), &"k".repeat(256), &"\u{1}".repeat(65_536));
    assert!(largest.encode().len() <= chorus_proto::types::ENTRY_BYTES_MAX);
}

#[test]
fn an_entry_is_described_for_people() {
    let describe = |entry: &Entry| serde_json::to_value(Boards::all().describe(entry)).unwrap();
    let told = describe(&entry(7, EPOCH_MS, &put("r", "colour", "red")));
    let expected = json!({"index": 7, "term": 1, "time_ms": EPOCH_MS, "board": "store", "id": "r", "command": "put",
                          "key": "colour", "value": "red"});
    assert_eq!(told, expected);
    assert_eq!(describe(&entry(8, EPOCH_MS, &quote("r", "said")))["value"], "said");
    assert_eq!(describe(&entry(9, EPOCH_MS, &delete("r", "colour")))["key"], "colour");
    assert_eq!(describe(&noop(3, 9))["command"], "noop");
    let payload = Payload::Command(b"noise".to_vec().into());
    assert_eq!(describe(&Entry { id: id(1, 1), time_ms: 0, payload })["command"], "unknown");
}

#[test]
fn a_command_is_known_by_board_operation_and_version() {
    let mut command = quote("r", "said");
    assert!(Boards::all().knows(&command));
    command.v = 2;
    assert!(!Boards::all().knows(&command));
    assert_eq!(chorus::boards::Command::decode(&command.encode()).unwrap(), command);
}

/// Another list is another version of the commands, and what is new in it is since that one.
#[test]
fn the_first_version_of_the_commands_has_these() {
    let of = |board: &'static dyn Board| {
        let operations = board.operations().iter();
        operations.map(move |known| (known.since, format!("{}.{} {}", board.name(), known.name, known.v)))
    };
    let mut known: Vec<_> = Boards::all().iter().flat_map(of).collect();
    known.sort();
    let first = COMMANDS.map(|command| (1, format!("{command} 1")));
    assert_eq!(known, first);
    assert_eq!(Boards::all().version(), 1);
}

#[test]
fn rows_and_index_of_one_read_agree() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append((1..=400).map(|i| entry(i, EPOCH_MS, &quote(&format!("q{i}"), "said"))).collect());
    let stores = node.stores().clone();
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while seen < 400 {
                let (index, rows) = stores
                    .read(|connection| {
                        let index = chorus::store::applied_index(connection)?;
                        let rows: i64 =
                            connection.query_row("SELECT count(*) FROM quotes", [], |row| row.get(0))?;
                        Ok((index, rows.unsigned_abs()))
                    })
                    .unwrap();
                assert_eq!(index, rows);
                seen = index;
            }
            seen
        });
        for upto in 1..=400 {
            node.apply(upto);
        }
        reader.join().unwrap()
    });
    assert_eq!(seen, 400);
    assert_eq!(list(node.stores(), "quotes").len(), 400);
}

#[test]
fn a_command_is_written_as_the_protocol_says() {
    let hex: String =
        put("req-2", "colour", "red").encode().iter().map(|byte| format!("{byte:02x}")).collect();
    let protocol = include_str!("../../../proto/PROTOCOL.md");
    assert!(protocol.replace('\n', "").contains(&hex), "{hex} is not the example of PROTOCOL.md");
}

#[test]
fn a_hidden_quote_is_gone_from_the_board_until_it_is_restored_and_the_log_knows_who_did_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let act = |op: &str, at: u64, key: &str| {
        let body = json!({ "by": "Grace" });
        let input = Input { key: Some(key.to_owned()), if_match: None, body };
        entry(at, EPOCH_MS, &command(&format!("m{at}"), "quotes", op, input))
    };
    node.run(vec![entry(1, EPOCH_MS, &quote("a", "one")), entry(2, EPOCH_MS, &quote("b", "two"))]);
    let hidden = node.run(vec![act("hide", 3, "1"), act("hide", 4, "1"), act("hide", 5, "9")]);
    assert!(matches!(hidden[0], Outcome::Done { change: Change::Deleted, index: 3, .. }), "{hidden:?}");
    assert_eq!(code(&hidden[2]), "not_found");
    let seqs = |hidden: &str| {
        let query =
            ListQuery { limit: 9, filters: [("hidden", hidden.to_owned())].into(), ..ListQuery::default() };
        let page = list_by(node.stores(), "quotes", &query);
        page["items"].as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((seqs("no"), seqs("yes")), (vec![2], vec![1]));
    let hidden = |filters: &[(&'static str, &str)]| {
        let filters = filters.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let query = ListQuery { limit: 9, filters, ..ListQuery::default() };
        node.stores().read(|connection| board("quotes").list(connection, &query)).unwrap()
    };
    let Listed::Rows(page) = hidden(&[("hidden", "yes")]) else { panic!("it is a list") };
    assert_eq!(page["items"][0]["hidden_by"], json!("Grace"));
    assert!(!page.to_string().contains("one"), "what it said is withheld: {page}");
    let searched = hidden(&[("hidden", "yes"), ("q", "one")]);
    assert!(matches!(searched, Listed::Invalid(_)), "a search would tell: {searched:?}");
    let found = node.stores().read(|connection| board("quotes").find(connection, "1")).unwrap().unwrap();
    assert_eq!((&found["hidden_by"], &found["text"]), (&json!("Grace"), &Value::Null));
    let (told, _) = node.stores().events(2, 5, usize::MAX).unwrap();
    assert_eq!(told.len(), 1, "what was hidden already is not told again: {told:?}");
    assert_eq!((told[0].index, told[0].items[0].kind), (3, Change::Deleted));
    node.run(vec![act("restore", 6, "1")]);
    let all: Vec<_> =
        list(node.stores(), "quotes").iter().map(|item| item["seq"].as_u64().unwrap()).collect();
    assert_eq!(all, [2, 1]);
}

#[test]
fn quotes_are_searched_by_what_they_say_and_who_said_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let texts = ["Half of it", "100 % of it", "snake_case", "back\\slash", "by ADA herself"];
    node.run(
        (1..).zip(texts).map(|(at, text)| entry(at, EPOCH_MS, &quote(&format!("q{at}"), text))).collect(),
    );
    let found = |part: &str| {
        let query = ListQuery { limit: 9, filters: [("q", part.to_owned())].into(), ..ListQuery::default() };
        let page = list_by(node.stores(), "quotes", &query);
        page["items"].as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found("OF IT"), [2, 1]);
    assert_eq!(found("%"), [2], "a sign of LIKE stands for itself");
    assert_eq!(found("_"), [3]);
    assert_eq!(found("\\"), [4]);
    assert_eq!(found("ada"), [5, 4, 3, 2, 1], "the author is Ada");
    assert_eq!(found("nobody"), [0_u64; 0]);
}
