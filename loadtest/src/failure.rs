//! Why there is no run to report, and with which status that ends.
//!
//! **Invariant:** status 2 says that it has to be called otherwise, and nothing
//! was checked.

use std::fmt;

/// Why a run came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It cannot be done as it was asked for: arguments, key, target.
    Usage(String),
    /// Something broke.
    Broken(String),
}

impl Failure {
    /// The status the process ends with.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Broken(_) => 1,
            Self::Usage(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(why) | Self::Broken(why)) = self;
        f.write_str(why)
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}
