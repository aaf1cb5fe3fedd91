//! Characters that are no text.

/// C0, DEL and C1: a list that no version of Unicode will change.
pub(super) fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}')
}
