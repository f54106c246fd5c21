//! `cargo xtask doctor`: checks a deployment's variables before they are deployed, with the parsers of edge and origin. A
//! wrong one would stop an origin's start, and make each request to an edge fail.
//!
//! It connects to nothing. A parser stops at the first wrong value, so each is replaced by a right one until none is left.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use optimist_edge_core::Config;

use crate::terminal::{Colour, heading, line, paint};
use crate::workspace;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The native service, by its `OPTIMIST_…` variables
    Origin,
    /// The edge on Workers, by its `OPTIMIST_…` variables and secrets
    Cloudflare,
    /// The edge on Spin, by its `SPIN_VARIABLE_…` variables
    Spin,
}

/// Variables, by their whole names.
type Variables = BTreeMap<String, String>;

/// A variable's whole name, and the reason for which it is wrong.
type Wrong = (String, String);

/// What of each part's variables shows only once it runs.
const NOT_CHECKED: &str = "
  Not checked: whether hosts and credentials are right, whether edge and origin share keys and a region, and what is set
  elsewhere: bindings and routes in wrangler.toml, secrets at Cloudflare, providers of Spin's variables.";

/// Reads the variables from a file of `NAME=value` lines, or from the environment.
pub fn run(parts: &[Part], file: Option<&Path>) -> Result<()> {
    let variables: Variables = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            parse(&text.with_context(|| format!("{} cannot be read", file.display()))?)?
        }
        None => {
            let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
                Some((name.into_string().ok()?, value.into_string().ok()?))
            };
            std::env::vars_os().filter_map(text).collect()
        }
    };
    let mut count = 0;
    for part in parts {
        let wrong = match part {
            Part::Origin => wrong_of_origin(&variables)?,
            Part::Cloudflare => wrong_of_edge(&variables, "OPTIMIST_").0,
            Part::Spin => wrong_of_spin(&variables),
        };
        heading(format_args!("{part:?}"));
        for (name, reason) in &wrong {
            line(format_args!("  {} {name}: {reason}", paint(Colour::Red, "✗")));
        }
        if wrong.is_empty() {
            line(format_args!("  {} every variable is right", paint(Colour::Green, "✓")));
        }
        count += wrong.len();
    }
    line(paint(Colour::Dim, NOT_CHECKED));
    ensure!(count == 0, "{count} variables are wrong");
    Ok(())
}

/// Parses `NAME=value` lines, as shells and systemd write them: blank lines, `#` comments, `export`, and quotes around a
/// whole value.
fn parse(text: &str) -> Result<Variables> {
    let mut variables = Variables::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) =
            line.split_once('=').with_context(|| format!("line {number} is not NAME=value"))?;
        let value = value.trim();
        let unquoted =
            ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        variables.insert(name.trim().to_owned(), unquoted.unwrap_or(value).to_owned());
    }
    Ok(variables)
}

/// The wrong variables of an edge whose names begin with `prefix`, and the names of all that it reads.
fn wrong_of_edge(variables: &Variables, prefix: &str) -> (Vec<Wrong>, BTreeSet<String>) {
    let whole = |name: &str| format!("{prefix}{}", name.to_uppercase());
    let (mut wrong, mut replaced) = (Vec::new(), BTreeSet::new());
    let read = RefCell::new(BTreeSet::new());
    loop {
        let lookup = |name: &'static str| {
            read.borrow_mut().insert(whole(name));
            match replaced.contains(name) {
                true => right(name),
                false => variables.get(&whole(name)).cloned(),
            }
        };
        let Err(error) = Config::from_lookup(lookup) else { break };
        wrong.push((whole(error.variable), error.reason));
        // A right value is never wrong; if it were, this would have no end.
        if !replaced.insert(error.variable) {
            break;
        }
    }
    (wrong, read.into_inner())
}

/// A value that the parsers accept; `None` for what has a default.
fn right(name: &str) -> Option<String> {
    let value = match name {
        "region" => "eu",
        "origin_url" => "http://localhost",
        "redis_url" => "redis://localhost",
        "database_url" | "migrate_database_url" | "relay_replica_url" | "replica_url" | "replica_urls" => {
            "postgres://localhost/optimist"
        }
        name if name.ends_with("_keys") => "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        _ => return None,
    };
    Some(value.to_owned())
}

