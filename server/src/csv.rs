//! Rows of text for spreadsheets, and those of others: RFC 4180, and nothing in what is written
//! that a spreadsheet would take for a formula.
//!
//! **Invariant:** no field begins with what makes a formula, and neither does what stands in it behind
//! a `;`, a tab or a line's end, where spreadsheets of other languages begin a cell. A `'` is put before it,
//! and before one that is there already. So whoever takes one `'` away from these places has the field as it was.

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};

/// A row that is longer is none: a quote has no end, or the file is something else.
const ROW_BYTES_MAX: u64 = 64 << 10;
/// What some programs begin a file in UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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

/// A field as it was before [`write_row`] made sure that it is no formula; one that it has not written is as it is.
pub(crate) fn unmarked(field: &str) -> String {
    let (mut text, mut before) = (String::with_capacity(field.len()), None);
    let mut characters = field.chars().peekable();
    while let Some(character) = characters.next() {
        let is_mark = character == '\''
            && match (before, characters.peek()) {
                (None, next) => next.is_some_and(|next| is_begun_formula(*next)),
                (Some(before), next) => {
                    is_between_cells(before) && next.is_none_or(|next| is_begun_formula(*next) || *next == '"')
                }
            };
        if !is_mark {
            text.push(character);
        }
        // A mark is none of the field's, and what stands behind it has been looked at.
        before = Some(character);
    }
    text
}

