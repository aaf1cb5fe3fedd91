//! Donors: amounts, totals, orders, imports.

use chorus::boards::{Change, Input, ListQuery, Listed, Outcome};
use serde_json::{Value, json};

use super::support::{EPOCH_MS, Node, board, command, entry, list, list_by, open};

fn input(body: Value) -> Input {
    Input { body, ..Input::default() }
}

fn donor(name: &str, amount_minor: i64, currency: &str) -> Value {
    json!({ "name": name, "email": format!("{name}@example.org"), "amount_minor": amount_minor, "currency": currency })
}

fn add(node: &mut Node, at: u64, donor: Value) -> Outcome {
    let command = command(&format!("r{at}"), "donors", "add", input(donor));
    node.run(vec![entry(at, EPOCH_MS + at, &command)]).remove(0)
}

fn wrong(op: &str, body: Value) -> Vec<String> {
    let operation = board("donors").operations().iter().find(|known| known.name == op).unwrap();
    board("donors")
        .check(operation, input(body))
        .unwrap_err()
        .into_iter()
        .map(|invalid| invalid.field)
        .collect()
}

fn names(node: &Node, sort: &str, limit: u32) -> Vec<String> {
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let query =
            ListQuery { limit, after, filters: [("sort", sort.to_owned())].into(), ..ListQuery::default() };
        let page = list_by(node.stores(), "donors", &query);
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return names,
        }
    }
}

#[test]
fn every_wrong_field_of_a_donor_is_named() {
    assert_eq!(wrong("add", json!({})), ["name", "email", "amount_minor", "currency"]);
    for amount in [json!(0), json!(-5), json!(1.5), json!("12"), json!(u64::MAX), json!(null)] {
        let mut body = donor("ada", 1, "EUR");
        body["amount_minor"] = amount;
        assert_eq!(wrong("add", body), ["amount_minor"]);
    }
    for (field, text) in
        [("email", "ada@"), ("currency", "eur"), ("currency", "EURO"), ("name", " "), ("name", "a\tb")]
    {
        let mut body = donor("ada", 1, "EUR");
        body[field] = json!(text);
        assert_eq!(wrong("add", body), [field]);
    }
}

#[test]
fn a_wrong_row_of_an_import_is_named_with_its_place() {
    let mut rows = vec![donor("ada", 1, "EUR"), donor("bob", 0, "EUR"), donor("cyd", 1, "?")];
    assert_eq!(wrong("import", json!({ "rows": rows })), ["rows 2: amount_minor", "rows 3: currency"]);
    rows.push(json!(7));
    assert!(wrong("import", json!({ "rows": rows })).contains(&"rows 4: body".to_owned()));
    for body in [
        json!({}),
        json!({ "rows": [] }),
        json!({ "rows": "x" }),
        json!({ "rows": vec![donor("a", 1, "EUR"); 1_001] }),
    ] {
        assert_eq!(wrong("import", body), ["rows"]);
    }
}

#[test]
fn donors_are_listed_in_each_order_page_by_page_with_totals_by_currency() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    for (at, (name, amount)) in (1..).zip([("Cyd", 300), ("ada", 100), ("Bob", 300), ("dan", 200)]) {
        assert!(matches!(add(&mut node, at, donor(name, amount, "EUR")), Outcome::Done { .. }));
    }
    add(&mut node, 5, donor("Eve", 50, "CHF"));
    for limit in [1, 2, 500] {
        let mut orders = Vec::new();
        for sort in ["newest", "name", "email", "amount"] {
            orders.push(names(&node, sort, limit).join(" "));
        }
        assert_eq!(
            orders,
            ["Eve dan Bob ada Cyd", "ada Bob Cyd dan Eve", "ada Bob Cyd dan Eve", "Eve ada dan Cyd Bob"]
        );
        for (up, down) in
            [("oldest", "newest"), ("name", "-name"), ("email", "-email"), ("amount", "-amount")]
        {
            let mut reversed = names(&node, down, limit);
            reversed.reverse();
            assert_eq!(names(&node, up, limit), reversed, "{down}");
        }
    }
    let page = list_by(node.stores(), "donors", &ListQuery { limit: 1, ..ListQuery::default() });
    let totals = json!([
        { "currency": "CHF", "donors": 1, "amount_minor": 50 },
        { "currency": "EUR", "donors": 4, "amount_minor": 900 }
    ]);
    assert_eq!(page["totals"], totals);
}

#[test]
fn a_page_that_begins_nowhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path());
    let query = ListQuery { limit: 1, after: Some("x".to_owned()), ..ListQuery::default() };
    let listed = node.stores().read(|connection| board("donors").list(connection, &query)).unwrap();
    assert!(matches!(listed, Listed::Invalid(wrong) if wrong[0].field == "after"));
}

#[test]
fn an_import_adds_all_of_its_donors_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let rows: Vec<Value> = (0..1_000).map(|n| donor(&format!("d{n:04}"), 1, "EUR")).collect();
    let import = command("all", "donors", "import", input(json!({ "rows": rows })));
    let outcome = node.run(vec![entry(1, EPOCH_MS, &import)]).remove(0);
    assert!(matches!(outcome, Outcome::Done { change: Change::Created, index: 1, .. }), "{outcome:?}");
    assert_eq!(names(&node, "oldest", 300).len(), 1_000);

    // A donor whose client chose the very id that the second row of a later import gets.
    let probe = tempfile::tempdir().unwrap();
    let mut other = open(probe.path());
    let pair = json!({ "rows": [donor("x", 1, "EUR"), donor("y", 1, "EUR")] });
    let later = command("later", "donors", "import", input(pair));
    other.run(vec![
        entry(1, EPOCH_MS, &import),
        entry(2, EPOCH_MS, &command("r", "donors", "add", input(donor("z", 1, "EUR")))),
        entry(3, EPOCH_MS, &later),
    ]);
    let taken = list(other.stores(), "donors")[0]["id"].as_str().unwrap().to_owned();
    let squat = command(&taken, "donors", "add", input(donor("squat", 7, "EUR")));
    let outcomes = node.run(vec![entry(2, EPOCH_MS, &squat), entry(3, EPOCH_MS, &later)]);
    assert!(matches!(&outcomes[1], Outcome::Refused { code, .. } if code == "id_reused"), "{outcomes:?}");
    assert_eq!(names(&node, "newest", 300).len(), 1_001, "nothing of the refused import is left");
    let page = list_by(node.stores(), "donors", &ListQuery { limit: 1, ..ListQuery::default() });
    assert_eq!(page["totals"][0], json!({ "currency": "EUR", "donors": 1_001, "amount_minor": 1_007 }));
}

#[test]
fn a_total_that_cannot_be_counted_refuses_the_donor() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    add(&mut node, 1, donor("ada", 1, "EUR"));
    drop(node);
    let state = rusqlite::Connection::open(dir.path().join("state/1/state.db")).unwrap();
    state.execute("UPDATE donor_totals SET amount_minor = ?1", [i64::MAX - 5]).unwrap();
    drop(state);
    let mut node = open(dir.path());
    assert!(matches!(add(&mut node, 2, donor("bob", 5, "EUR")), Outcome::Done { .. }));
    let outcome = add(&mut node, 3, donor("cyd", 1, "EUR"));
    assert!(matches!(&outcome, Outcome::Refused { code, .. } if code == "invalid"), "{outcome:?}");
    assert_eq!(list(node.stores(), "donors").len(), 2);
}
