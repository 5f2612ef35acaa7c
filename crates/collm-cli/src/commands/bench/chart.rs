//! A line chart as SVG: a few named series over a few numbers. No library: it is a page of text.

use std::fmt::Write as _;

/// One line of a chart.
pub(super) struct Series {
    pub(super) name: String,
    /// `(x, y)`, by rising `x`.
    pub(super) points: Vec<(f64, f64)>,
}

/// What stands beside the axes.
pub(super) struct Labels {
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
}

const WIDTH: f64 = 750.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 52.0;

/// Apart for people who see fewer colours, too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"];

/// The chart. Values of `x` are evenly spaced, since they are usually doubled from one to the next.
pub(super) fn render(labels: &Labels, series: &[Series]) -> String {
    let mut xs: Vec<f64> = series.iter().flat_map(|series| series.points.iter().map(|point| point.0)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let highest = series.iter().flat_map(|series| series.points.iter().map(|point| point.1)).fold(1.0, f64::max);
    let step = round_step(highest / 5.0);
    let top = (highest / step).ceil() * step;
    let x_of = |x: f64| {
        let index = xs.iter().position(|known| *known == x).unwrap_or_default() as f64;
        LEFT + index / (xs.len().max(2) - 1) as f64 * (WIDTH - LEFT - RIGHT)
    };
    let y_of = |y: f64| HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escape(&labels.title)
    );
    let mut line = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    let mut y = 0.0;
    while y <= top + step / 2.0 {
        let (at, right) = (y_of(y), WIDTH - RIGHT);
        line(format!("<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"));
        line(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{y}</text>", LEFT - 8.0, at + 4.0));
        y += step;
    }
    for x in &xs {
        let (at, below) = (x_of(*x), HEIGHT - BOTTOM + 18.0);
        line(format!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{x}</text>"));
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    line(format!("<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>", HEIGHT - 12.0, escape(labels.x)));
    let centre = (TOP + HEIGHT - BOTTOM) / 2.0;
    line(format!(
        "<text x=\"16\" y=\"{centre}\" text-anchor=\"middle\" transform=\"rotate(-90 16 {centre})\">{}</text>",
        escape(labels.y)
    ));
    for ((index, series), colour) in series.iter().enumerate().zip(COLOURS.iter().cycle()) {
        let mut path = String::new();
        for (x, y) in &series.points {
            // Writing to a string cannot fail.
            let _ = write!(path, "{:.1},{:.1} ", x_of(*x), y_of(*y));
        }
        line(format!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"));
        let (left, at) = (WIDTH - RIGHT + 14.0, TOP + 18.0 * index as f64);
        line(format!("<rect x=\"{left}\" y=\"{}\" width=\"12\" height=\"4\" fill=\"{colour}\"/>", at - 2.0));
        line(format!("<text x=\"{}\" y=\"{}\">{}</text>", left + 18.0, at + 4.0, escape(&series.name)));
    }
    svg + "</svg>\n"
}

/// 1, 2 or 5 times a power of ten, at least as large.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|round| *round >= step).unwrap_or(step)
}

fn escape(text: &str) -> String {
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
    }

    #[test]
    fn every_series_is_drawn_and_named() {
        let series = ["a < b", "c"].map(|name| Series { name: name.to_owned(), points: vec![(0.0, 1.0), (5.0, 2.0)] });
        let svg = render(&Labels { title: "t".to_owned(), x: "x", y: "y" }, &series);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.trim_end().ends_with("</svg>"), "{svg}");
    }
}
