//! What one request says at the edge: its fields, taken out of the JSON, or named with what is wrong; its key and version.

use serde_json::Value;

use super::field::{Field, Kind};
use super::operation::{Input, Invalid};
use super::version::IfMatch;

/// Gathers what one request says, and what is wrong with it.
#[derive(Debug)]
pub struct Fields {
    input: Input,
    wrong: Vec<Invalid>,
}

impl Fields {
    /// Of this request.
    pub(super) fn of(input: Input) -> Self {
        let mut fields = Self { input, wrong: Vec::new() };
        if !fields.input.body.is_object() && !fields.input.body.is_null() {
            fields.complain("body", "must be a JSON object");
        }
        fields
    }

    /// The key of the row that the request is about; empty if it is about none.
    pub fn key(&mut self) -> String {
        self.input.key.take().unwrap_or_default()
    }

    /// The version that the request wants to be there.
    pub fn if_match(&self) -> Option<IfMatch> {
        IfMatch::of(self.input.if_match)
    }

    /// The text of a field; empty, and complained about, when it is missing, no text, or broken.
    pub fn text(&mut self, field: &Field) -> String {
        self.optional_text(field).unwrap_or_default()
    }

    /// The number of a field; 0, and complained about, when it is missing, no whole number, or out of range.
    pub fn whole(&mut self, field: &Field) -> i64 {
        self.optional_whole(field).unwrap_or_default()
    }

    /// The text of a field that may be left out.
    pub fn optional_text(&mut self, field: &Field) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => {
                let text = one_newline(field, text);
                self.rule(field.name, field.broken_text(&text));
                Some(text)
            }
            _ => {
                self.complain(field.name, "must be text");
                None
            }
        }
    }

    /// The number of a field that may be left out.
    pub fn optional_whole(&mut self, field: &Field) -> Option<i64> {
        let value = self.take(field)?;
        let Some(number) = value.as_i64() else {
            // Only numbers are repeated: a text could be of any length.
            let told = if value.is_number() { format!("is {value}, but ") } else { String::new() };
            self.complain(field.name, &format!("{told}must be a whole number{}", range(field)));
            return None;
        };
        self.rule(field.name, field.broken_whole(number));
        Some(number)
    }

    /// The number of the row that the request is about.
    pub fn whole_key(&mut self) -> i64 {
        let number = self.key().parse().ok().filter(|number| *number > 0);
        self.rule("key", number.is_none().then(|| "must be a whole number from 1".to_owned()));
        number.unwrap_or_default()
    }

    /// The objects of a list, each read by `each`; what is wrong with one bears its place, from 1: `rows 3: email`.
    pub fn rows<T>(&mut self, field: &Field, each: impl Fn(&mut Self) -> T) -> Vec<T> {
        let Kind::Rows { rows_max, .. } = field.kind else { unreachable!("'{}' is no list", field.name) };
        let rows = match self.take(field) {
            Some(Value::Array(rows)) => rows,
            there => {
                self.rule(field.name, there.map(|_| "must be a list".to_owned()));
                return Vec::new();
            }
        };
        let count = rows.len();
        let bad_count = count == 0 || count > rows_max;
        self.rule(field.name, bad_count.then(|| format!("has {count} rows; 1 to {rows_max} are taken")));
        let mut good = Vec::new();
        for (row, number) in rows.into_iter().take(rows_max).zip(1..) {
            let mut fields = Self::of(Input { body: row, ..Input::default() });
            good.push(each(&mut fields));
            let wrong = fields.wrong.into_iter();
            self.wrong.extend(wrong.map(|wrong| Invalid {
                field: format!("{} {number}: {}", field.name, wrong.field),
                detail: wrong.detail,
            }));
        }
        good
    }

    /// Applies a rule to a field, unless it was complained about already.
    pub fn rule(&mut self, field: &str, broken: Option<String>) {
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

    fn take(&mut self, field: &Field) -> Option<Value> {
        match self.input.body.get_mut(field.name).map(Value::take) {
            Some(Value::Null) | None => {
                if field.required {
                    self.complain(field.name, "is missing");
                }
                None
            }
            there => there,
        }
    }

    fn complain(&mut self, field: &str, detail: &str) {
        self.wrong.push(Invalid { field: field.to_owned(), detail: detail.to_owned() });
    }
}

/// A browser sends the lines of a form with CR LF.
fn one_newline(field: &Field, text: String) -> String {
    match field.kind {
        Kind::Text { lines: true, .. } if text.contains('\r') => {
            text.replace("\r\n", "\n").replace('\r', "\n")
        }
        _ => text,
    }
}

fn range(field: &Field) -> String {
    match field.kind {
        Kind::Whole { min, max } => format!(" from {min} to {max}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const QUANTITY: Field = Field::required("quantity", Kind::Whole { min: 1, max: 1_000 }, "");
    const NOTE: Field = Field::optional("note", Kind::lines(4), "");

    fn wrong(body: Value) -> Vec<String> {
        let mut fields = Fields::of(Input { body, ..Input::default() });
        fields.whole(&QUANTITY);
        fields.optional_text(&NOTE);
        fields.finish(()).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_are_whole_and_in_range_or_named() {
        assert_eq!(wrong(json!({ "quantity": 3 })), [""; 0]);
        assert_eq!(wrong(json!({ "quantity": -3 })), ["quantity: is -3, but must be 1 to 1000"]);
        assert_eq!(wrong(json!({})), ["quantity: is missing"]);
        for value in [json!(1.5), json!(1e300), json!(u64::MAX), json!("3"), json!([3]), json!(true)] {
            assert!(wrong(json!({ "quantity": value }))[0].contains("must be a whole number from 1 to 1000"));
        }
    }

    #[test]
    fn what_may_be_left_out_must_still_be_right() {
        assert_eq!(wrong(json!({ "quantity": 1, "note": "a\r\nb" })), [""; 0], "CR LF is one newline");
        assert_eq!(wrong(json!({ "quantity": 1, "note": 7 })), ["note: must be text"]);
        assert!(wrong(json!({ "quantity": 1, "note": "" }))[0].starts_with("note: is empty"));
    }
}
