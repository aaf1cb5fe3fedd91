//! The bookstore: stock that is counted in the state machine, orders, what is refused.

use chorus::boards::{Change, Input, ListQuery, Listed, Outcome};
use serde_json::{Value, json};

use super::support::{EPOCH_MS, Node, board, code, command, entry, list, list_by, open};

fn act(node: &mut Node, at: u64, op: &str, key: Option<&str>, body: Value) -> Outcome {
    let input = Input { key: key.map(str::to_owned), body, ..Input::default() };
    node.run(vec![entry(at, EPOCH_MS + at, &command(&format!("r{at}"), "books", op, input))]).remove(0)
}

fn wrong(op: &str, key: Option<&str>, body: Value) -> Vec<String> {
    let operation = board("books").operations().iter().find(|known| known.name == op).unwrap();
    let input = Input { key: key.map(str::to_owned), body, ..Input::default() };
    board("books").check(operation, input).unwrap_err().into_iter().map(|invalid| invalid.field).collect()
}

fn seeded(dir: &std::path::Path) -> Node {
    let mut node = open(dir);
    assert!(matches!(
        act(&mut node, 1, "seed", None, Value::Null),
        Outcome::Done { change: Change::Created, .. }
    ));
    node
}

fn book(node: &Node, id: &str) -> Value {
    node.stores().read(|connection| board("books").find(connection, id)).unwrap().unwrap()
}

#[test]
fn the_seven_titles_are_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = seeded(dir.path());
    let third = json!({
        "id": 3, "title": "Xen and the Art of Surviving Graduate School", "topic": "GraduateSchool",
        "cost_minor": 300, "stock": 1_000, "version": 1
    });
    assert_eq!(book(&node, "3"), third);
    act(&mut node, 2, "purchase", Some("3"), json!({ "quantity": 1 }));
    assert!(matches!(
        act(&mut node, 3, "seed", None, Value::Null),
        Outcome::Done { change: Change::Changed, .. }
    ));
    assert_eq!(list(node.stores(), "books").len(), 7);
    assert_eq!(book(&node, "3")["stock"], 999, "what is there stays as it is");
}

#[test]
fn titles_are_found_by_topic_page_by_page_and_an_unknown_topic_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let node = seeded(dir.path());
    let query = |topic: &str, limit, after: Option<&str>| ListQuery {
        limit,
        after: after.map(str::to_owned),
        filters: [("topic", topic.to_owned())].into(),
        ..ListQuery::default()
    };
    let ids = |page: &Value| {
        page["books"].as_array().unwrap().iter().map(|book| book["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let first = list_by(node.stores(), "books", &query("DistributedSystems", 2, None));
    assert_eq!((ids(&first), first["next"].as_str()), (vec![1, 2], Some("2")));
    let second = list_by(node.stores(), "books", &query("DistributedSystems", 2, Some("2")));
    assert_eq!((ids(&second), second["next"].as_str()), (vec![7], None));
    let unknown = query("Gardening", 2, None);
    let listed = node.stores().read(|connection| board("books").list(connection, &unknown)).unwrap();
    assert!(matches!(listed, Listed::Invalid(wrong) if wrong[0].field == "topic"));
}

#[test]
fn the_last_copies_are_sold_once_and_the_loser_hears_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = seeded(dir.path());
    act(&mut node, 2, "change", Some("1"), json!({ "stock": 3 }));
    assert!(matches!(
        act(&mut node, 3, "purchase", Some("1"), json!({ "quantity": 2 })),
        Outcome::Done { change: Change::Created, .. }
    ));
    let too_many = act(&mut node, 4, "purchase", Some("1"), json!({ "quantity": 2 }));
    assert_eq!(code(&too_many), "out_of_stock");
    assert!(
        matches!(act(&mut node, 5, "purchase", Some("1"), Value::Null), Outcome::Done { .. }),
        "one is the default"
    );
    assert_eq!(code(&act(&mut node, 6, "purchase", Some("1"), Value::Null)), "out_of_stock");
    assert_eq!(code(&act(&mut node, 7, "purchase", Some("99"), Value::Null)), "not_found");
    assert_eq!(book(&node, "1")["stock"], 0);
    let orders = list(node.stores(), "orders");
    assert_eq!(orders.iter().map(|order| order["quantity"].as_i64().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(orders[1]["cost_minor"], 200);
    act(&mut node, 8, "restock", Some("1"), json!({ "quantity": 5 }));
    assert_eq!(book(&node, "1")["stock"], 5);
}

#[test]
fn a_purchase_is_told_on_both_boards() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = seeded(dir.path());
    act(&mut node, 2, "purchase", Some("7"), json!({ "quantity": 4 }));
    let (told, _) = node.stores().events(1, 2, usize::MAX).unwrap();
    let told: Vec<_> = told[0].items.iter().map(|item| (item.topic.as_str(), item.kind)).collect();
    assert_eq!(told, [("books", Change::Changed), ("orders", Change::Created)]);
}

#[test]
fn a_title_changes_only_from_the_version_that_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = seeded(dir.path());
    let change = |version| {
        let body = json!({ "title": "RPCs for Experts" });
        Input { key: Some("2".to_owned()), if_match: Some(Some(version)), body }
    };
    let first = node.run(vec![entry(2, EPOCH_MS, &command("a", "books", "change", change(1)))]).remove(0);
    assert!(matches!(first, Outcome::Done { .. }));
    let second = node.run(vec![entry(3, EPOCH_MS, &command("b", "books", "change", change(1)))]).remove(0);
    assert_eq!(code(&second), "stale_version");
    assert_eq!(
        (book(&node, "2")["title"].as_str(), book(&node, "2")["cost_minor"].as_i64()),
        (Some("RPCs for Experts"), Some(200))
    );
}

#[test]
fn quantities_and_prices_that_cannot_be_are_named() {
    for quantity in [json!(0), json!(-1), json!(1.5), json!("2"), json!(1_000_001)] {
        assert_eq!(wrong("purchase", Some("1"), json!({ "quantity": quantity })), ["quantity"]);
    }
    for key in [None, Some("x"), Some("0"), Some("-3"), Some("1.0")] {
        assert_eq!(wrong("purchase", key, Value::Null), ["key"]);
    }
    assert_eq!(wrong("change", Some("1"), json!({})), ["body"]);
    let body = json!({ "title": "", "topic": "a\u{7}", "cost_minor": -1, "stock": 1e30 });
    assert_eq!(wrong("add", None, body), ["title", "topic", "cost_minor", "stock"]);
}
