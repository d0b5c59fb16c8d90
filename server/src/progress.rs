//! How far a long task has come, for whoever looks at a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on the error output; nothing is drawn where that is no terminal.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar for work that is counted in `what`.
    pub(crate) fn of(what: &'static str) -> Bar {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
        let style = format!("{{wide_bar}} {{pos}}/{{len}} {what} {{elapsed}}");
        bar.set_style(ProgressStyle::with_template(&style).expect("the template is one"));
        Bar(bar)
    }

    /// So many of so many are done.
    pub(crate) fn tell(&self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
