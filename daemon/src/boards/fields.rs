//! Fields of a request at the edge: taken out of the JSON, or named with what is wrong.

use serde_json::Value;

use super::Invalid;

/// Gathers the fields of one request, and what is wrong with them.
#[derive(Debug)]
pub(super) struct Fields {
    body: Value,
    wrong: Vec<Invalid>,
}

impl Fields {
    /// Of this body.
    pub(super) fn of(body: Value) -> Self {
        let mut fields = Self { body, wrong: Vec::new() };
        if !fields.body.is_object() && !fields.body.is_null() {
            fields.complain("body", "must be a JSON object");
        }
        fields
    }

    /// The text of a field; empty, and complained about, when it is missing or no text.
    pub(super) fn text(&mut self, field: &str) -> String {
        match self.body.get_mut(field).map(Value::take) {
            Some(Value::String(text)) => return text,
            Some(Value::Null) | None => self.complain(field, "is missing"),
            Some(_) => self.complain(field, "must be text"),
        }
        String::new()
    }

    /// Applies a rule to a field, unless it was complained about already.
    pub(super) fn rule(&mut self, field: &str, broken: Option<String>) {
        if let Some(detail) = broken
            && !self.wrong.iter().any(|wrong| wrong.field == field)
        {
            self.complain(field, &detail);
        }
    }

    /// The end: everything was right, or everything that was wrong.
    pub(super) fn finish<T>(self, good: T) -> Result<T, Vec<Invalid>> {
        if self.wrong.is_empty() { Ok(good) } else { Err(self.wrong) }
    }

    fn complain(&mut self, field: &str, detail: &str) {
        self.wrong.push(Invalid { field: field.to_owned(), detail: detail.to_owned() });
    }
}

/// What is wrong with a text that must have 1 to `chars_max` characters (Unicode scalar values, so that every node
/// counts alike whatever its Unicode version) and no control characters but, where `lines` are allowed, the newline.
pub(super) fn broken_text(text: &str, chars_max: usize, lines: bool) -> Option<String> {
    let chars = text.chars().count();
    if chars == 0 {
        return Some(format!("is empty; 1 to {chars_max} characters are needed"));
    }
    if chars > chars_max {
        return Some(format!("has {chars} characters; at most {chars_max} are taken"));
    }
    let control = text.chars().find(|&c| is_control(c) && !(lines && c == '\n'))?;
    let allowed = if lines { "newlines are the only ones taken" } else { "none are taken" };
    Some(format!("has the control character U+{:04X}; {allowed}", u32::from(control)))
}

/// C0, DEL and C1: a list that no version of Unicode will change.
pub(super) fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}')
}
