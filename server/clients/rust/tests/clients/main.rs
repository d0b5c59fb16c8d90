//! The three clients against the real server, each against one of its own.

mod calls;
mod document;
mod others;
mod server;
