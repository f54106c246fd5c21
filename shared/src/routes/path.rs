//! Finds the route of a path, and the ids and the kind that it names. It does not look at the caller's rights.

use super::{Method, ROUTES, Route};
use crate::ids::{Id, Ids, parse_sent_id};
use crate::reactions::Kind;

/// The outcome of a look-up.
#[derive(Debug)]
pub enum Matched {
    Route(&'static Route, Path),
    /// The path exists, but only for these methods, in their order.
    MethodNotAllowed(Vec<Method>),
    /// A parameter of the path is not valid: its name, and why.
    BadParameter(&'static str, &'static str),
    NotFound,
}

/// The parameters of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    pub ids: Ids,
    /// The kind of a reaction.
    pub kind: Option<Kind>,
}

impl Path {
    /// Sets a parameter from its segment, or returns why the segment is not valid.
    fn set(&mut self, name: &str, segment: &str) -> Option<&'static str> {
        match name {
            // The name of a copy: only the origin reads it.
            "key" => None,
            "kind" => {
                self.kind = Kind::parse(segment);
                self.kind.is_none().then_some("is not a kind of reaction")
            }
            _ => {
                let Some(id) = Id::parse(name) else { return Some("is not a parameter of any path") };
                let Some(value) = parse_sent_id(segment) else { return Some("is not an id") };
                self.ids = self.ids.with(id, value);
                None
            }
        }
    }
}

/// Finds the route of a request. `path` is without the query; `HEAD` finds the route of `GET`.
pub fn lookup(method: &str, path: &str) -> Matched {
    let wanted = Method::parse(method);
    let mut allowed = Vec::new();
    let mut bad: Option<(&'static str, &'static str, usize)> = None;
    let mut found: Option<(&'static Route, Path, usize)> = None;
    let slashes = path.bytes().filter(|byte| *byte == b'/').count();
    for (route, shape) in ROUTES.iter().zip(&SHAPES) {
        if shape.slashes != slashes || !path.starts_with(&route.path[..shape.literal]) {
            continue;
        }
        match match_path(route.path, path) {
            PathMatch::No => {}
            PathMatch::Bad(name, reason, literals) if bad.is_none_or(|(.., best)| literals > best) => {
                bad = Some((name, reason, literals));
            }
            PathMatch::Bad(..) => {}
            PathMatch::Yes(named, literals) => {
                allowed.push(route.method);
                // `/members/me` is more literal than `/members/{user}`, and wins.
                if wanted == Some(route.method) && found.as_ref().is_none_or(|(_, _, best)| literals > *best)
                {
                    found = Some((route, named, literals));
                }
            }
        }
    }
    if let Some((route, named, _)) = found {
        return Matched::Route(route, named);
    }
    if !allowed.is_empty() {
        let methods = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];
        return Matched::MethodNotAllowed(
            methods.into_iter().filter(|method| allowed.contains(method)).collect(),
        );
    }
    bad.map_or(Matched::NotFound, |(name, reason, _)| Matched::BadParameter(name, reason))
}

enum PathMatch {
    No,
    /// The parameter that is not valid, why, and how many segments are literal.
    Bad(&'static str, &'static str, usize),
    Yes(Path, usize),
}

/// Features of a template that rule most routes out quickly.
#[derive(Clone, Copy)]
struct Shape {
    slashes: usize,
    /// Bytes before the first parameter.
    literal: usize,
}

const SHAPES: [Shape; ROUTES.len()] = {
    let mut shapes = [Shape { slashes: 0, literal: 0 }; ROUTES.len()];
    let mut index = 0;
    while index < ROUTES.len() {
        shapes[index] = shape(ROUTES[index].path.as_bytes());
        index += 1;
    }
    shapes
};

const fn shape(template: &[u8]) -> Shape {
    let mut shape = Shape { slashes: 0, literal: template.len() };
    let mut index = 0;
    while index < template.len() {
        if template[index] == b'/' {
            shape.slashes += 1;
        }
        if template[index] == b'{' && index < shape.literal {
            shape.literal = index;
        }
        index += 1;
    }
    shape
}

/// Matches a path with as many segments as the template.
fn match_path(template: &'static str, path: &str) -> PathMatch {
    let parameter = |expected: &'static str| expected.strip_prefix('{')?.strip_suffix('}');
    let segments = || template.split('/').zip(path.split('/'));
    // Parameters are parsed only if everything else matches.
    let fits = |(expected, segment): (&'static str, &str)| match parameter(expected) {
        Some(_) => !segment.is_empty(),
        None => expected == segment,
    };
    if !segments().all(fits) {
        return PathMatch::No;
    }
    let mut named = Path::default();
    let mut literals = 0;
    let mut bad = None;
    for (expected, segment) in segments() {
        match parameter(expected) {
            Some(name) => bad = bad.or(named.set(name, segment).map(|reason| (name, reason))),
            None => literals += 1,
        }
    }
    match bad {
        None => PathMatch::Yes(named, literals),
        Some((name, reason)) => PathMatch::Bad(name, reason, literals),
    }
}
