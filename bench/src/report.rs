//! The result of a part: figures with targets, and latency distributions.

use serde::{Deserialize, Serialize};

use crate::plot::Plot;
use crate::samples::Samples;

#[derive(Default)]
pub struct Outcome {
    pub figures: Vec<Figure>,
    pub plots: Vec<Plot>,
}

/// A measurement, the thing that it is compared with, and its target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub what: String,
    pub against: String,
    pub target: Target,
    /// `×`, `%`, `ms`, `KiB`.
    pub unit: String,
    /// One per turn.
    pub measured: Samples,
    /// The measurements behind a ratio: the subject's, then the other's. Empty if the figure is not a ratio.
    #[serde(default)]
    pub sides: Vec<Side>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// It is reported beside others, and cannot be missed.
    None,
}

/// The measurements of one side of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Side {
    pub name: String,
    pub unit: String,
    pub samples: Samples,
}

impl Side {
    pub fn new(name: &str, unit: &str, samples: impl IntoIterator<Item = f64>) -> Side {
        Side { name: name.to_owned(), unit: unit.to_owned(), samples: samples.into_iter().collect() }
    }
}

impl Figure {
    /// The ratio of the subject to the other, turn by turn.
    pub fn times(what: &str, subject: Side, other: Side, target: Target) -> Figure {
        let measured = subject.samples.over(&other.samples);
        let against = other.name.clone();
        Figure {
            what: what.to_owned(),
            against,
            target,
            unit: "×".to_owned(),
            measured,
            sides: vec![subject, other],
        }
    }

    /// The ratio of the first sides; the others are measurements beside them.
    pub fn compare(what: &str, mut subject: Vec<Side>, mut other: Vec<Side>, target: Target) -> Figure {
        let rest = subject.split_off(1).into_iter().chain(other.split_off(1)).collect::<Vec<_>>();
        Figure::times(what, subject.remove(0), other.remove(0), target).beside(rest)
    }

    /// The same figure with more measurements below it.
    pub fn beside(mut self, sides: impl IntoIterator<Item = Side>) -> Figure {
        self.sides.extend(sides);
        self
    }

    pub fn percent(what: &str, subject: Side, other: Side, target: Target) -> Figure {
        Figure::times(what, subject, other, target).in_percent()
    }

    /// The same ratio in per cent.
    pub fn in_percent(self) -> Figure {
        let measured = self.measured.0.iter().map(|ratio| ratio * 100.0).collect();
        Figure { measured, unit: "%".to_owned(), ..self }
    }

    /// A figure that is compared with its target only.
    pub fn plain(what: &str, unit: &str, samples: impl IntoIterator<Item = f64>, target: Target) -> Figure {
        Figure {
            what: what.to_owned(),
            against: "—".to_owned(),
            target,
            unit: unit.to_owned(),
            measured: samples.into_iter().collect(),
            sides: Vec::new(),
        }
    }

    /// Compares the median. A figure without measurements misses its target.
    pub fn is_reached(&self) -> bool {
        match self.target {
            Target::AtLeast(bound) => self.measured.median() >= bound,
            Target::AtMost(bound) => self.measured.median() <= bound,
            Target::None => !self.measured.0.is_empty(),
        }
    }

    /// The columns: what, against, target, measured, spread, verdict.
    pub fn row(&self) -> [String; 6] {
        let with_unit = |value: f64| format!("{} {}", number(value), self.unit);
        let target = match self.target {
            Target::AtLeast(bound) => format!("≥ {}", with_unit(bound)),
            Target::AtMost(bound) => format!("≤ {}", with_unit(bound)),
            Target::None => "—".to_owned(),
        };
        [
            self.what.clone(),
            self.against.clone(),
            target,
            with_unit(self.measured.median()),
            format!("{} – {}", number(self.measured.least()), number(self.measured.most())),
            match (self.is_reached(), self.target) {
                (false, _) => "missed",
                (true, Target::None) => "",
                (true, _) => "reached",
            }
            .to_owned(),
        ]
    }
}

/// Rounds to three significant digits.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(target: Target) -> Figure {
        let side = |name, samples: [f64; 3]| Side::new(name, "req/s", samples);
        Figure::times("reads", side("ours", [30.0, 20.0, 40.0]), side("theirs", [10.0, 10.0, 10.0]), target)
    }

    #[test]
    fn the_median_decides() {
        assert!(figure(Target::AtLeast(3.0)).is_reached());
        assert!(!figure(Target::AtLeast(3.1)).is_reached());
        assert!(!figure(Target::AtMost(2.9)).is_reached());
        assert!(!Figure::plain("nothing", "ms", [], Target::AtMost(1.0)).is_reached());
        assert!(!Figure::plain("nothing", "ms", [], Target::None).is_reached());
    }

    #[test]
    fn a_row_says_all_of_it() {
        let row = figure(Target::AtLeast(1.5)).row();
        assert_eq!(row, ["reads", "theirs", "≥ 1.50 ×", "3 ×", "2 – 4", "reached"]);
        assert_eq!(figure(Target::None).row()[2..], ["—", "3 ×", "2 – 4", ""]);
    }
}
