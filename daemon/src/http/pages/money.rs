//! Amounts as people write them. What is kept is a whole number of the currency's smallest unit.

/// Currencies whose smallest unit is not a hundredth (ISO 4217).
const OTHERS: &[(&str, usize)] = &[
    ("BHD", 3),
    ("CLP", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("TND", 3),
    ("UGX", 0),
    ("VND", 0),
    ("XAF", 0),
    ("XOF", 0),
];

/// Digits behind the point.
fn digits(currency: &str) -> usize {
    OTHERS.iter().find(|(code, _)| *code == currency).map_or(2, |(_, digits)| *digits)
}

/// `1250` of `EUR` is `12.50`.
pub(super) fn shown(minor: i64, currency: &str) -> String {
    let digits = digits(currency);
    if digits == 0 {
        return minor.to_string();
    }
    let text = format!("{:0width$}", minor.unsigned_abs(), width = digits + 1);
    let (whole, part) = text.split_at(text.len() - digits);
    format!("{}{whole}.{part}", if minor < 0 { "-" } else { "" })
}

/// `12.50`, `12,5` and `12` of `EUR` are `1250`, `1250` and `1200`; none for what is no amount of this currency.
pub(super) fn minor(text: &str, currency: &str) -> Option<i64> {
    let digits = digits(currency);
    let text = text.trim();
    let (whole, part) = text.split_once(['.', ',']).unwrap_or((text, ""));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    if unsigned.is_empty() || !plain(unsigned) || !plain(part) || part.len() > digits {
        return None;
    }
    format!("{whole}{part:0<digits$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_know_the_same_currencies() {
        let table: Vec<_> = OTHERS.iter().map(|(code, digits)| format!("{code}: {digits}")).collect();
        let money = include_str!("../../../../web/assets/money.js");
        assert!(money.contains(&format!("const OTHERS = {{ {} }};", table.join(", "))), "{table:?}");
    }

    #[test]
    fn amounts_are_written_with_as_many_digits_as_their_currency_has() {
        for (minor_units, currency, text) in [
            (1250, "EUR", "12.50"),
            (5, "EUR", "0.05"),
            (1250, "JPY", "1250"),
            (1250, "KWD", "1.250"),
            (-1250, "EUR", "-12.50"),
        ] {
            assert_eq!(shown(minor_units, currency), text);
            assert_eq!(minor(text, currency), Some(minor_units));
        }
        assert_eq!((minor("12,5", "EUR"), minor(" 12 ", "EUR")), (Some(1250), Some(1200)));
        for bad in ["", "twelve", "1.234", "1.2.3", "1e3", "0x1", "--1", "+5", ".", "99999999999999999999"] {
            assert_eq!(minor(bad, "EUR"), None, "{bad}");
        }
        assert_eq!(minor("1.5", "JPY"), None);
    }
}
