//! A run of the bench: its figures by part, printed as a table and kept as JSON, as plots, and as tables in the docs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Settings;
use crate::plot::Plot;
use crate::report::{Figure, Outcome, number};

/// All kept results: a later run of some parts replaces only those.
#[derive(Default, Serialize, Deserialize)]
struct Results {
    parts: BTreeMap<String, Measured>,
}

#[derive(Serialize, Deserialize)]
struct Measured {
    /// RFC 3339.
    at: String,
    machine: String,
    seconds: u64,
    turns: usize,
    figures: Vec<Figure>,
    plots: Vec<Picture>,
}

#[derive(Serialize, Deserialize)]
struct Picture {
    file: String,
    title: String,
}

pub struct Run {
    seconds: u64,
    turns: usize,
    machine: String,
    parts: Vec<(&'static str, Outcome)>,
    failed: Vec<&'static str>,
}

impl Run {
    pub fn begin(settings: &Settings) -> Run {
        let machine = machine();
        println!("{machine}");
        Run {
            seconds: settings.seconds,
            turns: settings.turns,
            machine,
            parts: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// A part that found nothing to measure (no `spin` on the PATH) leaves the results of an earlier run alone.
    pub fn add(&mut self, part: &'static str, outcome: Outcome) {
        if !outcome.figures.is_empty() {
            self.parts.push((part, outcome));
        }
    }

    /// Records a part that could not be measured.
    pub fn fail(&mut self, part: &'static str) {
        self.failed.push(part);
    }

    pub fn all_reached(&self) -> bool {
        self.failed.is_empty() && self.figures().all(Figure::is_reached)
    }

    fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.parts.iter().flat_map(|(_, outcome)| &outcome.figures)
    }

    pub fn print(&self) {
        let head = ["what", "against", "target", "measured", "spread", "verdict"].map(str::to_owned);
        let rows: Vec<[String; 6]> = std::iter::once(head).chain(self.figures().map(Figure::row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..6).map(width).collect();
        println!();
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("{}", cells.join("  ").trim_end());
        }
        for part in &self.failed {
            println!("{part} could not be measured");
        }
    }

    /// Writes `results.json` and the plots into `folder`; with `docs`, also rewrites the tables in docs/performance.md.
    pub fn write(&self, folder: &Path, docs: bool) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("results.json");
        let mut results: Results = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other)?,
            Err(_) => Results::default(),
        };
        for (part, outcome) in &self.parts {
            for plot in &outcome.plots {
                std::fs::write(folder.join(format!("{}.svg", plot.file)), plot.to_svg())?;
            }
            let picture = |plot: &Plot| Picture { file: plot.file.clone(), title: plot.title.clone() };
            let measured = Measured {
                at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                machine: self.machine.clone(),
                seconds: self.seconds,
                turns: self.turns,
                figures: outcome.figures.clone(),
                plots: outcome.plots.iter().map(picture).collect(),
            };
            results.parts.insert((*part).to_owned(), measured);
        }
        std::fs::write(&file, serde_json::to_vec_pretty(&results).map_err(std::io::Error::other)?)?;
        println!("\n{}", file.display());
        if docs { results.into_document(&folder.with_extension("md")) } else { Ok(()) }
    }
}

const BEGIN: &str = "<!-- From here on written by `cargo xtask bench --write-docs`. -->";
const END: &str = "<!-- Until here. -->";

impl Results {
    fn into_document(self, path: &Path) -> std::io::Result<()> {
        let document = std::fs::read_to_string(path)?;
        let written =
            document.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, after) =
            written.ok_or_else(|| std::io::Error::other("the document has no place for tables"))?;
        std::fs::write(path, format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.tables()))
    }

    fn tables(&self) -> String {
        let mut text = String::from("| what | against | target | measured | spread | |\n|-|-|-|-|-|-|\n");
        // In the order of the parts, not of their names.
        let parts = || crate::PARTS.iter().filter_map(|part| Some((part, self.parts.get(part.name)?)));
        for (_, part) in parts() {
            for figure in &part.figures {
                let [what, against, target, measured, spread, verdict] = figure.row();
                let verdict = if figure.is_reached() { verdict } else { format!("**{verdict}**") };
                text.push_str(&format!(
                    "| {what} | {against} | {target} | {measured} | {spread} | {verdict} |\n"
                ));
            }
        }
        for (row, part) in parts() {
            text.push_str(&format!(
                "\n### {}\n\n`cargo xtask bench {}`, {}, {} turns of {} s, {}.\n",
                row.what, row.name, part.at, part.turns, part.seconds, part.machine
            ));
            let sides: Vec<_> = part.figures.iter().flat_map(|figure| &figure.sides).collect();
            if !sides.is_empty() {
                text.push_str("\n| | median | spread |\n|-|-|-|\n");
            }
            for side in sides {
                let (samples, unit) = (&side.samples, &side.unit);
                let [median, least, most] = [samples.median(), samples.least(), samples.most()].map(number);
                text.push_str(&format!("| {} | {median} {unit} | {least} – {most} |\n", side.name));
            }
            for plot in &part.plots {
                text.push_str(&format!("\n![{}](performance/{}.svg)\n", plot.title, plot.file));
            }
        }
        text
    }
}

/// Describes the machine and the versions of Redis and Node.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let digits = |word: &&str| word.trim_start_matches("v=").contains('.');
        text.split_whitespace().find(digits).unwrap_or("?").trim_start_matches("v=").to_owned()
    };
    format!(
        "{cores} × {}, load {load} at the start, Redis {}, Node {}",
        model.map_or("an unknown processor", |(_, name)| name),
        version("redis-server"),
        version("node").trim_start_matches('v')
    )
}
