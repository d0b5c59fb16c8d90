//! Amounts with a decimal point.

/// Currencies whose minor unit is not a hundredth, by ISO 4217.
const NO_DIGITS: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",
];
const THREE_DIGITS: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
const FOUR_DIGITS: &[&str] = &["CLF", "UYW"];

/// An amount of minor units in the currency's own unit: 417 fen are 4.17.
pub(crate) fn decimal(minor: i128, currency: &str) -> String {
    let is_of = |currencies: &[&str]| currencies.contains(&currency);
    let digits = if is_of(NO_DIGITS) {
        return minor.to_string();
    } else if is_of(THREE_DIGITS) {
        3
    } else if is_of(FOUR_DIGITS) {
        4
    } else {
        2
    };
    let unit = 10u128.pow(digits);
    let (sign, amount) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs());
    format!("{sign}{}.{:0width$}", amount / unit, amount % unit, width = digits as usize)
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
}
