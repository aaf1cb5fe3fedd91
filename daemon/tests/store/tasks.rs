//! Tasks: versions, and the entries that made each what it is.

use chorus::boards::{Change, Input, ListQuery, Outcome};
use serde_json::{Value, json};

use super::support::{EPOCH_MS, Node, board, code, command, entry, list, list_by, open};

fn act(node: &mut Node, at: u64, op: &str, key: Option<&str>, body: Value) -> Outcome {
    let input = Input { key: key.map(str::to_owned), body, ..Input::default() };
    node.run(vec![entry(at, EPOCH_MS + at, &command(&format!("r{at}"), "tasks", op, input))]).remove(0)
}

fn history(node: &Node, id: &str) -> Option<Vec<Value>> {
    let part = node.stores().read(|connection| board("tasks").part(connection, id, "history")).unwrap();
    part.map(|part| part["items"].as_array().unwrap().clone())
}

fn task(title: &str) -> Value {
    json!({ "title": title, "created_by": "Ada" })
}

#[test]
fn a_task_tells_which_entries_made_it_what_it_is_even_after_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    act(&mut node, 1, "add", None, task("Sweep the yard"));
    act(&mut node, 2, "change", Some("1"), json!({ "status": "doing", "assignee": "Bob" }));
    let row = json!({
        "id": 1, "title": "Sweep the yard", "status": "doing", "created_by": "Ada", "node": "n1",
        "assignee": "Bob", "at_ms": EPOCH_MS + 1, "version": 2
    });
    assert_eq!(list(node.stores(), "tasks"), [row]);
    assert!(matches!(
        act(&mut node, 3, "delete", Some("1"), Value::Null),
        Outcome::Done { change: Change::Deleted, .. }
    ));
    assert_eq!(list(node.stores(), "tasks"), [Value::Null; 0]);
    let told = history(&node, "1").unwrap();
    let kinds: Vec<_> = told
        .iter()
        .map(|entry| (entry["index"].as_u64().unwrap(), entry["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(kinds, [(1, "created"), (2, "changed"), (3, "deleted")]);
    let change =
        json!({ "status": { "from": "todo", "to": "doing" }, "assignee": { "from": "", "to": "Bob" } });
    assert_eq!((&told[1]["change"], &told[1]["term"]), (&change, &json!(1)));
    assert_eq!(history(&node, "9"), None);
    assert_eq!(history(&node, "x"), None);
}

#[test]
fn a_number_is_never_given_to_a_second_task() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    act(&mut node, 1, "add", None, task("one"));
    act(&mut node, 2, "delete", Some("1"), Value::Null);
    assert!(matches!(act(&mut node, 3, "add", None, task("two")), Outcome::Done { id, .. } if id == "2"));
}

#[test]
fn of_two_who_change_the_same_version_the_second_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    act(&mut node, 1, "add", None, task("one"));
    let change = |status: &str| json!({ "status": status, "version": 1 });
    assert!(matches!(act(&mut node, 2, "change", Some("1"), change("doing")), Outcome::Done { .. }));
    assert_eq!(code(&act(&mut node, 3, "change", Some("1"), change("done"))), "stale_version");
    assert_eq!(code(&act(&mut node, 4, "change", Some("7"), change("done"))), "not_found");
    assert_eq!(code(&act(&mut node, 5, "delete", Some("7"), Value::Null)), "not_found");
    let input = Input { key: Some("1".to_owned()), if_match: Some(Some(1)), body: Value::Null };
    let stale = node.run(vec![entry(6, EPOCH_MS, &command("stale", "tasks", "delete", input))]).remove(0);
    assert_eq!(code(&stale), "stale_version");
}

#[test]
fn tasks_are_listed_by_status_assignee_and_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    for (at, (title, assignee)) in (1..).zip([("a", "Ada"), ("b", "Bob"), ("c", "Ada")]) {
        let body = json!({ "title": title, "created_by": "Ada", "assignee": assignee });
        act(&mut node, at, "add", None, body);
    }
    act(&mut node, 4, "change", Some("3"), json!({ "status": "done" }));
    let ids = |filters: &[(&'static str, &str)], limit| {
        let filters = filters.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let page = list_by(node.stores(), "tasks", &ListQuery { limit, filters, ..ListQuery::default() });
        page["items"].as_array().unwrap().iter().map(|task| task["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[], 2), [1, 2]);
    assert_eq!(ids(&[("assignee", "Ada")], 9), [1, 3]);
    assert_eq!(ids(&[("assignee", "Ada"), ("status", "todo"), ("node", "n1")], 9), [1]);
    assert_eq!(ids(&[("node", "n2")], 9), [0_i64; 0]);
}

#[test]
fn what_cannot_be_is_named() {
    let wrong = |op: &str, key: Option<&str>, body: Value| {
        let operation = board("tasks").operations().iter().find(|known| known.name == op).unwrap();
        let input = Input { key: key.map(str::to_owned), body, ..Input::default() };
        let wrong = board("tasks").check(operation, input).unwrap_err();
        wrong.into_iter().map(|invalid| invalid.field).collect::<Vec<_>>()
    };
    assert_eq!(wrong("add", None, json!({ "status": "maybe" })), ["title", "status", "created_by"]);
    assert_eq!(wrong("change", Some("1"), json!({ "status": "Done" })), ["status"]);
    assert_eq!(wrong("change", Some("one"), json!({})), ["key", "body"]);
    assert_eq!(wrong("change", Some("1"), json!({ "title": "t", "version": 0 })), ["version"]);
}
