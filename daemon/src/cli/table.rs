//! Columns for people.

/// Rows under a heading, each column as wide as its widest cell; without blanks at the end of a line.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let width = |n: usize| {
        rows.iter().map(|row| row[n].chars().count()).chain([heading[n].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells: Vec<String> =
            cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let body = rows.iter().map(|row| line(std::array::from_fn(|n| row[n].as_str())));
    std::iter::once(line(heading)).chain(body).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_as_wide_as_its_widest_cell() {
        let rows = [["n1".to_owned(), "leader".to_owned()], ["n10".to_owned(), String::new()]];
        assert_eq!(table(["node", "role"], &rows), "node  role\nn1    leader\nn10");
    }
}
