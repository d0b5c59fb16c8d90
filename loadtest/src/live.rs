//! What a run shows while it lasts, on a terminal only.
//!
//! **Invariant:** nothing is written when standard error is not a terminal.

use crate::report::human_us;
use crate::summary::Second;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::VecDeque;

/// Seconds in the small charts.
const HISTORY: usize = 60;
const LINES: usize = 4;

/// A bar and some lines below it, redrawn every second.
#[derive(Debug)]
pub(crate) struct Live {
    bar: ProgressBar,
    lines: Vec<ProgressBar>,
    recent: VecDeque<Second>,
}

impl Live {
    /// `offered` has an entry for each second of the run.
    pub(crate) fn new(offered: &[f64]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        let line = |template: &str, length: u64| {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            all.add(ProgressBar::new(length).with_style(style))
        };
        let bar = line("{pos:>6}/{len} s {wide_bar}", offered.len() as u64);
        let lines = (0..LINES).map(|_| line("{msg}", 1)).collect();
        Self { bar, lines, recent: VecDeque::with_capacity(HISTORY) }
    }

    pub(crate) fn show(&mut self, second: &Second) {
        if self.recent.len() == HISTORY {
            self.recent.pop_front();
        }
        self.recent.push_back(second.clone());
        // Answers may come after the last second with requests.
        self.bar.set_position((second.second + 1).min(self.bar.length().unwrap_or(u64::MAX)));
        for (line, text) in self.lines.iter().zip(lines(&self.recent)) {
            line.set_message(text);
        }
    }

    pub(crate) fn finish(&self) {
        self.lines.iter().for_each(ProgressBar::finish_and_clear);
        self.bar.finish_and_clear();
    }
}

/// The last second in words, and those before it as bars.
fn lines(recent: &VecDeque<Second>) -> [String; LINES] {
    let Some(s) = recent.back() else { return Default::default() };
    let chart = |values: &dyn Fn(&Second) -> f64| sparkline(&recent.iter().map(values).collect::<Vec<_>>());
    [
        format!("  offered  {:>9.0} /s   answers {:>9} /s   errors {} /s", s.offered, s.answers, s.errors),
        format!("  wins     {:>9} /s   sold out {:>8} /s", s.wins, s.sold_outs),
        format!("  answers  {}", chart(&|second| second.answers as f64)),
        format!(
            "  p99      {}  p50 {}  p99 {}  max {}",
            chart(&|second| second.p99_us as f64),
            human_us(s.p50_us),
            human_us(s.p99_us),
            human_us(s.max_us)
        ),
    ]
}

/// A bar for each value, the tallest for the largest.
fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let largest = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| match largest {
        0.0 => BARS[0],
        _ => BARS[((value / largest * 8.0).ceil() as usize).clamp(1, 8) - 1],
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_relative_to_the_largest() {
        assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0]), "▁▁▄█");
        assert_eq!(sparkline(&[0.0, 0.0]), "▁▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn the_last_second_is_in_words() {
        let second = |answers, p99_us| Second { answers, p99_us, offered: 900.0, ..Second::default() };
        let shown = lines(&VecDeque::from([second(400, 1000), second(800, 2_500_000)]));
        assert!(shown[0].contains("offered        900 /s") && shown[0].contains("800 /s"), "{shown:?}");
        assert!(shown[2].ends_with("▄█") && shown[3].contains("▁█") && shown[3].contains("p99 2.50 s"), "{shown:?}");
    }
}
