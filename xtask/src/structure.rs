//! The structure that the project promises: imports run one way, the plane names no domain, files can be read in one sitting,
//! and the documents that describe the tree agree with it.
//!
//! Imports are read as text: `use crate::…`, paths that begin with `crate::`, and `super::`. Macros and re-exports,
//! which a compiler would follow, are not followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::tidy::Texts;

/// Files of one crate that may import each other in a circle. More are one file in pieces.
const LARGEST_CIRCLE: usize = 4;
/// Lines of the origin's files: the longest, and the median.
const LONGEST: usize = 450;
const MEDIAN: usize = 160;

/// The keys that the plane may name: those of the protocols, whatever the product is about.
const PLANE_KEYS: [&str; 11] = [
    "Vouch", "Epoch", "Metrics", "Events", "Cursor", "Settled", "Wake", "Writes", "Ledger", "Outgoing",
    "Tickets",
];
/// Constructors of keys that name no domain's.
const PLANE_CONSTRUCTORS: [&str; 2] = ["of_partition", "tickets"];
/// Modules of `shared` that belong to domains.
const DOMAIN_MODULES: [&str; 5] =
    ["reactions", "scripts::react", "scripts::visit", "scripts::install", "scripts::drafts"];
const PLANE: &str = "origin/plane/src";
const DOMAINS: &str = "origin/src/domains.rs";
const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// Documents that name files of the tree.
const GUIDES: [&str; 2] = [ARCHITECTURE, "CONTRIBUTING.md"];

/// Everything that is wrong with the structure.
pub fn complaints(texts: &Texts) -> Vec<String> {
    let mut found = Vec::new();
    for crate_ in crates(texts) {
        let imports = imports(&crate_);
        found.extend(circles(&crate_.folder, &imports));
    }
    found.extend(nouns_in_plane(texts));
    found.extend(order_of_domains(texts));
    found.extend(sizes(texts));
    found.extend(guides(texts));
    found
}

/// A crate's modules: the file of each, and what it says besides tests and comments.
struct Crate {
    folder: PathBuf,
    modules: BTreeMap<Vec<String>, (PathBuf, String)>,
}

fn crates(texts: &Texts) -> Vec<Crate> {
    let folders = texts.keys().filter(|path| path.ends_with("Cargo.toml")).filter_map(|path| path.parent());
    folders
        .map(|folder| {
            let src = folder.join("src");
            let files = texts.iter().filter(|(path, _)| path.starts_with(&src));
            let modules = files.filter_map(|(path, text)| {
                let module = module_of(path.strip_prefix(&src).ok()?)?;
                Some((module, (path.clone(), code_of(text))))
            });
            Crate { folder: folder.to_owned(), modules: modules.collect() }
        })
        .filter(|crate_| !crate_.modules.is_empty())
        .collect()
}

/// `a/b.rs` is the module `a::b`; `lib.rs` and `main.rs` are the root.
fn module_of(path: &Path) -> Option<Vec<String>> {
    if path.extension()? != "rs" {
        return None;
    }
    let mut parts: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        parts.pop();
    }
    Some(parts)
}

/// Without comments, and without the tests at the end.
fn code_of(text: &str) -> String {
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    code.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Which file imports which.
type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

fn imports(crate_: &Crate) -> Imports {
    let mut imports = Imports::new();
    for (module, (path, code)) in &crate_.modules {
        let targets = imports.entry(path.clone()).or_default();
        for named in paths_in(code, module) {
            // The longest beginning that is a module.
            let found = (1..=named.len()).rev().find_map(|length| crate_.modules.get(&named[..length]));
            if let Some((target, _)) = found.filter(|(target, _)| target != path) {
                targets.insert(target.clone());
            }
        }
    }
    imports
}

/// The paths within the crate that a module's code names, from the crate's root; groups in braces are taken apart.
fn paths_in(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let parent = module[..module.len().saturating_sub(1)].to_vec();
    let mut paths = paths_after(code, "crate::", &[]);
    paths.extend(paths_after(code, "super::", &parent));
    paths
}

/// The paths that follow `start` wherever it begins a path, under `root`.
fn paths_after(code: &str, start: &str, root: &[String]) -> Vec<Vec<String>> {
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b':');
    let mut paths = Vec::new();
    for (at, _) in code.match_indices(start) {
        if at == 0 || !is_path(code.as_bytes()[at - 1]) {
            read_path(&code[at + start.len()..], root.to_vec(), &mut paths);
        }
    }
    paths
}

