//! A script's text and its digest, as EVAL and EVALSHA take them. Each script's own module knows its arguments.

/// A script and the digest that Redis knows it by.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    pub name: &'static str,
    /// Concatenated in order; shared prefixes are stored once.
    parts: &'static [&'static str],
    /// 40 hex digits, computed at compile time: an instance's first request does not wait for it.
    sha1: [u8; 40],
}

/// The most that a call of a script touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound<'a> {
    /// The keys that it is given; it touches no others.
    pub keys: usize,
    /// Of its keys' names, its arguments and its reply.
    pub bytes: usize,
    /// What makes the bytes more, if nothing caps them; `bytes` is then what the suite's data has.
    pub uncapped: Option<&'a str>,
}

impl Script {
    pub(super) const fn new(name: &'static str, parts: &'static [&'static str], joined: &[u8]) -> Script {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digest = const_sha1::sha1(joined).as_bytes();
        let mut sha1 = [0; 40];
        let mut at = 0;
        while at < digest.len() {
            sha1[at * 2] = DIGITS[(digest[at] >> 4) as usize];
            sha1[at * 2 + 1] = DIGITS[(digest[at] & 15) as usize];
            at += 1;
        }
        Script { name, parts, sha1 }
    }

    pub fn source(&self) -> String {
        self.parts.concat()
    }

    /// What the head of its own file states:
    ///
    /// ```text
    /// -- Bound: 4 keys, 1 KiB
    /// -- Bound: 9 keys, 600 KiB, uncapped: reactions to a message
    /// ```
    ///
    /// `None` if it has no such line, or one of another form.
    pub fn bound(&self) -> Option<Bound<'static>> {
        let own = self.parts.last().copied()?;
        let mut lines = own.lines().filter_map(|line| line.strip_prefix("-- Bound: "));
        let (keys, rest) = lines.next().filter(|_| lines.next().is_none())?.split_once(" keys, ")?;
        let (kib, uncapped) = match rest.split_once(" KiB, uncapped: ") {
            Some((kib, why)) => (kib, Some(why).filter(|why| !why.is_empty())?.into()),
            None => (rest.strip_suffix(" KiB")?, None),
        };
        let number = |text: &str| text.parse().ok().filter(|number: &usize| number.to_string() == text);
        Some(Bound { keys: number(keys)?, bytes: number(kib)? * 1024, uncapped })
    }

    /// The words before the keys.
    pub(super) fn head(&self, whole: bool, keys: usize, mut word: impl FnMut(&[u8])) {
        if whole {
            word(b"EVAL");
            word(self.source().as_bytes());
        } else {
            word(b"EVALSHA");
            word(&self.sha1);
        }
        word(keys.to_string().as_bytes());
    }
}

pub(super) const fn length(parts: &[&str]) -> usize {
    let (mut sum, mut part) = (0, 0);
    while part < parts.len() {
        sum += parts[part].len();
        part += 1;
    }
    sum
}

pub(super) const fn joined<const LENGTH: usize>(parts: &[&str]) -> [u8; LENGTH] {
    let mut joined = [0; LENGTH];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let bytes = parts[part].as_bytes();
        let mut byte = 0;
        while byte < bytes.len() {
            joined[at] = bytes[byte];
            at += 1;
            byte += 1;
        }
        part += 1;
    }
    joined
}

/// The bytes that [`code`] leaves of a file.
pub(super) const fn code_length(text: &str) -> usize {
    code_into(text.as_bytes(), &mut [])
}

/// A file without indentation, empty lines and comments, except for the bound: an edge ships the scripts that it calls.
pub(super) const fn code<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut code = [0; LENGTH];
    code_into(text.as_bytes(), &mut code);
    code
}

/// Writes what there is room for; returns the length of all.
const fn code_into(text: &[u8], code: &mut [u8]) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < text.len() {
        while from < text.len() && text[from] == b' ' {
            from += 1;
        }
        let mut end = from;
        while end < text.len() && text[end] != b'\n' {
            end += 1;
        }
        let is_kept = end > from && (!begins(text, from, b"--") || begins(text, from, b"-- Bound: "));
        while is_kept && from <= end {
            if to < code.len() {
                code[to] = if from < end { text[from] } else { b'\n' };
            }
            to += 1;
            from += 1;
        }
        from = end + 1;
    }
    to
}

const fn begins(text: &[u8], at: usize, with: &[u8]) -> bool {
    let mut byte = 0;
    while byte < with.len() {
        if at + byte >= text.len() || text[at + byte] != with[byte] {
            return false;
        }
        byte += 1;
    }
    true
}

/// A named script from its parts: `*_core.lua` files first, then its own.
macro_rules! script {
    ($name:literal: $($file:literal),+) => {{
        const PARTS: &[&str] = &[$({
            const TEXT: &str = include_str!($file);
            const CODE: [u8; $crate::scripts::script::code_length(TEXT)] = $crate::scripts::script::code(TEXT);
            match std::str::from_utf8(&CODE) {
                Ok(code) => code,
                Err(_) => panic!("lines were dropped whole"),
            }
        }),+];
        const JOINED: [u8; $crate::scripts::script::length(PARTS)] = $crate::scripts::script::joined(PARTS);
        $crate::scripts::script::Script::new($name, PARTS, &JOINED)
    }};
}
pub(super) use script;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_read_from_the_last_part() {
        let bound = |own: &'static str| {
            let parts: &'static [&'static str] = vec!["-- Bound: 9 keys, 9 KiB\n", own].leak();
            Script::new("one", parts, b"").bound()
        };
        let read = |keys, bytes, uncapped| Some(Bound { keys, bytes, uncapped });
        assert_eq!(bound("-- A.\n-- Bound: 4 keys, 1 KiB\nreturn 1"), read(4, 1024, None));
        assert_eq!(bound("-- Bound: 1 keys, 20 KiB, uncapped: members"), read(1, 20 * 1024, Some("members")));
        for own in [
            "return 1",
            "-- Bound: 4 keys",
            "-- Bound: 4 keys, 1 MiB",
            "-- Bound: 04 keys, 1 KiB",
            "-- Bound: four keys, 1 KiB",
            "-- Bound: 4 keys, 1 KiB, uncapped: ",
            "-- Bound: 4 keys, 1 KiB.",
            "-- Bound: 4 keys, 1 KiB\n-- Bound: 5 keys, 1 KiB",
            "return 1 -- Bound: 4 keys, 1 KiB",
        ] {
            assert_eq!(bound(own), None, "{own}");
        }
    }

    #[test]
    fn only_code_and_the_bound_are_left_of_a_file() {
        const TEXT: &str = "-- A.\n\n-- Bound: 1 keys, 1 KiB\nif a then\n  -- Why.\n  b() -- c\nend";
        const CODE: [u8; code_length(TEXT)] = code(TEXT);
        assert_eq!(std::str::from_utf8(&CODE), Ok("-- Bound: 1 keys, 1 KiB\nif a then\nb() -- c\nend\n"));
        assert_eq!(code_length(""), 0);
    }

    #[test]
    fn a_digest_is_that_of_the_parts_joined() {
        const PARTS: &[&str] = &["return", " ", "1"];
        let script = const { Script::new("one", PARTS, &joined::<{ length(PARTS) }>(PARTS)) };
        assert_eq!(script.source(), "return 1");
        // The answer of SCRIPT LOAD.
        assert_eq!(&script.sha1, b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
