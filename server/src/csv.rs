//! Rows of text for spreadsheets: RFC 4180, and nothing in them that a spreadsheet
//! would take for a formula.
//!
//! **Invariant:** no field begins with what makes a formula, and neither does what stands in it behind
//! a `;`, a tab or a line's end, where spreadsheets of other languages begin a cell. A `'` is put before it,
//! and before one that is there already. So whoever takes one `'` away from these places has the field as it was.

use std::borrow::Cow;
use std::io::{self, Write};

/// Whether a cell that begins so would be reckoned, also in the wide form of East Asian keyboards.
fn is_begun_formula(first: char) -> bool {
    matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠' | '\'')
}

/// Whether another cell may begin behind it.
fn is_between_cells(character: char) -> bool {
    matches!(character, ';' | '\t' | '\r' | '\n')
}

/// The field with its marks.
fn marked(field: &str) -> Cow<'_, str> {
    if !field.starts_with(is_begun_formula) && !field.contains(is_between_cells) {
        return field.into();
    }
    let mut text = String::with_capacity(field.len() + 4);
    let mut before = None;
    for character in field.chars() {
        // A cell inside may be quoted besides.
        let is_marked = match before {
            None => is_begun_formula(character),
            Some(before) => is_between_cells(before) && (is_begun_formula(character) || character == '"'),
        };
        if is_marked {
            text.push('\'');
        }
        text.push(character);
        before = Some(character);
    }
    // Or the quote that ends the field would begin a cell.
    if before.is_some_and(is_between_cells) {
        text.push('\'');
    }
    text.into()
}

/// Writes one row.
///
/// # Errors
/// Those of `to`.
pub(crate) fn write_row<'a>(to: &mut impl Write, fields: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
    for (number, field) in fields.into_iter().enumerate() {
        if number > 0 {
            to.write_all(b",")?;
        }
        let field = marked(field);
        if field.contains(['"', ',', ';', '\t', '\r', '\n']) {
            write!(to, "\"{}\"", field.replace('"', "\"\""))?;
        } else {
            to.write_all(field.as_bytes())?;
        }
    }
    to.write_all(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads what was written as a spreadsheet does.
    fn read(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field, mut is_quoted) = (Vec::new(), Vec::new(), String::new(), false);
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match (character, is_quoted) {
                ('"', true) if characters.next_if_eq(&'"').is_some() => field.push('"'),
                ('"', _) => is_quoted = !is_quoted,
                (',', false) => row.push(std::mem::take(&mut field)),
                ('\r', false) if characters.next_if_eq(&'\n').is_some() => {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                _ => field.push(character),
            }
        }
        assert!(row.is_empty() && field.is_empty() && !is_quoted, "a row has its end: {text:?}");
        rows
    }

    /// The cells that whoever takes `;` or tabs for commas finds: quotes in the middle are nothing to it.
    fn cells_elsewhere(text: &str, separator: char) -> Vec<String> {
        let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
        let mut characters = text.chars().peekable();
        let mut is_first = true;
        while let Some(character) = characters.next() {
            let was_first = std::mem::take(&mut is_first);
            match character {
                '"' if was_first => is_quoted = true,
                '"' if is_quoted && characters.next_if_eq(&'"').is_some() => cell.push('"'),
                '"' if is_quoted => is_quoted = false,
                _ if !is_quoted && (character == separator || character == '\r' || character == '\n') => {
                    cells.push(std::mem::take(&mut cell));
                    is_first = true;
                }
                _ => cell.push(character),
            }
        }
        cells
    }

    fn a_field() -> impl Strategy<Value = String> {
        prop_oneof!["[=+@'\"\t\r\n,;|-]{0,4}.{0,6}", "[＝＋－＠]{1}cmd", "[a;\t\"'=]{0,9}", any::<String>(),]
    }

    proptest! {
        #[test]
        fn rows_are_read_back_and_none_is_a_formula(
            rows in prop::collection::vec(prop::collection::vec(a_field(), 1..5), 0..6)
        ) {
            let mut bytes = Vec::new();
            for row in &rows {
                write_row(&mut bytes, row.iter().map(String::as_str)).unwrap();
            }
            let text = String::from_utf8(bytes).unwrap();
            for cell in [';', '\t'].into_iter().flat_map(|separator| cells_elsewhere(&text, separator)) {
                let first = cell.chars().next().unwrap_or('x');
                prop_assert!(first == '\'' || !is_begun_formula(first), "{cell:?} of {text:?}");
            }
            let cells = read(&text);
            for cell in cells.iter().flatten() {
                let first = cell.chars().next().unwrap_or('x');
                prop_assert!(first == '\'' || !is_begun_formula(first), "{cell:?}");
            }
            let plain = |cell: &String| {
                let mut before = ';';
                let kept = cell.chars().filter(|&character| {
                    let is_mark = character == '\'' && is_between_cells(before);
                    before = character;
                    !is_mark
                });
                kept.collect::<String>()
            };
            let plain: Vec<Vec<String>> = cells.iter().map(|row| row.iter().map(plain).collect()).collect();
            prop_assert_eq!(plain, rows);
        }
    }

    #[test]
    fn a_row_looks_as_it_should() {
        let mut bytes = Vec::new();
        let row = ["bob", "", "=1+1", "say \"hi\", twice", "-5", "＝SUM(A1)", "'tis", "a=b", "a;=1+1", "a;\"=1\"", ";"];
        write_row(&mut bytes, row).unwrap();
        let expected =
            "bob,,'=1+1,\"say \"\"hi\"\", twice\",'-5,'＝SUM(A1),''tis,a=b,\"a;'=1+1\",\"a;'\"\"=1\"\"\",\";'\"\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
