//! Names and values as forms and query strings carry them (`application/x-www-form-urlencoded`).

use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use serde_json::Value;

use super::problem::Problem;
use crate::boards::{Field, Kind};

/// Fields by name; of a name that comes twice the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads `a=1&b=two+words`.
    ///
    /// # Errors
    /// Names every field that is not UTF-8.
    pub(super) fn parse(text: impl AsRef<[u8]>) -> Result<Self, Problem> {
        let mut fields = BTreeMap::new();
        let mut broken = Vec::new();
        for pair in text.as_ref().split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=').map(bytes_of);
            let name = String::from_utf8_lossy(&halves.next().unwrap_or_default()).into_owned();
            match String::from_utf8(halves.next().unwrap_or_default()) {
                Ok(value) => {
                    fields.insert(name, value);
                }
                Err(_) => broken.push(not_utf8(name)),
            }
        }
        if broken.is_empty() { Ok(Self(fields)) } else { Err(Problem::invalid(broken)) }
    }

    /// A field's value.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that must be a whole number, if it is there and not empty.
    ///
    /// # Errors
    /// Names the field.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        match self.text(name) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Problem::field(name, format!("'{text}' is not a whole number from 0"))),
        }
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Puts a field in, in the place of one of its name.
    pub(super) fn put(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The JSON object that a program would have sent: only what the operation knows; numbers where it wants numbers,
    /// if that is what was typed; a field that was left empty, may be left out and must not be empty is left out.
    pub(super) fn into_json(mut self, fields: &[Field]) -> Value {
        let value = |kind: Kind, text: String| match (kind, text.trim().parse::<i64>()) {
            (Kind::Whole { .. }, Ok(number)) => Value::from(number),
            _ => Value::from(text),
        };
        let given = |field: &Field| {
            let told = |text: &String| field.required || !text.is_empty() || field.broken_text("").is_none();
            let text = self.take(field.name).filter(told)?;
            Some((field.name.to_owned(), value(field.kind, text)))
        };
        fields.iter().filter_map(given).collect()
    }
}

/// What one half of a pair stands for.
fn bytes_of(half: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = half.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).collect()
}

/// A field whose bytes are not UTF-8.
pub(super) fn not_utf8(field: String) -> crate::boards::Invalid {
    crate::boards::Invalid { field, detail: "is not UTF-8 text".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_is_a_space_and_percent_a_byte() {
        let form = Form::parse("author=Ada+L%2E&text=a%2Bb%26c%3D%C3%A9&empty=&bare").unwrap();
        assert_eq!(form.text("author"), Some("Ada L."));
        assert_eq!(form.text("text"), Some("a+b&c=é"));
        assert_eq!((form.text("empty"), form.text("bare")), (Some(""), Some("")));
    }

    #[test]
    fn a_form_becomes_what_a_program_would_have_sent() {
        let fields = [
            Field::required("name", Kind::line(9), ""),
            Field::required("quantity", Kind::Whole { min: 1, max: 9 }, ""),
            Field::optional("note", Kind::line(9), ""),
        ];
        let json = |text| Form::parse(text).unwrap().into_json(&fields);
        let good = serde_json::json!({ "name": "7", "quantity": -3 });
        assert_eq!(json("name=7&quantity=+-3&note=&id=x"), good);
        assert_eq!(
            json("quantity=3.5"),
            serde_json::json!({ "quantity": "3.5" }),
            "the board says what is wrong"
        );
    }

    #[test]
    fn bytes_that_are_no_text_name_their_field() {
        let problem = Form::parse("author=Ada&text=%FF").unwrap_err();
        assert_eq!(problem.status().as_u16(), 422);
        assert!(problem.error_of("text").is_some() && problem.error_of("author").is_none());
        assert!(Form::parse(b"text=\xff").unwrap_err().error_of("text").is_some());
    }

    #[test]
    fn numbers_are_whole_or_named() {
        let form = Form::parse("limit=50&before=x&after=").unwrap();
        assert_eq!(form.number("limit"), Ok(Some(50)));
        assert_eq!(form.number("after"), Ok(None));
        assert!(form.number("before").unwrap_err().error_of("before").is_some());
    }
}
