//! What counts as an email address: what a person would call one, not all that RFC 5322 allows.

/// What is wrong with it, if anything. Bytes alone decide, so that every node says the same.
pub(super) fn broken(email: &str) -> Option<String> {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return Some("has no @".to_owned());
    };
    if local.is_empty() || local.contains('@') || email.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return Some("must be one name, an @ and a domain, without spaces".to_owned());
    }
    let label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    (!domain.split('.').all(label)).then(|| format!("has no domain behind the @ ('{domain}')"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_name_an_at_and_a_domain() {
        for good in ["ada@example.org", "a.b+c@host", "jürgen@müller.example"] {
            assert_eq!(broken(good), None, "{good}");
        }
        for bad in ["", "ada", "ada@", "@example.org", "a b@c.d", "a@b@c", "a@.org", "a@b..c", "a@-b.c"] {
            assert!(broken(bad).is_some(), "{bad}");
        }
    }
}
