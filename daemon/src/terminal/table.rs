//! Columns of text: as wide as their widest cell, numbers to the right.

/// Which way a column's cells are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// The rows below each other, two blanks between columns, no blanks at the ends of lines. Rows may be shorter than
/// `aligns`; cells beyond it are moved to the left.
pub(super) fn columns(aligns: &[Align], rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells =
            row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
                match aligns.get(column).unwrap_or(&Align::Left) {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                }
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_with_text() {
        let rows = [vec!["a", "1"], vec!["größer", "12", "x"], vec![]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        let lines = columns(&[Align::Left, Align::Right], &rows);
        assert_eq!(lines, ["a        1", "größer  12  x", ""]);
    }
}
