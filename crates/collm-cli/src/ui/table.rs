//! Tables without lines: a first column of names, then right-aligned numbers.

use comfy_table::{CellAlignment, ContentArrangement, Table};

/// A table whose first column names things and whose others hold numbers.
pub(crate) fn numbers(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = words(header, rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    finish(&table)
}

/// A table of words.
pub(crate) fn text(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    finish(&words(header, rows))
}

/// A number that may not be there.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn words(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied()).add_rows(rows);
    table
}

fn finish(table: &Table) -> String {
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_under_each_other() {
        let table = numbers(
            &["mode", "time"],
            [vec!["whole".to_owned(), "1 s".to_owned()], vec!["a".to_owned(), "10 s".to_owned()]],
        );
        assert_eq!(table, " mode   time\n whole   1 s\n a      10 s");
    }
}
