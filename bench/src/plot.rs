//! Latency distributions as SVG: milliseconds over percentiles, both on logarithmic scales. The percentile axis shows
//! the share above each percentile, so that the slow end gets as much room as the rest.

use crate::svg::{COLOURS, Frame, GRID, Svg};

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

const FRAME: Frame = Frame { width: 720.0, height: 360.0, left: 64.0, right: 24.0, top: 40.0, bottom: 44.0 };
const TICKS: [f64; 5] = [0.0, 90.0, 99.0, 99.9, 99.99];

impl Plot {
    pub fn to_svg(&self) -> String {
        let values =
            || self.lines.iter().flat_map(|line| &line.points).map(|(_, ms)| *ms).filter(|ms| *ms > 0.0);
        let low = values().fold(f64::INFINITY, f64::min).min(1.0).log10().floor();
        let high = values().fold(0.0, f64::max).max(1.0).log10().ceil().max(low + 1.0);
        let x = |percentile: f64| FRAME.x(-((100.0 - percentile).max(0.01) / 100.0).log10() / 4.0);
        let y = |ms: f64| FRAME.y((ms.max(10f64.powf(low)).log10() - low) / (high - low));
        let mut svg = Svg::new(FRAME, &self.title);
        for tick in TICKS {
            svg.upright(x(tick), &format!("{tick} %"));
        }
        for power in low as i32..=high as i32 {
            let ms = 10f64.powi(power);
            svg.level(y(ms), &format!("{ms} ms"), GRID);
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points = line.points.iter().map(|(percentile, ms)| (x(*percentile), y(*ms)));
            svg.line(points, &format!("stroke=\"{colour}\" stroke-width=\"2\""));
            let (left, top) = (FRAME.left + 12.0, FRAME.top + 16.0 * (index + 1) as f64);
            svg.label(left, top, &format!("fill=\"{colour}\""), &line.name);
        }
        svg.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::lines_within;

    #[test]
    fn a_plot_has_its_lines_inside() {
        let line =
            |name: &str, ms| Line { name: name.to_owned(), points: vec![(50.0, ms), (99.99, ms * 9.0)] };
        let lines = vec![line("a & b", 0.4), line("c", 30.0)];
        let svg = Plot { file: "x".to_owned(), title: "x".to_owned(), lines }.to_svg();
        assert!(svg.contains("a &amp; b"));
        assert_eq!(lines_within(FRAME, &svg), 2);
    }
}