/// The edge's own, and those that Spin itself wants: see `spin.toml`.
fn wrong_of_spin(variables: &Variables) -> Vec<Wrong> {
    const PREFIX: &str = "SPIN_VARIABLE_";
    const REDIS_HOST: &str = "SPIN_VARIABLE_REDIS_HOST";
    let (mut wrong, mut known) = wrong_of_edge(variables, PREFIX);
    known.insert(REDIS_HOST.to_owned());
    let value = |name: &str| variables.get(name).map(|value| value.trim()).unwrap_or_default();
    let redis_url = value("SPIN_VARIABLE_REDIS_URL");
    let reason = match value(REDIS_HOST) {
        "" => Some("is required".to_owned()),
        host if Some(host) != server(redis_url).as_deref() && !redis_url.is_empty() => Some(
            "must be host and port of SPIN_VARIABLE_REDIS_URL, or Spin will not connect there".to_owned(),
        ),
        _ => None,
    };
    wrong.extend(reason.map(|reason| (REDIS_HOST.to_owned(), reason)));
    let unknown = variables.keys().filter(|name| name.starts_with(PREFIX) && !known.contains(*name));
    wrong.extend(unknown.map(|name| (name.clone(), "is no variable of the edge's".to_owned())));
    wrong
}

/// `host:port` of a Redis URL; Spin matches the port, so the usual one is written out.
fn server(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let has_port =
        host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    Some(if has_port { host.to_owned() } else { format!("{host}:6379") })
}

const ORIGIN_PREFIX: &str = "OPTIMIST_";

/// Asks `optimist-origin check-config` until it finds nothing more.
fn wrong_of_origin(variables: &Variables) -> Result<Vec<Wrong>> {
    let root = workspace::root()?;
    let origin = workspace::build(&root, &["--package=optimist-origin"])?.executable("optimist-origin")?;
    replacing(variables, |variables| {
        let mut command = Command::new(&origin);
        command.arg("check-config").current_dir(&root);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(ORIGIN_PREFIX) {
                command.env_remove(name);
            }
        }
        let ours = variables.iter().filter(|(name, _)| name.starts_with(ORIGIN_PREFIX));
        let output = command.envs(ours).output().context("optimist-origin cannot be run")?;
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok((!output.status.success()).then_some(text))
    })
}