/// Reads `a::b::{c, d::e}` from the start of the text, and returns the rest.
fn read_path<'a>(text: &'a str, mut path: Vec<String>, paths: &mut Vec<Vec<String>>) -> &'a str {
    let mut rest = text;
    loop {
        if let Some(group) = rest.strip_prefix('{') {
            rest = group;
            loop {
                rest = read_path(rest.trim_start(), path.clone(), paths).trim_start();
                match rest.strip_prefix(',') {
                    Some(next) => rest = next,
                    None => return rest.strip_prefix('}').unwrap_or(rest),
                }
            }
        }
        let length =
            rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
        if length == 0 {
            // `}` after a trailing comma, `*`, or the end.
            return rest;
        }
        path.push(rest[..length].to_owned());
        rest = &rest[length..];
        match rest.strip_prefix("::") {
            Some(next) => rest = next,
            None => {
                paths.push(path);
                // `as name`
                let end = rest.find([',', '}', ';', '\n', '(', ')']).unwrap_or(rest.len());
                return &rest[end..];
            }
        }
    }
}

/// Circles that are too large, and those between folders that stand side by side.
fn circles(folder: &Path, imports: &Imports) -> Vec<String> {
    let mut found = Vec::new();
    for circle in circles_of(imports) {
        if circle.len() > LARGEST_CIRCLE {
            found.push(format!(
                "{}: {} files import each other: {}",
                folder.display(),
                circle.len(),
                names(&circle)
            ));
        }
    }
    let parents: BTreeSet<&Path> = imports.keys().flat_map(|path| path.ancestors().skip(1)).collect();
    for parent in parents.into_iter().filter(|parent| parent.starts_with(folder.join("src"))) {
        let child = |path: &Path| {
            let rest = path.strip_prefix(parent).ok()?;
            let first = rest.iter().next()?;
            let name = parent.join(first).with_extension("");
            // A file beside its folder is the folder's own; one without a folder is none.
            imports.keys().any(|path| path.starts_with(&name)).then_some(name)
        };
        let mut between = Imports::new();
        for (path, targets) in imports {
            let Some(from) = child(path) else { continue };
            let to = targets.iter().filter_map(|target| child(target)).filter(|to| *to != from);
            between.entry(from.clone()).or_default().extend(to);
        }
        for circle in circles_of(&between) {
            found.push(format!("folders import each other: {}", names(&circle)));
        }
    }
    found
}

fn names(paths: &BTreeSet<PathBuf>) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Sets of two or more that reach each other.
fn circles_of(imports: &Imports) -> Vec<BTreeSet<PathBuf>> {
    let reaches: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|from| (from, reachable(imports, from))).collect();
    let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (from, reached) in &reaches {
        let back = |to: &&&PathBuf| reaches.get(**to).is_some_and(|reached| reached.contains(*from));
        let circle: BTreeSet<PathBuf> = reached.iter().filter(back).map(|path| (*path).clone()).collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

fn reachable<'a>(imports: &'a Imports, from: &'a PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(path) = next.pop() {
        for target in imports.get(path).into_iter().flatten() {
            if reached.insert(target) {
                next.push(target);
            }
        }
    }
    reached
}

/// Domains' keys and modules, named in the plane. (Its Cargo.toml cannot reach a domain's own code.)
fn nouns_in_plane(texts: &Texts) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in texts.iter().filter(|(path, _)| path.starts_with(PLANE)) {
        let code = code_of(text);
        let keys = code.match_indices("Key::").filter_map(|(at, start)| {
            let rest = &code[at + start.len()..];
            let name = &rest[..rest
                .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .unwrap_or(rest.len())];
            let is_plain = PLANE_KEYS.contains(&name) || PLANE_CONSTRUCTORS.contains(&name);
            let is_own = code[..at].ends_with(|letter: char| letter.is_alphanumeric() || letter == '_');
            (!is_plain && !is_own).then(|| format!("Key::{name}"))
        });
        found.extend(keys.map(|key| format!("{}: {key} belongs to a domain", path.display())));
        let modules: BTreeSet<String> =
            paths_after(&code, "optimist_shared::", &[]).iter().map(|path| path.join("::") + "::").collect();
        for module in DOMAIN_MODULES {
            if modules.iter().any(|path| path.starts_with(&format!("{module}::"))) {
                found.push(format!("{}: optimist_shared::{module} belongs to a domain", path.display()));
            }
        }
    }
    found
}

