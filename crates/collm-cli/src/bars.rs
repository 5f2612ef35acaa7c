//! A chart of bars as SVG: one a name, with its number beside it. No library: it is a page of text.

use std::fmt::Write as _;

use crate::chart::escape;

const WIDTH: f64 = 750.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 90.0;
const TOP: f64 = 40.0;
const ROW: f64 = 24.0;

/// The chart. `digits` after the point of what is written beside a bar.
pub(crate) fn render(title: &str, digits: usize, bars: &[(&str, f64)]) -> String {
    let highest = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let height = TOP + ROW * bars.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{}</text>\n",
        escape(title)
    );
    for (index, (name, value)) in bars.iter().enumerate() {
        let (top, length) = (TOP + ROW * index as f64, length(*value, highest));
        let (text, end) = (top + 15.0, LEFT + length + 6.0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"#0072b2\"/>\n\
             <text x=\"{end:.1}\" y=\"{text}\">{value:.digits$}</text>",
            LEFT - 8.0,
            escape(name),
            top + 3.0,
            ROW - 8.0,
        );
    }
    svg + "</svg>\n"
}

fn length(value: f64, highest: f64) -> f64 {
    if highest > 0.0 { value / highest * (WIDTH - LEFT - RIGHT) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_numbers() {
        let svg = render("a < b", 1, &[("one", 10.0), ("half", 5.0), ("none", 0.0)]);
        let whole = WIDTH - LEFT - RIGHT;
        for expected in
            [format!("width=\"{whole:.1}\""), format!("width=\"{:.1}\"", whole / 2.0), "a &lt; b".to_owned()]
        {
            assert!(svg.contains(&expected), "no {expected}: {svg}");
        }
        assert!(svg.contains(">5.0<") && svg.contains("width=\"0.0\""), "{svg}");
        assert!(!render("nothing", 0, &[("none", 0.0)]).contains("NaN"));
    }
}
