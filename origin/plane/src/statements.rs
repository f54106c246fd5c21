//! Declares SQL statements, so that a module's list of them is complete by construction, and reads the first line of each:
//! its name, and how many rows it may touch.
//!
//! `check-statements` prepares that list against the migrated schema, and the suite runs every statement on the largest
//! data and compares the rows with the bound. Nothing is checked here.

use serde::Serialize;

/// The most rows that a step of a statement's plan touches, unless the statement states another bound.
pub const ROWS: u64 = 1_000;

/// What a statement's first line states:
///
/// ```text
/// -- messages::post                                            at most 1,000 rows
/// -- flush::react (2,500 rows)                                 at most so many, whatever people do
/// -- activity::live (20,000 rows, uncapped: circle members)    nothing caps them; so many in the suite's data
/// -- messages::list, planned anew                              Postgres plans it at each run
/// ```
///
/// After some runs Postgres takes one plan for all parameters, unless it believes that to cost much more. Such a plan locks every
/// partition of the tables that it reads, whichever partitions it goes on to read. So statements that read partitioned tables
/// are planned anew, which costs less than the locks, and so are those that parameters turn into different questions; others run with
/// the plan that there is. Jobs do without.
///
/// Rows are those that one step of the plan reads, returns or drops, over all its repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stated<'a> {
    pub name: &'a str,
    pub rows: u64,
    /// What makes the rows more, if nothing caps them.
    pub uncapped: Option<&'a str>,
    pub planned_anew: bool,
}

/// Between a statement's name and its bound.
const PLANNED_ANEW: &str = ", planned anew";

/// Reads a statement's first line. `None` if it is of another form.
pub fn stated(sql: &str) -> Option<Stated<'_>> {
    let line = sql.lines().next()?.strip_prefix("-- ")?;
    let (name, bound) = match line.split_once(" (") {
        Some((name, bound)) => (name, Some(bound.strip_suffix(')')?)),
        None => (line, None),
    };
    let (name, planned_anew) = match name.strip_suffix(PLANNED_ANEW) {
        Some(name) => (name, true),
        None => (name, false),
    };
    let (domain, rest) = name.split_once("::")?;
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if !is_word(domain) || !is_word(rest) {
        return None;
    }
    let Some(bound) = bound else { return Some(Stated { name, rows: ROWS, uncapped: None, planned_anew }) };
    let (rows, uncapped) = match bound.split_once(", uncapped: ") {
        Some((rows, why)) => (rows, Some(why).filter(|why| !why.is_empty())?.into()),
        None => (bound, None),
    };
    let rows = number(rows.strip_suffix(" rows")?)?;
    Some(Stated { name, rows, uncapped, planned_anew })
}

/// A statement's name; its whole text if it has none.
pub fn name(sql: &str) -> &str {
    stated(sql).map_or(sql, |stated| stated.name)
}

/// A number whose thousands are set apart by commas.
fn number(text: &str) -> Option<u64> {
    let groups: Vec<&str> = text.split(',').collect();
    let is_grouped = groups.iter().enumerate().all(|(index, group)| match index {
        0 => (1..=3).contains(&group.len()) && !group.starts_with('0'),
        _ => group.len() == 3,
    });
    let are_digits = groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_digit()));
    if is_grouped && are_digits { groups.concat().parse().ok() } else { None }
}

/// Declares constants of SQL, and `STATEMENTS`, the list of all of them. A statement's first line names it, and states its
/// bound if it is another than usual: see [`Stated`].
#[macro_export]
macro_rules! statements {
    ($($(#[$attribute:meta])* $visibility:vis const $name:ident: &str = $sql:expr;)*) => {
        $($(#[$attribute])* $visibility const $name: &str = $sql;)*

        /// Every statement of this module.
        pub const STATEMENTS: &[&str] = &[$($name),*];
    };
}
pub use statements;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_states_name_and_bound() {
        let read = |line: &str| {
            let stated = stated(line)?;
            Some((stated.name.to_owned(), stated.rows, stated.uncapped.map(str::to_owned)))
        };
        let named =
            |rows, uncapped: Option<&str>| Some(("a::b_c".to_owned(), rows, uncapped.map(str::to_owned)));
        assert_eq!(read("-- a::b_c\nselect 1"), named(ROWS, None));
        assert_eq!(read("-- a::b_c (50 rows)"), named(50, None));
        assert_eq!(read("-- a::b_c, planned anew (50 rows)"), named(50, None));
        assert!(stated("-- a::b_c, planned anew\nselect 1").unwrap().planned_anew);
        assert!(!stated("-- a::b_c\nselect 1").unwrap().planned_anew);
        assert_eq!(read("-- a::b_c (12,500 rows)\nselect 1"), named(12_500, None));
        assert_eq!(
            read("-- a::b_c (1,200,500 rows, uncapped: circle members)"),
            named(1_200_500, Some("circle members"))
        );
        for line in [
            "",
            "select 1",
            "-- a",
            "-- a::",
            "-- a::B",
            "-- a::b c",
            "-- a::b, planned",
            "-- a::b (50 rows), planned anew",
            "-- a::b (50)",
            "-- a::b (0 rows)",
            "-- a::b (rows)",
            "-- a::b (5000 rows)",
            "-- a::b (5,00 rows)",
            "-- a::b (,500 rows)",
            "-- a::b (+50 rows)",
            "-- a::b (50 rows",
            "-- a::b (50 rows, uncapped)",
            "-- a::b (50 rows, uncapped: )",
            "-- a::b(50 rows)",
            "--a::b",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