/// A domain may use those listed before it.
fn order_of_domains(texts: &Texts) -> Vec<String> {
    let Some(text) = texts.get(Path::new(DOMAINS)) else { return vec![format!("{DOMAINS} is missing")] };
    let code = code_of(text);
    let mut listed: Vec<&str> = code
        .lines()
        .filter_map(|line| line.trim().strip_suffix("::DOMAIN,"))
        .map(|name| name.split("::").next().unwrap_or(name))
        .collect();
    listed.dedup();
    let place = |name: &str| listed.iter().position(|listed| *listed == name);
    let mut found = Vec::new();
    for crate_ in crates(texts).into_iter().filter(|crate_| crate_.folder == Path::new("origin")) {
        for (module, (path, code)) in &crate_.modules {
            let Some(own) = module.first().and_then(|name| place(name)) else { continue };
            let higher = paths_in(code, module).into_iter().filter_map(|path| path.into_iter().next());
            for name in higher.filter(|name| place(name).is_some_and(|place| place > own)) {
                found.push(format!("{}: uses {name}, which stands above it in {DOMAINS}", path.display()));
            }
        }
    }
    found
}

fn sizes(texts: &Texts) -> Vec<String> {
    let files = texts.iter().filter(|(path, _)| {
        path.starts_with("origin") && path.extension().is_some_and(|extension| extension == "rs")
    });
    let mut lengths: Vec<(usize, &PathBuf)> =
        files.map(|(path, text)| (text.lines().count(), path)).collect();
    lengths.sort_unstable();
    let long = lengths.iter().filter(|(length, _)| *length > LONGEST);
    let mut found: Vec<String> = long
        .map(|(length, path)| format!("{}: {length} lines, more than {LONGEST}", path.display()))
        .collect();
    if let Some((median, _)) = lengths.get(lengths.len() / 2).filter(|(median, _)| *median > MEDIAN) {
        found.push(format!(
            "origin: half of the files have {median} lines or more; at most {MEDIAN} are meant"
        ));
    }
    found
}

/// Paths that the guides name and the tree does not have, folders that the code map leaves out, and flows that go in circles.
fn guides(texts: &Texts) -> Vec<String> {
    let mut found = Vec::new();
    let folders: BTreeSet<&Path> = texts.keys().flat_map(|path| path.ancestors().skip(1)).collect();
    let tops: BTreeSet<&Path> = texts
        .keys()
        .filter_map(|path| path.iter().next())
        .map(Path::new)
        .filter(|top| folders.contains(top))
        .collect();
    for guide in GUIDES {
        let text = texts.get(Path::new(guide)).map_or("", String::as_str);
        for named in in_backticks(text) {
            let path = Path::new(named.trim_end_matches('/'));
            let is_path =
                named.contains('/') && path.iter().next().is_some_and(|top| tops.contains(Path::new(top)));
            let is_plain = !named.contains([' ', '*', '<', '{', ':', '$']);
            if is_path && is_plain && !texts.contains_key(path) && !folders.contains(path) {
                found.push(format!("{guide}: there is no {named}"));
            }
        }
    }
    let text = texts.get(Path::new(ARCHITECTURE)).map_or("", String::as_str);
    let map = section(text, "Code map");
    let mapped = |name: &str| in_backticks(map).any(|path| path.trim_end_matches('/') == name);
    for parent in ["origin/src", PLANE, "edge", "."] {
        let parent = Path::new(if parent == "." { "" } else { parent });
        for folder in folders.iter().filter(|folder| folder.parent() == Some(parent)) {
            let name = folder.display().to_string();
            let is_hidden = name.starts_with('.') || name.is_empty();
            let holds_mapped = in_backticks(map).any(|path| path.starts_with(&format!("{name}/")));
            if !is_hidden && !mapped(&name) && !holds_mapped {
                found.push(format!("{ARCHITECTURE}: the code map leaves out {name}"));
            }
        }
    }
    for flow in section(text, "Two flows through the files").split("\n### ").skip(1) {
        for way in ["Down:", "Up:"] {
            let steps = flow.split(way).nth(1).map(|rest| rest.split("\n\n").next().unwrap_or_default());
            let files: Vec<&str> = steps.map(|steps| in_backticks(steps).collect()).unwrap_or_default();
            let unique: BTreeSet<&str> = files.iter().copied().collect();
            if files.is_empty() || unique.len() != files.len() {
                let title = flow.lines().next().unwrap_or_default();
                found.push(format!("{ARCHITECTURE}: `{title}` names no file, or one twice, under {way}"));
            }
        }
    }
    found
}

