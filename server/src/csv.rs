//! Rows of text for spreadsheets: RFC 4180, and nothing in them that a spreadsheet
//! would take for a formula.
//!
//! **Invariant:** a field never begins with what makes a formula; a `'` is put before it, and
//! before one that is there already. So whoever takes one `'` away from the front has the field as it was.

use std::io::{self, Write};

/// Whether a field that begins so would be reckoned, also in the wide form of East Asian keyboards.
fn is_begun_formula(first: char) -> bool {
    matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠' | '\'')
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
        let mark = if field.starts_with(is_begun_formula) { "'" } else { "" };
        if field.contains(['"', ',', '\r', '\n']) {
            write!(to, "\"{mark}{}\"", field.replace('"', "\"\""))?;
        } else {
            write!(to, "{mark}{field}")?;
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

    fn a_field() -> impl Strategy<Value = String> {
        prop_oneof!["[=+@'\"\t\r\n,;|-]{0,4}.{0,6}", "[＝＋－＠]{1}cmd", any::<String>(),]
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
            let cells = read(&String::from_utf8(bytes).unwrap());
            for cell in cells.iter().flatten() {
                let first = cell.chars().next().unwrap_or('x');
                prop_assert!(first == '\'' || !is_begun_formula(first), "{cell:?}");
            }
            let plain = |cell: &String| cell.strip_prefix('\'').unwrap_or(cell).to_owned();
            let plain: Vec<Vec<String>> = cells.iter().map(|row| row.iter().map(plain).collect()).collect();
            prop_assert_eq!(plain, rows);
        }
    }

    #[test]
    fn a_row_looks_as_it_should() {
        let mut bytes = Vec::new();
        let row = ["bob", "", "=1+1", "say \"hi\", twice", "-5", "＝SUM(A1)", "'tis", "a=b"];
        write_row(&mut bytes, row).unwrap();
        let expected = "bob,,'=1+1,\"say \"\"hi\"\", twice\",'-5,'＝SUM(A1),''tis,a=b\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
