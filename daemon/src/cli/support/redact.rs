//! Takes out of a text what nobody else should read, whatever brought it there.

/// A key has so many hexadecimal digits; so has a digest, which nobody will miss.
const KEY_DIGITS: usize = 64;
/// What stands after such a word, and a colon or an equals sign, is secret. In small letters; a longer word may end with one.
const SECRET_WORDS: [&str; 9] =
    ["token", "secret", "password", "passwd", "passphrase", "authorization", "cookie", "apikey", "api_key"];
/// Schemes of HTTP's `Authorization`: the secret comes after them.
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// The text without keys, tokens, passwords and e-mail addresses.
pub(super) fn redact(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    // A word that announces a secret was read, and the sign behind it.
    let (mut announced, mut armed) = (false, false);
    for piece in pieces(text) {
        if !is_word(piece) {
            armed |= announced && piece.contains([':', '=']);
            announced &= armed;
            // A line ends what was announced on it.
            if piece.contains('\n') {
                (announced, armed) = (false, false);
            }
            redacted.push_str(piece);
            continue;
        }
        let small = piece.to_ascii_lowercase();
        let is_scheme = SCHEMES.contains(&small.as_str());
        if armed && !is_scheme {
            redacted.push_str("[secret]");
            (announced, armed) = (false, false);
            continue;
        }
        armed |= is_scheme;
        announced = SECRET_WORDS.iter().any(|word| small.ends_with(word));
        redacted.push_str(&without_keys(piece));
    }
    redacted
}

/// Words, and what is between them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let word = is_of_word(first);
        let end = rest.find(|letter| is_of_word(letter) != word).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// What may stand in a token, an address or a key.
fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || "@._-+%/~".contains(letter)
}

fn is_word(piece: &str) -> bool {
    piece.starts_with(is_of_word)
}

fn without_keys(word: &str) -> String {
    if is_address(word) {
        return "[e-mail]".to_owned();
    }
    let digits = word.split(|letter: char| !letter.is_ascii_hexdigit());
    let keys = digits.filter(|digits| digits.len() >= KEY_DIGITS);
    keys.fold(word.to_owned(), |redacted, key| redacted.replace(key, "[key]"))
}

/// Something on both sides of an at sign: an e-mail address, or name and password before a host.
fn is_address(word: &str) -> bool {
    let has_letter = |part: &str| part.chars().any(char::is_alphanumeric);
    // Units are named so.
    let is_unit = word.starts_with("chorus@");
    word.split_once('@').is_some_and(|(before, after)| has_letter(before) && has_letter(after)) && !is_unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_all_else_stays() {
        let key = "0123456789abcdefABCDEF0123456789".repeat(2);
        for (text, expected) in [
            (format!("the key is {key}, he said"), "the key is [key], he said"),
            (format!("x={key}{key}\n"), "x=[key]\n"),
            ("mail ada@example.org or <bob.b+x@mail.example.org>".to_owned(), "mail [e-mail] or <[e-mail]>"),
            ("http://ada:pw@host.example/x".to_owned(), "http://ada:[e-mail]"),
            (
                "Authorization: Bearer abc.def-123 and more".to_owned(),
                "Authorization: Bearer [secret] and more",
            ),
            ("{\"token\":\"abc\",\"term\":7}".to_owned(), "{\"token\":\"[secret]\",\"term\":7}"),
            ("CHORUS_WRITERS_TOKEN=abc x".to_owned(), "CHORUS_WRITERS_TOKEN=[secret] x"),
            ("password = hunter2".to_owned(), "password = [secret]"),
            ("under the same secret on eth0".to_owned(), "under the same secret on eth0"),
            ("the cluster's secret\nterm: 7".to_owned(), "the cluster's secret\nterm: 7"),
            ("chorus@n1.service of c0ffee12.1".to_owned(), "chorus@n1.service of c0ffee12.1"),
            ("chorus_commit_index 1201".to_owned(), "chorus_commit_index 1201"),
        ] {
            assert_eq!(redact(&text), expected, "{text}");
        }
    }
}