/// The texts in single backticks.
fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The text under a heading of the second level.
fn section<'a>(text: &'a str, title: &str) -> &'a str {
    let heading = format!("\n## {title}\n");
    let Some((_, rest)) = text.split_once(&heading) else { return "" };
    rest.split("\n## ").next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> Texts {
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect()
    }

    fn imports_of(files: &[(&str, &str)]) -> Imports {
        let texts = texts(&[&[("a/Cargo.toml", "")], files].concat());
        imports(&crates(&texts)[0])
    }

    fn targets(imports: &Imports, path: &str) -> Vec<String> {
        imports[Path::new(path)].iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn imports_are_read_from_groups_inline_paths_and_parents() {
        let code = "//! crate::no\nuse crate::{b::{self, c::Deep}, d};\nfn f() { super::e::g(); crate::f::h() }\n\
                    // crate::g\n#[cfg(test)]\nmod tests { use crate::tests_only; }\n";
        let files =
            ["src/b.rs", "src/b/c.rs", "src/d.rs", "src/e.rs", "src/f.rs", "src/g.rs", "src/tests_only.rs"]
                .map(|path| format!("a/{path}"));
        let mut all: Vec<(&str, &str)> = files.iter().map(|path| (path.as_str(), "")).collect();
        all.push(("a/src/x.rs", code));
        let found = targets(&imports_of(&all), "a/src/x.rs");
        assert_eq!(found, ["a/src/b/c.rs", "a/src/b.rs", "a/src/d.rs", "a/src/e.rs", "a/src/f.rs"]);
    }

    #[test]
    fn a_circle_of_folders_is_found_and_a_small_one_of_files_is_not() {
        let inside =
            imports_of(&[("a/src/x/one.rs", "use crate::x::two;"), ("a/src/x/two.rs", "use crate::x::one;")]);
        assert_eq!(circles(Path::new("a"), &inside), Vec::<String>::new());
        let between = imports_of(&[
            ("a/src/x/one.rs", "use crate::y::two;"),
            ("a/src/y/two.rs", ""),
            ("a/src/y.rs", "use crate::x::one;"),
        ]);
        assert_eq!(circles(Path::new("a"), &between).len(), 1);
        let chain: Vec<(String, String)> =
            (0..5).map(|n| (format!("a/src/f{n}.rs"), format!("use crate::f{};", (n + 1) % 5))).collect();
        let chain: Vec<(&str, &str)> =
            chain.iter().map(|(path, code)| (path.as_str(), code.as_str())).collect();
        assert_eq!(circles(Path::new("a"), &imports_of(&chain)).len(), 1);
    }

    #[test]
    fn the_plane_may_not_name_a_domains_key_or_module() {
        let found = |code| nouns_in_plane(&texts(&[("origin/plane/src/x.rs", code)])).len();
        assert_eq!(found("Key::Vouch.of_partition(p); BoundKey::parse(name)"), 0);
        assert_eq!(found("Key::Circle"), 1);
        assert_eq!(found("Key::circle(id)"), 1);
        assert_eq!(found("use optimist_shared::reactions::Kind;"), 1);
        assert_eq!(found("use optimist_shared::scripts::{Call, fence};"), 0);
        assert_eq!(found("use optimist_shared::scripts::{Call, react};"), 1);
    }

    #[test]
    fn a_domain_may_use_those_listed_before_it_alone() {
        let listed = "domains: &[\n    people::DOMAIN,\n    circles::DOMAIN,\n]";
        let with = |people| {
            let files = [
                ("origin/Cargo.toml", ""),
                (DOMAINS, listed),
                ("origin/src/people/me.rs", people),
                ("origin/src/circles/a.rs", "use crate::people::me;"),
            ];
            order_of_domains(&texts(&files)).len()
        };
        assert_eq!(with(""), 0);
        assert_eq!(with("use crate::circles::a;"), 1);
    }

    #[test]
    fn guides_name_what_is_there_and_leave_nothing_out() {
        let map = |text: &str| {
            let flows = "\n## Two flows through the files\n\n### One\n\nDown: `origin/src/a/b.rs`.\n\nUp: `origin/src/a/b.rs`.\n\n";
            let guide = format!("# A\n\n## Code map\n\n{text}\n{flows}");
            let files = [(ARCHITECTURE, guide.as_str()), ("origin/src/a/b.rs", "")];
            guides(&texts(&files))
        };
        assert_eq!(map("`origin/src/a`"), Vec::<String>::new());
        assert_eq!(map("`origin/src/a/b.rs`"), Vec::<String>::new());
        assert_eq!(map("`origin/src/a` `origin/src/c`").len(), 1, "there is no c");
        assert_eq!(map("`origin/src`").len(), 1, "a is left out");
    }
}
