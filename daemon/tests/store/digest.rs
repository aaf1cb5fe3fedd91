//! The same commands leave the same state, to the byte, whatever built the program: optimised or not, here or there.

use chorus::boards::Input;
use chorus_proto::types::Entry;
use serde_json::{Value, json};

use super::support::{EPOCH_MS, command, entry, everything, open, uuid_v7};

/// Of `everything` after `commands`. Another value means that some command has another effect than in the program that
/// wrote it: then it needs another version.
const DIGEST: &str = "cc4872bff21128e18642dec62e12865a4478079cc714b90b33d67b5b82b90af3";

/// Some of all that the boards can do, also what they refuse; drawn by a generator of fixed seed.
fn commands() -> Vec<Entry> {
    let mut random = fastrand::Rng::with_seed(1_859);
    let mut entries = Vec::new();
    for index in 1..=2_000_u64 {
        let time_ms = EPOCH_MS + index * 7;
        let n = random.u64(1..40);
        let (board, op, key, body): (_, _, Option<String>, Value) = match random.u32(0..14) {
            0 => ("quotes", "post", None, json!({ "author": "Ada", "text": format!("Nr {n}: ä 語 🎻") })),
            1 => ("quotes", "hide", Some(random.u64(1..=index).to_string()), json!({ "by": "Grace" })),
            2 => ("quotes", "restore", Some(random.u64(1..=index).to_string()), json!({ "by": "Grace" })),
            3 => ("donors", "add", None, donor(n)),
            4 => ("donors", "import", None, json!({ "rows": (0..n).map(donor).collect::<Vec<_>>() })),
            5 => ("books", "seed", None, Value::Null),
            6 => (
                "books",
                "add",
                None,
                json!({ "title": format!("T{n}"), "topic": "X", "cost_minor": n, "stock": n }),
            ),
            7 => ("books", "purchase", Some(n.to_string()), json!({ "quantity": n * 9 })),
            8 => ("books", "restock", Some(n.to_string()), json!({ "quantity": n })),
            9 => ("tasks", "add", None, json!({ "title": format!("Task {n}"), "created_by": "Bob" })),
            10 => (
                "tasks",
                "change",
                Some(n.to_string()),
                json!({ "status": "done", "assignee": format!("A{n}") }),
            ),
            11 => ("tasks", "delete", Some(n.to_string()), Value::Null),
            12 => ("store", "put", Some(format!("key {n}")), json!({ "value": format!("value {index}") })),
            _ => ("store", "delete", Some(format!("key {n}")), Value::Null),
        };
        let id = if index % 3 == 0 {
            uuid_v7(time_ms, index)
        } else {
            format!("request {index}").replace(' ', "-")
        };
        entries.push(entry(index, time_ms, &command(&id, board, op, Input { key, if_match: None, body })));
    }
    entries
}

fn donor(n: u64) -> Value {
    json!({ "name": format!("D{n}"), "email": format!("d{n}@example.org"), "amount_minor": n + 1, "currency": "EUR" })
}

#[test]
fn the_same_commands_leave_the_same_state_in_every_build() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.run(commands());
    node.close();
    let mut hasher = blake3::Hasher::new();
    for row in everything(dir.path()) {
        hasher.update(row.as_bytes()).update(b"\n");
    }
    assert_eq!(hasher.finalize().to_hex().as_str(), DIGEST);
}
