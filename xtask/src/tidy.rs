//! `cargo xtask tidy`: the project's rules for its files that no compiler checks. Each check is a function from texts
//! to complaints; rustfmt and clippy check formatting and lints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::structure;
use crate::terminal::{Colour, paint, say};
use crate::workspace;

/// A file too long to read in one sitting should be two files.
const LONGEST_FILE: usize = 500;
/// The route, key and limit tables as a document, so that a change of policy shows in review.
const POLICIES: &str = "docs/policies.md";

/// Written in two halves, so that this file does not complain about itself.
const LEFT_OPEN: [&str; 4] =
    [concat!("#[", "ignore"), concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
/// How Lua calls Redis: with the command's name in quotes.
const LUA: &str = concat!("redis", ".call('");
/// Where people keep their checkouts: such a path names somebody's machine.
const HOMES: [&str; 2] = [concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// The project's text files, by their path from the root.
pub type Texts = BTreeMap<PathBuf, String>;

pub fn run(bless: bool) -> Result<()> {
    let root = workspace::root()?;
    let origin = workspace::build(&root, &["--package=optimist-origin"])?.executable("optimist-origin")?;
    check(&root, &origin, bless)
}

/// Runs all checks, with an `optimist-origin` that renders the tables.
pub fn check(root: &Path, origin: &Path, bless: bool) -> Result<()> {
    let texts = texts(root)?;
    let mut complaints = Vec::new();
    for (path, text) in &texts {
        let lines = check_file(path, text, root);
        complaints.extend(lines.into_iter().map(|(line, what)| format!("{}:{line}: {what}", path.display())));
    }
    complaints.extend(structure::complaints(&texts));
    complaints.extend(unused_scripts(&texts));
    complaints.extend(broken_links(&texts, &|path| root.join(path).exists()));
    complaints.extend(stale_policies(root, origin, bless)?);
    for complaint in &complaints {
        println!("{} {complaint}", paint(Colour::Red, "✗"));
    }
    ensure!(complaints.is_empty(), "tidy has {} complaints", complaints.len());
    say(format_args!("{} files are tidy", texts.len()));
    Ok(())
}

/// Every file that is tracked or would be; ignored files and files that are not text are left out.
fn texts(root: &Path) -> Result<Texts> {
    let output = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run git")?;
    ensure!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let paths = names.split_terminator('\0').map(PathBuf::from);
    // A file that was deleted and not staged is listed, and cannot be read.
    Ok(paths.filter_map(|path| Some((path.clone(), fs::read_to_string(root.join(&path)).ok()?))).collect())
}

/// The complaints about one file alone: line and text.
fn check_file(path: &Path, text: &str, root: &Path) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_source = ["rs", "lua", "sql", "js", "mjs", "ts"].contains(&extension);
    if is_source && text.lines().count() > LONGEST_FILE {
        found.push((LONGEST_FILE, format!("the file is longer than {LONGEST_FILE} lines")));
    }
    if extension == "rs" && !text.starts_with("//!") {
        found.push((1, "the module does not open with //!".to_owned()));
    }
    let checkout = root.display().to_string();
    for (number, line) in (1..).zip(text.lines()) {
        if extension == "rs" {
            found.extend(
                LEFT_OPEN
                    .iter()
                    .filter(|word| line.contains(**word))
                    .map(|word| (number, format!("{word}… is left open"))),
            );
            if line.contains(LUA) {
                found.push((number, "Lua belongs in a .lua file".to_owned()));
            }
        }
        if line.contains(&checkout) || HOMES.iter().any(|home| line.contains(home)) {
            found.push((number, "a path of this machine".to_owned()));
        }
    }
    found
}

fn unused_scripts(texts: &Texts) -> Vec<String> {
    let is_used = |script: &Path| {
        let name = script.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let modules =
            texts.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"));
        modules.into_iter().any(|(_, text)| {
            text.match_indices(name)
                .any(|(at, _)| text[..at].ends_with(['/', '"']) && text[at + name.len()..].starts_with('"'))
        })
    };
    let scripts = texts.keys().filter(|path| path.extension().is_some_and(|extension| extension == "lua"));
    scripts
        .filter(|script| !is_used(script))
        .map(|script| format!("{}: no module includes it", script.display()))
        .collect()
}

/// Relative links in documents that lead nowhere.
fn broken_links(texts: &Texts, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in
        texts.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "md"))
    {
        let mut in_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            if in_code {
                continue;
            }
            for target in link_targets(line) {
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let full = if file.is_empty() { path.clone() } else { join(path, file) };
                let leads = exists(&full)
                    && (heading.is_empty() || texts.get(&full).is_none_or(|text| has_heading(text, heading)));
                if !leads {
                    broken.push(format!("{}:{number}: the link to {target} leads nowhere", path.display()));
                }
            }
        }
    }
    broken
}

