//! The growth of statements as SVG: the p50 in each database as a multiple of that in the smallest. All are grey lines, and the worst
//! have colours and names.

use std::fmt::Write as _;

/// A statement; the first of several has grown most.
pub struct Line {
    pub name: String,
    /// No request waits for it.
    pub is_dashed: bool,
    /// By database.
    pub ratios: Vec<f64>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 56.0;
/// Names stand right of the plot.
const RIGHT: f64 = 270.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 44.0;
/// Between the baselines of two names.
const NAME: f64 = 17.0;
/// Distinguishable by people with colour-vision deficiency (Okabe and Ito's palette).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
const TICKS: [f64; 8] = [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0];

pub fn svg(messages: &[u64], lines: &[Line], bound: f64, named: usize) -> String {
    let ratios = || lines.iter().flat_map(|line| line.ratios.iter().copied());
    // On a logarithmic scale, since half as much is as far from 1 as twice as much.
    let low = ratios().fold(0.5, f64::min).max(0.125).log2();
    let high = ratios().fold(2.0, f64::max).min(16.0).log2();
    let x = |at: usize| LEFT + at as f64 / (messages.len() - 1) as f64 * (WIDTH - LEFT - RIGHT);
    let y = |ratio: f64| {
        let part = (ratio.log2().clamp(low, high) - low) / (high - low);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-8 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect x=\"-8\" width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">p50 of each SQL statement, as a multiple of that in the smallest database</text>\n"
    );
    // Writing to a String cannot fail.
    for tick in TICKS.into_iter().filter(|tick| (low..=high).contains(&tick.log2())) {
        let (at, end) = (y(tick), WIDTH - RIGHT);
        let line = if tick == bound { "#000\" stroke-dasharray=\"6 4" } else { "#ddd" };
        let _ = write!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{end:.1}\" stroke=\"{line}\"/>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick} ×</text>\n",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (at, count) in messages.iter().enumerate() {
        let _ = write!(
            svg,
            "<path d=\"M{0:.1} {TOP}V{1:.1}\" stroke=\"#ddd\"/>\n<text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{3} messages</text>\n",
            x(at),
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0,
            thousands(*count)
        );
    }
    let (coloured, grey) = lines.split_at(named.min(lines.len()));
    for line in grey {
        draw(&mut svg, line, "#999\" stroke-opacity=\"0.45", &x, &y);
    }
    // Names keep the order of their lines' ends; each moves down as far as it must.
    let mut names = 0.0;
    for (index, line) in coloured.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        draw(&mut svg, line, &format!("{colour}\" stroke-width=\"2"), &x, &y);
        let end = line.ratios[line.ratios.len() - 1];
        let at = (y(end) + 4.0).max(names);
        names = at + NAME;
        let _ = write!(
            svg,
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.5\"/>\n\
             <text x=\"{:.1}\" y=\"{at:.1}\" fill=\"{colour}\">{} {end:.2}</text>\n",
            WIDTH - RIGHT,
            y(end),
            WIDTH - RIGHT + 16.0,
            at - 4.0,
            WIDTH - RIGHT + 20.0,
            line.name
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, line: &Line, stroke: &str, x: &impl Fn(usize) -> f64, y: &impl Fn(f64) -> f64) {
    let points: Vec<String> =
        line.ratios.iter().enumerate().map(|(at, ratio)| format!("{:.1},{:.1}", x(at), y(*ratio))).collect();
    let dashes = if line.is_dashed { " stroke-dasharray=\"4 3\"" } else { "" };
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\"{dashes}/>",
        points.join(" ")
    );
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

    #[test]
    fn lines_and_names_stay_inside() {
        let line = |name: &str, last: f64| Line {
            name: name.to_owned(),
            is_dashed: last < 1.0,
            ratios: vec![1.0, 1.1, last],
        };
        let lines: Vec<Line> = [40.0, 1.7, 1.69, 1.68, 1.0, 0.05].map(|last| line("a::b", last)).into();
        let svg = svg(&[100_000, 1_000_000, 10_000_000], &lines, 1.5, 4);
        assert!(svg.contains("10,000,000 messages") && svg.matches("<polyline").count() == 6);
        for points in svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            for (x, y) in points.split(' ').filter_map(|point| point.split_once(',')) {
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!(
                    (LEFT..=WIDTH - RIGHT + 0.1).contains(&x)
                        && (TOP - 0.1..=HEIGHT - BOTTOM + 0.1).contains(&y)
                );
            }
        }
        let of_names = |text: &str| text.split_once(" y=\"")?.1.split('"').next()?.parse::<f64>().ok();
        let names: Vec<f64> = svg.lines().filter(|line| line.contains("a::b")).filter_map(of_names).collect();
        assert!(names.len() == 4 && names.windows(2).all(|two| two[1] - two[0] >= NAME - 0.11), "{names:?}");
    }
}
