//! The growth of statements as SVG: the p50 in each database as a multiple of that in the smallest. All are grey lines, and the worst
//! have colours and names.

use crate::svg::{COLOURS, Frame, GRID, Svg};

/// A statement; the first of several has grown most.
pub struct Line {
    pub name: String,
    /// No request waits for it.
    pub is_dashed: bool,
    /// By database.
    pub ratios: Vec<f64>,
}

/// Names stand right of the plot.
const FRAME: Frame = Frame { width: 868.0, height: 440.0, left: 64.0, right: 270.0, top: 40.0, bottom: 44.0 };
/// Between the baselines of two names.
const NAME: f64 = 17.0;
const TICKS: [f64; 8] = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0];

pub fn svg(messages: &[u64], lines: &[Line], bound: f64, named: usize) -> String {
    let ratios = || lines.iter().flat_map(|line| line.ratios.iter().copied());
    // On a logarithmic scale, since half as much is as far from 1 as twice as much.
    let low = ratios().fold(0.5, f64::min).max(0.125).log2();
    let high = ratios().fold(2.0, f64::max).min(16.0).log2();
    let x = |at: usize| FRAME.x(at as f64 / (messages.len() - 1) as f64);
    let y = |ratio: f64| FRAME.y((ratio.log2().clamp(low, high) - low) / (high - low));
    let mut svg =
        Svg::new(FRAME, "p50 of each SQL statement, as a multiple of that in the smallest database");
    for tick in TICKS.into_iter().filter(|tick| (low..=high).contains(&tick.log2())) {
        let stroke = if tick == bound { "stroke=\"#000\" stroke-dasharray=\"6 4\"" } else { GRID };
        svg.level(y(tick), &format!("{tick} ×"), stroke);
    }
    for (at, count) in messages.iter().enumerate() {
        svg.upright(x(at), &format!("{} messages", thousands(*count)));
    }
    let draw = |svg: &mut Svg, line: &Line, stroke: &str| {
        let dashes = if line.is_dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let points = line.ratios.iter().enumerate().map(|(at, ratio)| (x(at), y(*ratio)));
        svg.line(points, &format!("{stroke}{dashes}"));
    };
    let (coloured, grey) = lines.split_at(named.min(lines.len()));
    for line in grey {
        draw(&mut svg, line, "stroke=\"#999\" stroke-opacity=\"0.45\"");
    }
    // Names keep the order of their lines' ends; each moves down as far as it must.
    let mut names = 0.0;
    for (index, line) in coloured.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        draw(&mut svg, line, &format!("stroke=\"{colour}\" stroke-width=\"2\""));
        let ratio = line.ratios[line.ratios.len() - 1];
        let (end, at) = (FRAME.end(), (y(ratio) + 4.0).max(names));
        names = at + NAME;
        let leader = [(end, y(ratio)), (end + 16.0, at - 4.0)];
        svg.leader(leader, &format!("stroke=\"{colour}\" stroke-opacity=\"0.5\""));
        svg.label(end + 20.0, at, &format!("fill=\"{colour}\""), &format!("{} {ratio:.2}", line.name));
    }
    svg.end()
}

/// A number with its thousands set apart by commas.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::lines_within;

    #[test]
    fn lines_and_names_stay_inside() {
        let line = |name: &str, last: f64| Line {
            name: name.to_owned(),
            is_dashed: last < 1.0,
            ratios: vec![1.0, 1.1, last],
        };
        let lines: Vec<Line> = [40.0, 1.7, 1.69, 1.68, 1.0, 0.05].map(|last| line("a::b", last)).into();
        let svg = svg(&[100_000, 1_000_000, 10_000_000], &lines, 1.5, 4);
        assert!(svg.contains("10,000,000 messages"));
        assert_eq!(lines_within(FRAME, &svg), 6);
        let of_names = |text: &str| text.split_once(" y=\"")?.1.split('"').next()?.parse::<f64>().ok();
        let names: Vec<f64> = svg.lines().filter(|line| line.contains("a::b")).filter_map(of_names).collect();
        assert!(names.len() == 4 && names.windows(2).all(|two| two[1] - two[0] >= NAME - 0.11), "{names:?}");
    }
}
