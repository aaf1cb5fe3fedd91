//! One argument of an operation, or one filter of a list: its name, what it may be, and how a bad one is told.

use super::control::is_control;

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// It must be there.
    pub required: bool,
    /// What it means, for the command line's help and the API's description.
    pub about: &'static str,
}

/// What a field may be. The limits decide outcomes: they are constants of an operation's version.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// So many characters and, unless `lines` are allowed, no control characters; else the newline alone.
    Text {
        /// At least so many.
        chars_min: usize,
        /// At most so many, in Unicode scalar values, so that every node counts alike whatever its Unicode version.
        chars_max: usize,
        /// Whether it may have several lines.
        lines: bool,
    },
    /// Any text, also an empty one.
    Blob {
        /// In bytes of UTF-8.
        bytes_max: usize,
    },
    /// A whole number.
    Whole {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of objects.
    Rows {
        /// At most so many, at least one.
        rows_max: usize,
        /// The fields of each.
        fields: &'static [Field],
    },
}

impl Kind {
    /// One line of 1 to `chars_max` characters.
    #[must_use]
    pub const fn line(chars_max: usize) -> Self {
        Self::Text { chars_min: 1, chars_max, lines: false }
    }

    /// The same, or nothing.
    #[must_use]
    pub const fn line_or_nothing(chars_max: usize) -> Self {
        Self::Text { chars_min: 0, chars_max, lines: false }
    }

    /// One or more lines of 1 to `chars_max` characters together.
    #[must_use]
    pub const fn lines(chars_max: usize) -> Self {
        Self::Text { chars_min: 1, chars_max, lines: true }
    }
}

impl Field {
    /// One that must be there.
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, kind, required: true, about }
    }

    /// One that may be left out.
    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, kind, required: false, about }
    }

    /// The same, but it may be left out.
    #[must_use]
    pub const fn or_not(self) -> Self {
        Self { required: false, ..self }
    }

    /// Whether such a value may be in it; for commands that came around the edge.
    #[must_use]
    pub fn takes(&self, value: &impl Given) -> bool {
        value.broken(self).is_none()
    }

    /// What is wrong with a text in this field, if anything.
    #[must_use]
    pub fn broken_text(&self, text: &str) -> Option<String> {
        match self.kind {
            Kind::Text { chars_min, chars_max, lines } => broken_text(text, chars_min, chars_max, lines),
            Kind::Blob { bytes_max } => broken_blob(text, bytes_max),
            Kind::Choice(words) => broken_choice(text, words),
            Kind::Whole { .. } => Some("must be a whole number".to_owned()),
            Kind::Rows { .. } => Some("must be a list".to_owned()),
        }
    }

    /// What is wrong with a number in this field, if anything.
    #[must_use]
    pub fn broken_whole(&self, number: i64) -> Option<String> {
        match self.kind {
            Kind::Whole { min, max } => {
                (!(min..=max).contains(&number)).then(|| format!("is {number}, but must be {min} to {max}"))
            }
            Kind::Text { .. } | Kind::Blob { .. } | Kind::Choice(_) => Some("must be text".to_owned()),
            Kind::Rows { .. } => Some("must be a list".to_owned()),
        }
    }
}

/// A value of a field. One that was left out is not wrong.
pub trait Given {
    /// What is wrong with it in this field, if anything.
    fn broken(&self, field: &Field) -> Option<String>;
}

impl Given for String {
    fn broken(&self, field: &Field) -> Option<String> {
        field.broken_text(self)
    }
}

impl Given for i64 {
    fn broken(&self, field: &Field) -> Option<String> {
        field.broken_whole(*self)
    }
}

impl<Value: Given> Given for Option<Value> {
    fn broken(&self, field: &Field) -> Option<String> {
        self.as_ref().and_then(|value| value.broken(field))
    }
}

fn broken_text(text: &str, chars_min: usize, chars_max: usize, lines: bool) -> Option<String> {
    let chars = text.chars().count();
    if chars < chars_min {
        return Some(format!("is empty; {chars_min} to {chars_max} characters are needed"));
    }
    if chars > chars_max {
        return Some(format!("has {chars} characters; at most {chars_max} are taken"));
    }
    let control = text.chars().find(|&c| is_control(c) && !(lines && c == '\n'))?;
    let allowed = if lines { "newlines are the only ones taken" } else { "none are taken" };
    Some(format!("has the control character U+{:04X}; {allowed}", u32::from(control)))
}

fn broken_blob(text: &str, bytes_max: usize) -> Option<String> {
    let bytes = text.len();
    (bytes > bytes_max).then(|| format!("has {bytes} bytes; at most {bytes_max} are taken"))
}

fn broken_choice(text: &str, words: &[&str]) -> Option<String> {
    (!words.contains(&text)).then(|| format!("must be one of: {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_says_what_is_wrong_with_which_value() {
        let text = Field::required("t", Kind::line(3), "");
        assert_eq!(text.broken_text("äöü"), None);
        assert!(text.broken_text("").unwrap().contains("1 to 3"));
        assert!(text.broken_text("four").unwrap().contains("has 4"));
        assert!(text.broken_text("a\n").unwrap().contains("U+000A"));
        assert!(text.broken_whole(1).is_some());
        let whole = Field::required("w", Kind::Whole { min: 1, max: 9 }, "");
        assert_eq!((whole.broken_whole(1), whole.broken_whole(9)), (None, None));
        assert_eq!(whole.broken_whole(-4).unwrap(), "is -4, but must be 1 to 9");
        let choice = Field::required("c", Kind::Choice(&["todo", "done"]), "");
        assert_eq!(choice.broken_text("done"), None);
        assert_eq!(choice.broken_text("Done").unwrap(), "must be one of: todo, done");
        assert!(choice.takes(&Some("done".to_owned())) && choice.takes(&None::<String>));
        assert!(!choice.takes(&Some("Done".to_owned())) && !whole.takes(&-4));
    }
}
