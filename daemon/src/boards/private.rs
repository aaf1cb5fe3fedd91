//! What is not everyone's to read.

use serde_json::Value;

/// What stands in the place of a private member.
pub const HIDDEN: &str = "(hidden)";

/// Hides members of these names, however deep in lists and objects they are.
pub fn hide(value: &mut Value, private: &[&str]) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, private)),
        Value::Object(members) => {
            for (name, member) in members {
                if private.contains(&name.as_str()) {
                    *member = Value::from(HIDDEN);
                } else {
                    hide(member, private);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_private_is_hidden_wherever_it_is_and_nothing_else() {
        let mut list =
            json!({ "items": [{ "name": "Ada", "email": "a@b" }], "email": { "x": 1 }, "mail": "email" });
        hide(&mut list, &["email"]);
        let expected =
            json!({ "items": [{ "name": "Ada", "email": HIDDEN }], "email": HIDDEN, "mail": "email" });
        assert_eq!(list, expected);
    }
}
