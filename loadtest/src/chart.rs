//! Line charts as inline SVG: drawn once, without a script, readable on paper.
//!
//! **Invariant:** lines differ in their dashes as well as in their colours, and
//! nothing that is drawn leaves the frame.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Linear,
    /// From 1 on.
    Log,
}

/// How a line looks: its colour and its dashes.
const STYLES: [(&str, &str); 3] = [("#0b62a4", ""), ("#c0392b", "7 4"), ("#555555", "2 3")];

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// In the order of x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Where a label stands on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) at: f64,
    pub(crate) label: String,
}

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x_label: &'static str,
    pub(crate) x_scale: Scale,
    /// From the first to the last; without, round numbers.
    pub(crate) x_ticks: Vec<Tick>,
    pub(crate) y_scale: Scale,
    pub(crate) y_text: fn(f64) -> String,
    pub(crate) lines: Vec<Line>,
}

/// An axis: values between two ends, and pixels between two others.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
    pixels: (f64, f64),
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let place = |value: f64| if self.scale == Scale::Log { value.max(1.0).log10() } else { value };
        let (from, to) = (place(self.from), place(self.to));
        let share = ((place(value) - from) / (to - from)).clamp(0.0, 1.0);
        self.pixels.0 + (self.pixels.1 - self.pixels.0) * share
    }
}

impl Chart {
    /// The `<figure>`.
    pub(crate) fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x_ticks = if self.x_ticks.is_empty() {
            ticks(self.x_scale, points().map(|point| point.0).fold(0.0, f64::max), &|value| format!("{value}"))
        } else {
            self.x_ticks.clone()
        };
        let y_ticks = ticks(self.y_scale, points().map(|point| point.1).fold(0.0, f64::max), &self.y_text);
        let axis = |scale, ticks: &[Tick], pixels| {
            let from = ticks.first().map_or(0.0, |tick| tick.at);
            let to = ticks.last().map_or(1.0, |tick| tick.at);
            Axis { scale, from, to, pixels }
        };
        let x = axis(self.x_scale, &x_ticks, (LEFT, WIDTH - RIGHT));
        let y = axis(self.y_scale, &y_ticks, (HEIGHT - BOTTOM, TOP));
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut out = format!(
            "<figure id=\"{}\"><figcaption>{}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            self.id, self.title, self.title
        );
        for tick in &y_ticks {
            let at = y.at(tick.at);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                tick.label
            );
        }
        for tick in &x_ticks {
            let at = x.at(tick.at);
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{at:.1} {bottom}v5\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                tick.label
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 8.0,
            self.x_label
        );
        for (n, line) in self.lines.iter().enumerate() {
            let (colour, dashes) = STYLES[n % STYLES.len()];
            let mut path = String::new();
            for (k, (px, py)) in line.points.iter().enumerate() {
                let verb = if k == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{verb}{:.1} {:.1}", x.at(*px), y.at(*py));
            }
            // A single point is a line of no length, which its round cap shows.
            if line.points.len() == 1 {
                path.push_str("h0");
            }
            let style = format!("stroke=\"{colour}\" stroke-dasharray=\"{dashes}\"");
            let legend = LEFT + 150.0 * n as f64;
            let _ = writeln!(out, "<path class=\"line\" data-line=\"{}\" {style} d=\"{path}\"/>", line.name);
            let _ = writeln!(
                out,
                "<path class=\"line\" {style} d=\"M{legend} 14h28\"/><text x=\"{}\" y=\"18\">{}</text>",
                legend + 34.0,
                line.name
            );
        }
        out.push_str("</svg></figure>\n");
        out
    }
}

/// Round numbers from nothing (or 1) to at least `largest`.
fn ticks(scale: Scale, largest: f64, text: &dyn Fn(f64) -> String) -> Vec<Tick> {
    // Multiples of a tenth have digits that nobody wants to read.
    let tick = |at: f64| Tick { at, label: text((at * 1e9).round() / 1e9) };
    if scale == Scale::Log {
        let powers = largest.max(10.0).log10().ceil() as i32;
        return (0..=powers).map(|power| tick(10_f64.powi(power))).collect();
    }
    let largest = if largest > 0.0 { largest } else { 1.0 };
    let magnitude = 10_f64.powf((largest / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * magnitude);
    let step = step.into_iter().find(|step| largest / step <= 6.0).unwrap_or(largest);
    (0..=(largest / step).ceil() as u32).map(|n| tick(f64::from(n) * step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_largest() {
        let labels = |scale, largest| ticks(scale, largest, &|value| format!("{value}")).into_iter().map(|t| t.label);
        let all = |scale, largest| labels(scale, largest).collect::<Vec<_>>().join(" ");
        assert_eq!(all(Scale::Linear, 19_980.0), "0 5000 10000 15000 20000");
        assert_eq!(all(Scale::Linear, 30.0), "0 5 10 15 20 25 30");
        assert_eq!(all(Scale::Linear, 0.0), "0 0.2 0.4 0.6 0.8 1");
        assert_eq!(all(Scale::Log, 2500.0), "1 10 100 1000 10000");
    }

    #[test]
    fn everything_is_inside_the_frame() {
        let axis = Axis { scale: Scale::Log, from: 1.0, to: 1000.0, pixels: (0.0, 300.0) };
        for (value, pixel) in [(0.0, 0.0), (1.0, 0.0), (10.0, 100.0), (1000.0, 300.0), (1e9, 300.0)] {
            assert!((axis.at(value) - pixel).abs() < 1e-9, "{value}");
        }
    }
}
