//! Latency distributions as SVG: milliseconds over percentiles, both on logarithmic scales. The percentile axis shows
//! the share above each percentile, so that the slow end gets as much room as the rest.

use std::fmt::Write as _;

/// A plot; `file` has no extension.
pub struct Plot {
    pub file: String,
    pub title: String,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: String,
    /// Pairs of percentile and milliseconds.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
/// Distinguishable by people with colour-vision deficiency (Okabe and Ito's palette).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const TICKS: [f64; 5] = [0.0, 90.0, 99.0, 99.9, 99.99];

impl Plot {
    pub fn to_svg(&self) -> String {
        let values =
            || self.lines.iter().flat_map(|line| &line.points).map(|(_, ms)| *ms).filter(|ms| *ms > 0.0);
        let low = values().fold(f64::INFINITY, f64::min).min(1.0).log10().floor();
        let high = values().fold(0.0, f64::max).max(1.0).log10().ceil().max(low + 1.0);
        let x = |percentile: f64| {
            let left_over = (100.0 - percentile).max(0.01) / 100.0;
            LEFT + -left_over.log10() / 4.0 * (WIDTH - LEFT - RIGHT)
        };
        let y = |ms: f64| {
            let part = (ms.max(10f64.powf(low)).log10() - low) / (high - low);
            HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{}</text>\n",
            escaped(&self.title)
        );
        // Writing to a String cannot fail.
        for tick in TICKS {
            let at = x(tick);
            let _ = write!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{:.1}\" stroke=\"#ddd\"/>\n<text x=\"{at:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{tick} %</text>\n",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0
            );
        }
        for power in low as i32..=high as i32 {
            let ms = 10f64.powi(power);
            let at = y(ms);
            let _ = write!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{ms} ms</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0
            );
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<String> = line
                .points
                .iter()
                .map(|(percentile, ms)| format!("{:.1},{:.1}", x(*percentile), y(*ms)))
                .collect();
            let _ = write!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>\n",
                points.join(" "),
                LEFT + 12.0,
                TOP + 16.0 + 16.0 * index as f64,
                escaped(&line.name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_lines_inside() {
        let line =
            |name: &str, ms| Line { name: name.to_owned(), points: vec![(50.0, ms), (99.99, ms * 9.0)] };
        let lines = vec![line("a & b", 0.4), line("c", 30.0)];
        let svg = Plot { file: "x".to_owned(), title: "x".to_owned(), lines }.to_svg();
        assert!(svg.contains("a &amp; b") && svg.matches("<polyline").count() == 2);
        for points in svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            for (x, y) in points.split(' ').filter_map(|point| point.split_once(',')) {
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!(
                    (LEFT..=WIDTH - RIGHT + 0.1).contains(&x) && (TOP..=HEIGHT - BOTTOM + 0.1).contains(&y)
                );
            }
        }
    }
}
