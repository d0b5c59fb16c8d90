//! `hongbao clock accept`: an operator's word that the clock is right after all.
//!
//! A running engine whose deadlines stand still looks every second or so for a
//! file in its directory; making that file is all there is to do.

use std::fs::OpenOptions;
use std::path::Path;

/// Where the engine looks.
const ACCEPT_FILE: &str = "clock.accept";

/// Tells the engine that serves `data` to take the clock for right.
///
/// # Errors
/// A sentence on why nobody would find the file, or on why it cannot be made.
pub fn accept(data: &Path) -> Result<(), String> {
    if !data.join("journal").is_dir() {
        return Err(format!("{} is not a data directory; name the server's with --data", data.display()));
    }
    let file = data.join(ACCEPT_FILE);
    let made = OpenOptions::new().write(true).create(true).truncate(true).open(&file);
    made.map(drop).map_err(|error| format!("{}: {error}; is this the server's --data?", file.display()))
}