/// The wrong variables, found one by one: `complaint` is what the origin says of the first, if anything.
fn replacing(
    variables: &Variables,
    complaint: impl Fn(&Variables) -> Result<Option<String>>,
) -> Result<Vec<Wrong>> {
    let (mut variables, mut wrong) = (variables.clone(), Vec::<Wrong>::new());
    while let Some(text) = complaint(&variables)? {
        let text = text.strip_prefix("optimist-origin: ").unwrap_or(&text);
        let named = text.split_once(' ').filter(|(name, _)| name.starts_with(ORIGIN_PREFIX));
        let Some((name, reason)) = named.filter(|(name, _)| !wrong.iter().any(|(known, _)| known == name))
        else {
            // It names no variable, or one that has been replaced already: the file that OPTIMIST_CONFIG names, perhaps.
            wrong.push(("the configuration".to_owned(), text.to_owned()));
            break;
        };
        wrong.push((name.to_owned(), reason.to_owned()));
        // A key ring comes from its variable or from a file: a right one comes from the variable alone.
        let ring = name.strip_suffix("_FILE").unwrap_or(name);
        for name in [name.to_owned(), ring.to_owned(), format!("{ring}_FILE")] {
            variables.remove(&name);
        }
        let bare = ring.strip_prefix(ORIGIN_PREFIX).unwrap_or(ring).to_lowercase();
        variables.extend(right(&bare).map(|value| (ring.to_owned(), value)));
    }
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn spin(changes: &[(&str, &str)]) -> Vec<Wrong> {
        let mut variables = parse(&format!(
            "SPIN_VARIABLE_REGION=eu\nexport SPIN_VARIABLE_ORIGIN_URL=http://origin.internal:8080\n# Redis\n\n\
             SPIN_VARIABLE_REDIS_URL='rediss://u:p@redis.internal:6380/0'\n\
             SPIN_VARIABLE_REDIS_HOST=\"redis.internal:6380\"\nSPIN_VARIABLE_SIGNING_KEYS={KEY}\n"
        ))
        .unwrap();
        for (name, value) in changes {
            variables.insert(format!("SPIN_VARIABLE_{name}"), (*value).to_owned());
        }
        wrong_of_spin(&variables)
    }

    fn names(wrong: &[Wrong]) -> Vec<&str> {
        wrong.iter().map(|(name, _)| name.strip_prefix("SPIN_VARIABLE_").unwrap()).collect()
    }

    #[test]
    fn every_wrong_variable_of_an_edge_is_named_at_once() {
        assert_eq!(spin(&[]), Vec::new());
        let wrong = spin(&[
            ("REDIS_URL", "redis://redis.internal:6380"),
            ("SIGNING_KEYS", "k1:c2hvcnQ="),
            ("ORIGIN_URL", ""),
            ("REDIS_DEADLINE_MS", "soon"),
            ("TRUSTED_PROXIES", "everyone"),
        ]);
        let expected = ["SIGNING_KEYS", "ORIGIN_URL", "REDIS_URL", "TRUSTED_PROXIES", "REDIS_DEADLINE_MS"];
        assert_eq!(names(&wrong), expected);
        assert!(wrong[2].1.contains("must begin with `rediss://`"), "{wrong:?}");
    }

    #[test]
    fn spin_wants_the_host_of_redis_and_knows_its_variables() {
        for host in ["", "redis.internal", "redis.internal:6379", "other.internal:6380"] {
            assert_eq!(names(&spin(&[("REDIS_HOST", host)])), ["REDIS_HOST"], "{host:?}");
        }
        assert_eq!(names(&spin(&[("REGIONS", "eu")])), ["REGIONS"]);
        assert_eq!(server("redis://localhost").as_deref(), Some("localhost:6379"));
        assert_eq!(server("redis://[::1]:1").as_deref(), Some("[::1]:1"));
    }

    #[test]
    fn every_wrong_variable_of_the_origin_is_named_at_once() {
        let variables =
            parse("OPTIMIST_REGION=EU\nOPTIMIST_TOKEN_KEYS_FILE=/none\nOPTIMIST_DATABASE_POOL=0").unwrap();
        // As the origin reads them: the first that is wrong.
        let complaint = |variables: &Variables| {
            let of = |name: &str| variables.get(name).map(String::as_str);
            Ok(match (of("OPTIMIST_REGION"), of("OPTIMIST_DATABASE_POOL"), of("OPTIMIST_TOKEN_KEYS")) {
                (Some("EU"), ..) => {
                    Some("optimist-origin: OPTIMIST_REGION may hold lower-case letters".to_owned())
                }
                (_, Some("0"), _) => {
                    Some("optimist-origin: OPTIMIST_DATABASE_POOL must lie between".to_owned())
                }
                (.., None) => Some("optimist-origin: OPTIMIST_TOKEN_KEYS_FILE cannot be read".to_owned()),
                _ => None,
            })
        };
        let wrong = replacing(&variables, complaint).unwrap();
        let names: Vec<&str> = wrong.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["OPTIMIST_REGION", "OPTIMIST_DATABASE_POOL", "OPTIMIST_TOKEN_KEYS_FILE"]);
        let unnamed = replacing(&variables, |_| Ok(Some("a file that is no TOML".to_owned()))).unwrap();
        assert_eq!(unnamed, [("the configuration".to_owned(), "a file that is no TOML".to_owned())]);
    }

    #[test]
    fn a_line_that_is_no_variable_is_refused_by_its_number() {
        assert!(parse("A=1\nnonsense").unwrap_err().to_string().contains("line 2"));
    }
}
