//! Which quotes are hidden, and by whom.

use rusqlite::{Transaction, params};

/// Hides a quote; false when it was hidden already.
pub(super) fn hide(transaction: &Transaction<'_>, seq: u64, by: &str, index: u64) -> rusqlite::Result<bool> {
    let rows = transaction
        .prepare_cached(
            "INSERT INTO hidden_quotes (seq, by, idx) VALUES (?1, ?2, ?3) ON CONFLICT (seq) DO NOTHING",
        )?
        .execute(params![seq.cast_signed(), by, index.cast_signed()])?;
    Ok(rows == 1)
}

/// Restores a quote; false when it was not hidden.
pub(super) fn restore(transaction: &Transaction<'_>, seq: u64) -> rusqlite::Result<bool> {
    let rows = transaction
        .prepare_cached("DELETE FROM hidden_quotes WHERE seq = ?1")?
        .execute([seq.cast_signed()])?;
    Ok(rows == 1)
}
