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

/// A named script from its parts: `*_core.lua` files first, then its own.
macro_rules! script {
    ($name:literal: $($file:literal),+) => {{
        const PARTS: &[&str] = &[$(include_str!($file)),+];
        const JOINED: [u8; $crate::scripts::script::length(PARTS)] = $crate::scripts::script::joined(PARTS);
        $crate::scripts::script::Script::new($name, PARTS, &JOINED)
    }};
}
pub(super) use script;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_parts_joined() {
        const PARTS: &[&str] = &["return", " ", "1"];
        let script = const { Script::new("one", PARTS, &joined::<{ length(PARTS) }>(PARTS)) };
        assert_eq!(script.source(), "return 1");
        // The answer of SCRIPT LOAD.
        assert_eq!(&script.sha1, b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
