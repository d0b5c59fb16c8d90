//! Redis away at the start or in the middle, wrong settings and logins: what
//! the binary says, and that nothing is lost.