/// The targets of `[…](target)` that are not addresses on the web.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split_once(' ').map_or(target, |(target, _title)| target))
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

/// A link's target as a path from the root, its dots resolved.
fn join(document: &Path, target: &str) -> PathBuf {
    let mut full = document.parent().map(Path::to_owned).unwrap_or_default();
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir => {
                full.pop();
            }
            Component::Normal(name) => full.push(name),
            _ => {}
        }
    }
    full
}

/// True if a heading of the document has this anchor, by the rules of code forges.
fn has_heading(text: &str, anchor: &str) -> bool {
    text.lines().filter_map(|line| line.strip_prefix('#')).any(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter }).eq(anchor.chars())
    })
}

/// Compares the document with the current tables, or writes it.
fn stale_policies(root: &Path, origin: &Path, bless: bool) -> Result<Option<String>> {
    let output = Command::new(origin).arg("routes").stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "optimist-origin routes failed");
    let rendered = String::from_utf8(output.stdout)?;
    let file = root.join(POLICIES);
    if fs::read_to_string(&file).is_ok_and(|text| text == rendered) {
        return Ok(None);
    }
    if bless {
        fs::write(&file, rendered)?;
        say(format_args!("wrote {POLICIES}"));
        return Ok(None);
    }
    Ok(Some(format!("{POLICIES}: not what the tables say; `cargo xtask tidy --bless` writes it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn complaints(path: &str, text: &str) -> Vec<usize> {
        let found = check_file(Path::new(path), text, Path::new("/srv/checkout"));
        found.into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn a_module_opens_with_its_purpose() {
        assert_eq!(complaints("src/a.rs", "//! A.\nfn a() {}\n"), NONE);
        assert_eq!(complaints("src/a.rs", "// A.\nfn a() {}\n"), [1]);
        assert_eq!(complaints("notes.md", "A.\n"), NONE);
    }

    #[test]
    fn what_is_left_open_is_found() {
        for word in LEFT_OPEN.into_iter().chain([LUA]) {
            assert_eq!(complaints("src/a.rs", &format!("//! A.\n{word}")), [2], "{word}");
        }
    }

    #[test]
    fn a_path_of_the_machine_is_found_in_every_kind_of_file() {
        assert_eq!(complaints("README.md", "see /srv/checkout/docs"), [1]);
        assert_eq!(complaints("a.toml", &format!("a = \"{}me/a\"", "/ho")), [1]);
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(complaints("a.sql", &"select 1;\n".repeat(LONGEST_FILE)), NONE);
        assert_eq!(complaints("a.sql", &"select 1;\n".repeat(LONGEST_FILE + 1)), [LONGEST_FILE]);
    }

    fn texts_of(files: &[(&str, &str)]) -> Texts {
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect()
    }

    #[test]
    fn a_script_is_used_under_its_whole_name() {
        let used = texts_of(&[("a/read.lua", ""), ("a/mod.rs", "include_str!(\"read.lua\")")]);
        assert_eq!(unused_scripts(&used), Vec::<String>::new());
        let similar = texts_of(&[("a/ad.lua", ""), ("a/mod.rs", "include_str!(\"read.lua\")")]);
        assert_eq!(unused_scripts(&similar).len(), 1);
    }

    #[test]
    fn links_lead_to_files_and_headings() {
        let text = "[a](docs/a.md) [b](docs/a.md#two-words) [c](https://example.org) [d](#here)\n# Here\n";
        let texts = texts_of(&[("README.md", text), ("docs/a.md", "## Two words\n[up](../README.md)\n")]);
        let exists = |path: &Path| texts.contains_key(path);
        assert_eq!(broken_links(&texts, &exists), Vec::<String>::new());
        let broken = texts_of(&[("README.md", "[a](b.md) [c](#there)\n```\n[x](y.md)\n```\n")]);
        assert_eq!(broken_links(&broken, &|path| broken.contains_key(path)).len(), 2);
    }
}