/// Why a row is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    /// The file cannot be read.
    #[error(transparent)]
    Unread(#[from] io::Error),
    /// What the row that begins in this line is, and what it should be.
    #[error("line {0}: {1}")]
    Malformed(u64, &'static str),
}

/// Reads rows one after the other, however long the file is.
pub(crate) struct Rows<R> {
    from: R,
    /// Lines that were read.
    lines: u64,
}

impl<R: BufRead> Rows<R> {
    /// Those of a file in UTF-8, with a mark at its beginning or without, and with either end of lines.
    pub(crate) fn new(from: R) -> Rows<R> {
        Rows { from, lines: 0 }
    }

    /// The next row, and the line it begins in. An empty line is a row of one empty field.
    ///
    /// # Errors
    /// [`RowError`] if it is none.
    pub(crate) fn next_row(&mut self) -> Result<Option<(u64, Vec<String>)>, RowError> {
        let line = self.lines + 1;
        let (mut row, mut quotes) = (Vec::new(), 0_usize);
        // A line may end within a field; then it has one more quote that begins than quotes that end.
        while row.is_empty() || !quotes.is_multiple_of(2) {
            let before = row.len();
            let room = ROW_BYTES_MAX - before as u64;
            let read = (&mut self.from).take(room).read_until(b'\n', &mut row)? as u64;
            if read == room && row.last() != Some(&b'\n') {
                let why =
                    "it has no end within 64 KiB; a quote may be missing, or it is no file of comma-separated values";
                return Err(RowError::Malformed(line, why));
            }
            if read == 0 {
                break;
            }
            // Of what came now only: a field may have tens of thousands of lines.
            quotes += row[before..].iter().filter(|byte| **byte == b'"').count();
            self.lines += 1;
        }
        if row.is_empty() {
            return Ok(None);
        }
        let row = row.strip_suffix(b"\n").map_or(&*row, |row| row.strip_suffix(b"\r").unwrap_or(row));
        let row = if line == 1 { row.strip_prefix(BYTE_ORDER_MARK).unwrap_or(row) } else { row };
        let text = std::str::from_utf8(row).map_err(|_| "it is not in UTF-8; save the file as CSV in UTF-8");
        text.and_then(fields_of).map(|fields| Some((line, fields))).map_err(|why| RowError::Malformed(line, why))
    }
}

fn fields_of(mut rest: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = Vec::new();
    loop {
        if let Some(mut quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            loop {
                let (part, behind) = quoted.split_once('"').ok_or("a quoted field has no end; put a quote there")?;
                field.push_str(part);
                quoted = behind;
                let Some(more) = quoted.strip_prefix('"') else { break };
                field.push('"');
                quoted = more;
            }
            fields.push(field);
            if quoted.is_empty() {
                return Ok(fields);
            }
            rest = quoted.strip_prefix(',').ok_or("something stands behind a quoted field; put a comma between")?;
        } else {
            let (field, behind) = rest.split_once(',').map_or((rest, None), |(field, behind)| (field, Some(behind)));
            if field.contains(['"', '\r']) {
                return Err(
                    "a field has a quote or an end of line in it; put the field in quotes, and double those within",
                );
            }
            fields.push(field.to_owned());
            match behind {
                Some(behind) => rest = behind,
                None => return Ok(fields),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<String>>, RowError> {
        let (mut rows, mut read) = (Rows::new(bytes), Vec::new());
        while let Some((_, row)) = rows.next_row()? {
            read.push(row);
        }
        Ok(read)
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
            // As every file it begins with names of columns: a byte order mark before them is no field's.
            let rows: Vec<Vec<String>> = std::iter::once(vec!["name".to_owned()]).chain(rows).collect();
            let mut bytes = Vec::new();
            for row in &rows {
                write_row(&mut bytes, row.iter().map(String::as_str)).unwrap();
            }
            let text = String::from_utf8(bytes.clone()).unwrap();
            for cell in [';', '\t'].into_iter().flat_map(|separator| cells_elsewhere(&text, separator)) {
                let first = cell.chars().next().unwrap_or('x');
                prop_assert!(first == '\'' || !is_begun_formula(first), "{cell:?} of {text:?}");
            }
            let cells = read(&bytes).unwrap();
            for cell in cells.iter().flatten() {
                let first = cell.chars().next().unwrap_or('x');
                prop_assert!(first == '\'' || !is_begun_formula(first), "{cell:?}");
            }
            let plain = |cell: &String| unmarked(cell);
            let plain: Vec<Vec<String>> = cells.iter().map(|row| row.iter().map(plain).collect()).collect();
            prop_assert_eq!(plain, rows);
        }

        #[test]
        fn whatever_is_read_is_rows_or_refused_with_a_line_that_it_has(
            bytes in prop::collection::vec(prop::sample::select(b"a,\"\r\n\xef\xbb\xbf\xd6".to_vec()), 0..60)
        ) {
            let lines = bytes.split_inclusive(|byte| *byte == b'\n').count() as u64;
            match read(&bytes) {
                Ok(rows) => prop_assert!(rows.len() as u64 <= lines && rows.iter().all(|row| !row.is_empty())),
                Err(RowError::Malformed(line, _)) => prop_assert!((1..=lines).contains(&line)),
                Err(RowError::Unread(error)) => panic!("{error}"),
            }
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

    #[test]
    fn files_of_others_are_read() {
        for (text, expected) in [
            ("a,b\n1,2", vec![vec!["a", "b"], vec!["1", "2"]]),
            ("\u{feff}a,b\r\n1,\r\n", vec![vec!["a", "b"], vec!["1", ""]]),
            ("\u{feff}\"a\",b\n", vec![vec!["a", "b"]]),
            ("\"a \"\"b\"\"\",\"c,\r\nd\"\n\ne", vec![vec!["a \"b\"", "c,\r\nd"], vec![""], vec!["e"]]),
            ("", vec![]),
        ] {
            assert_eq!(read(text.as_bytes()).unwrap(), expected, "{text:?}");
        }
        // Counted anew for each of its lines these would take minutes.
        let lines = format!("\"{}\"\n", "\n".repeat(60_000));
        let rows = read(lines.repeat(40).as_bytes()).unwrap();
        assert!(rows.len() == 40 && rows.iter().all(|row| row[0].len() == 60_000), "{} rows", rows.len());
        let long = [b"a\n\"".as_slice(), &[b'x'; 70_000]].concat();
        for (bytes, why) in [
            (b"a\n\"b".as_slice(), "line 2: a quoted field has no end"),
            (b"a\n\"b\" c,d\n".as_slice(), "line 2: something stands behind a quoted field"),
            (b"a\n5\" disk\n\"x\"\n".as_slice(), "line 2: a field has a quote"),
            (b"a,b\r1,2\r".as_slice(), "line 1: a field has a quote or an end of line"),
            (b"a\n\xd6\xd0\n".as_slice(), "line 2: it is not in UTF-8; save"),
            (&long, "line 2: it has no end within 64 KiB"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
        assert_eq!([unmarked("'=1"), unmarked("''x"), unmarked("'tis"), unmarked("x")], ["=1", "'x", "'tis", "x"]);
    }
}
