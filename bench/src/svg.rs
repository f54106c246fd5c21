//! What plots are drawn with: a frame that has a title, grid lines with labels, and lines through points, as SVG.

use std::fmt::Write as _;

/// Distinguishable by people with colour-vision deficiency (Okabe and Ito's palette).
pub const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// The stroke of a grid line.
pub const GRID: &str = "stroke=\"#ddd\"";

/// The size of a picture, and the margins around what is plotted.
#[derive(Clone, Copy)]
pub struct Frame {
    pub width: f64,
    pub height: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Frame {
    /// Where a part of the width is, from 0 to 1.
    pub fn x(&self, part: f64) -> f64 {
        self.left + part * (self.end() - self.left)
    }

    /// Where a part of the height is, from 0 at the bottom to 1.
    pub fn y(&self, part: f64) -> f64 {
        self.height - self.bottom - part * (self.height - self.bottom - self.top)
    }

    /// The right end of what is plotted.
    pub fn end(&self) -> f64 {
        self.width - self.right
    }
}

/// A picture that is being drawn. Writing to a String cannot fail.
pub struct Svg {
    frame: Frame,
    text: String,
}

impl Svg {
    pub fn new(frame: Frame, title: &str) -> Svg {
        let Frame { width, height, left, .. } = frame;
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{left}\" y=\"22\" font-size=\"14\">{}</text>\n",
            escaped(title)
        );
        Svg { frame, text }
    }

    /// A line over the whole width, with its label at the left.
    pub fn level(&mut self, y: f64, label: &str, stroke: &str) {
        let Frame { left, .. } = self.frame;
        let end = self.frame.end();
        let _ = writeln!(self.text, "<path d=\"M{left} {y:.1}H{end:.1}\" {stroke}/>");
        self.label(left - 6.0, y + 4.0, "text-anchor=\"end\"", label);
    }

    /// A line over the whole height, with its label below.
    pub fn upright(&mut self, x: f64, label: &str) {
        let (top, bottom) = (self.frame.y(1.0), self.frame.y(0.0));
        let _ = writeln!(self.text, "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" {GRID}/>");
        self.label(x, bottom + 17.0, "text-anchor=\"middle\"", label);
    }

    /// A line through points.
    pub fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, stroke: &str) {
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.text, "<polyline points=\"{}\" fill=\"none\" {stroke}/>", points.join(" "));
    }

    /// A short line from a point to the name that belongs to it.
    pub fn leader(&mut self, [from, to]: [(f64, f64); 2], stroke: &str) {
        let _ = writeln!(
            self.text,
            "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" {stroke}/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// A text at a place, which its attributes say more of.
    pub fn label(&mut self, x: f64, y: f64, attributes: &str, label: &str) {
        let _ = writeln!(self.text, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>", escaped(label));
    }

    pub fn end(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Checks that the points of all lines are within the frame. Returns how many lines there are.
#[cfg(test)]
pub fn lines_within(frame: Frame, svg: &str) -> usize {
    let lines = svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next());
    for (x, y) in lines.clone().flat_map(|points| points.split(' ')).filter_map(|point| point.split_once(','))
    {
        let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
        assert!((frame.left - 0.1..=frame.end() + 0.1).contains(&x), "{x}");
        assert!((frame.y(1.0) - 0.1..=frame.y(0.0) + 0.1).contains(&y), "{y}");
    }
    lines.count()
}
