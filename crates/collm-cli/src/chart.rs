//! A line chart as SVG: a few named series over a few numbers. No library: it is a page of text.

use std::fmt::{Display, Write as _};

/// One line of a chart.
pub(crate) struct Series {
    pub(crate) name: String,
    /// `(x, y)`, by rising `x`.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What stands beside the axes.
pub(crate) struct Labels {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
}

/// Where values of `x` lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// One after the other, evenly: they are usually doubled from one to the next.
    Even,
    /// Between 0 and 1.
    Share,
}

const WIDTH: f64 = 750.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;

/// Apart for people who see fewer colours, too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"];

/// Shares that are marked.
const SHARES: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// The chart.
pub(crate) fn render(labels: &Labels, spacing: Spacing, series: &[Series]) -> String {
    let mut page = Page::new(spacing, series);
    page.axes(labels);
    for ((index, series), colour) in series.iter().enumerate().zip(COLOURS.iter().cycle()) {
        page.series(index, series, colour);
    }
    page.svg + "</svg>\n"
}

/// The text so far, and where numbers lie on it.
struct Page {
    svg: String,
    spacing: Spacing,
    /// Marks of `x`.
    xs: Vec<f64>,
    top: f64,
    step: f64,
}

impl Page {
    fn new(spacing: Spacing, series: &[Series]) -> Self {
        let points = || series.iter().flat_map(|series| &series.points);
        let mut xs: Vec<f64> = match spacing {
            Spacing::Even => points().map(|point| point.0).collect(),
            Spacing::Share => SHARES.to_vec(),
        };
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let least = if spacing == Spacing::Even { 1.0 } else { 0.01 };
        let highest = points().map(|point| point.1).fold(least, f64::max);
        let step = round_step(highest / 5.0);
        let top = (highest / step).ceil() * step;
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        Self { svg, spacing, xs, top, step }
    }

    fn x_of(&self, x: f64) -> f64 {
        let share = match self.spacing {
            Spacing::Even => {
                let index = self.xs.iter().position(|known| *known == x).unwrap_or_default() as f64;
                index / (self.xs.len().max(2) - 1) as f64
            }
            Spacing::Share => x,
        };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y_of(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - y / self.top * (HEIGHT - TOP - BOTTOM)
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.svg, "{line}");
    }

    fn axes(&mut self, labels: &Labels) {
        let title = escape(&labels.title);
        self.line(format_args!("<text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{title}</text>"));
        for mark in 0..=(self.top / self.step).round() as u32 {
            let y = f64::from(mark) * self.step;
            let (at, right) = (self.y_of(y), WIDTH - RIGHT);
            self.line(format_args!(
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"
            ));
            let (left, below) = (LEFT - 8.0, at + 4.0);
            self.line(format_args!("<text x=\"{left}\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>", shortest(y)));
        }
        for x in self.xs.clone() {
            let (at, below) = (self.x_of(x), HEIGHT - BOTTOM + 18.0);
            self.line(format_args!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{x}</text>"));
        }
        let (middle, below) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0);
        self.line(format_args!(
            "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
            escape(labels.x)
        ));
        let centre = (TOP + HEIGHT - BOTTOM) / 2.0;
        self.line(format_args!(
            "<text x=\"16\" y=\"{centre}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {centre})\">{}</text>",
            escape(labels.y)
        ));
    }

    fn series(&mut self, index: usize, series: &Series, colour: &str) {
        let path: Vec<String> =
            series.points.iter().map(|(x, y)| format!("{:.1},{:.1}", self.x_of(*x), self.y_of(*y))).collect();
        let path = path.join(" ");
        self.line(format_args!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
        let (left, at) = (WIDTH - RIGHT + 14.0, TOP + 18.0 * index as f64);
        self.line(format_args!("<rect x=\"{left}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>", at - 2.0));
        self.line(format_args!("<text x=\"{}\" y=\"{}\">{}</text>", left + 18.0, at + 4.0, escape(&series.name)));
    }
}

/// Without the digits that adding steps left.
fn shortest(number: f64) -> String {
    let text = format!("{number:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// 1, 2 or 5 times a power of ten, at least as large.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|round| *round >= step).unwrap_or(step)
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (step, expected) in [(0.3, 0.5), (1.0, 1.0), (3.0, 5.0), (7.0, 10.0), (120.0, 200.0)] {
            assert!((round_step(step) - expected).abs() < 1e-9, "{step} became {}", round_step(step));
        }
        assert_eq!([0.30000000000000004, 20.0, 0.0].map(shortest), ["0.3", "20", "0"]);
    }

    #[test]
    fn every_series_is_drawn_and_named() {
        let labels = || Labels { title: "t".to_owned(), x: "x", y: "y" };
        let series = ["a < b", "c"].map(|name| Series { name: name.to_owned(), points: vec![(0.0, 1.0), (0.5, 2.0)] });
        for (spacing, second) in [(Spacing::Even, WIDTH - RIGHT), (Spacing::Share, (LEFT + WIDTH - RIGHT) / 2.0)] {
            let svg = render(&labels(), spacing, &series);
            assert_eq!(svg.matches("<polyline").count(), 2);
            assert!(svg.contains(&format!(" {second:.1},")), "the second point lies elsewhere: {svg}");
            assert!(svg.contains("a &lt; b") && svg.trim_end().ends_with("</svg>"), "{svg}");
        }
    }
}
