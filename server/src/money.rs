//! Amounts with a decimal point.

use hongbao_engine::types::Amount;

/// Currencies whose minor unit is not a hundredth, by ISO 4217.
const NO_DIGITS: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",
];
const THREE_DIGITS: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
const FOUR_DIGITS: &[&str] = &["CLF", "UYW"];

/// How many decimals amounts of a currency have.
fn digits_of(currency: &str) -> u32 {
    let is_of = |currencies: &[&str]| currencies.contains(&currency);
    if is_of(NO_DIGITS) {
        0
    } else if is_of(THREE_DIGITS) {
        3
    } else if is_of(FOUR_DIGITS) {
        4
    } else {
        2
    }
}

/// An amount of minor units in the currency's own unit: 417 fen are 4.17.
pub(crate) fn decimal(minor: i128, currency: &str) -> String {
    let digits = digits_of(currency);
    if digits == 0 {
        return minor.to_string();
    }
    let unit = 10u128.pow(digits);
    let (sign, amount) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs());
    format!("{sign}{}.{:0width$}", amount / unit, amount % unit, width = digits as usize)
}

/// Minor units of an amount in the currency's own unit, with its sign: 4.17 are 417 fen.
///
/// # Errors
/// What is wrong with it, in words that name the remedy.
pub(crate) fn read_decimal(text: &str, currency: &str) -> Result<i64, String> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = digits_of(currency) as usize;
    let (kept, more) = decimals.split_at_checked(digits).unwrap_or((decimals, ""));
    if !is_number(without_sign(whole)) || !is_number(decimals) {
        return Err(format!("{text} is no amount; {}", form(digits)));
    }
    if more.bytes().any(|digit| digit != b'0') {
        return Err(format!("{text} has more decimals than {currency}; {}", form(digits)));
    }
    read_minor(&format!("{whole}{kept:0<digits$}")).map_err(|_| format!("{text} is more than there can be"))
}

/// Minor units as they are, with their sign.
///
/// # Errors
/// What is wrong with them, in words that name the remedy.
pub(crate) fn read_minor(text: &str) -> Result<i64, String> {
    let minor = text.parse::<i64>().ok().filter(|minor| minor.unsigned_abs() <= Amount::MAX.minor());
    minor.filter(|_| is_number(without_sign(text))).ok_or_else(|| format!("{text} is no amount; {}", form(0)))
}

fn without_sign(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit())
}

fn form(digits: usize) -> String {
    let example = if digits == 0 { "1234".to_owned() } else { format!("1234.{:0digits$}", 5) };
    format!("write it as {example}, without separators of thousands and without the currency")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        for (minor, currency, expected) in [
            (417, "CNY", "4.17"),
            (5, "CNY", "0.05"),
            (-5, "CNY", "-0.05"),
            (0, "EUR", "0.00"),
            (417, "JPY", "417"),
            (12_345, "KWD", "12.345"),
            (9_007_199_254_740_991, "CNY", "90071992547409.91"),
        ] {
            assert_eq!(decimal(minor, currency), expected);
        }
    }

    #[test]
    fn amounts_are_read_as_they_are_written() {
        for (text, currency, expected) in [
            ("4.17", "CNY", 417),
            ("0.05", "CNY", 5),
            ("-0.05", "CNY", -5),
            ("+4", "CNY", 400),
            ("4.1", "CNY", 410),
            ("4.1700", "CNY", 417),
            ("417", "JPY", 417),
            ("417.00", "JPY", 417),
            ("12.345", "KWD", 12_345),
            ("90071992547409.91", "CNY", 9_007_199_254_740_991),
        ] {
            assert_eq!(read_decimal(text, currency), Ok(expected), "{text} {currency}");
        }
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1,234.50",
            "1.234,50",
            "1 234",
            "4.171",
            "¥5",
            "5 CNY",
            "(5.00)",
            "--5",
            "1e3",
            "5.-1",
            "\u{2212}5",
            "4.1\u{661}",
        ] {
            let error = read_decimal(text, "CNY").unwrap_err();
            assert!(error.contains("write it as 1234.05"), "{text}: {error}");
        }
        for text in ["90071992547409.92", "99999999999999999999", "-90071992547409.92"] {
            assert!(read_decimal(text, "CNY").unwrap_err().contains("more than there can be"), "{text}");
        }
        assert_eq!(read_minor("-417"), Ok(-417));
        assert!(read_minor("4.17").unwrap_err().contains("write it as 1234,"));
    }
}
