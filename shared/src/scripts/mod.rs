//! The Redis scripts, and how to call them: EVALSHA first, EVAL when Redis does not know the script (it was restarted).

/// A script and the digest that Redis knows it by.
#[derive(Debug)]
pub struct Script {
    pub name: &'static str,
    /// One behind the other: what several scripts begin with is there once.
    parts: &'static [&'static str],
    /// 40 hex digits. Computed when this is compiled: an instance's first request does not wait for it.
    sha1: [u8; 40],
}

impl Script {
    const fn new(name: &'static str, parts: &'static [&'static str], joined: &[u8]) -> Script {
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

    /// Passes on the words of an EVALSHA command, or of EVAL when `whole`, one after another.
    pub fn words(&self, whole: bool, keys: &[&str], arguments: &[&[u8]], mut word: impl FnMut(&[u8])) {
        if whole {
            word(b"EVAL");
            word(self.source().as_bytes());
        } else {
            word(b"EVALSHA");
            word(&self.sha1);
        }
        word(keys.len().to_string().as_bytes());
        keys.iter().for_each(|key| word(key.as_bytes()));
        arguments.iter().for_each(|argument| word(argument));
    }
}

/// Whether an error that Redis answered says that it does not know the script.
pub fn is_unknown_script(error: &str) -> bool {
    error.contains("NOSCRIPT") || error.contains("NoScript")
}

/// Whether an error that Redis answered is about the call alone: a key of another type, or a fault of the script's. Redis
/// itself is well; any other error says that it cannot work (loading, out of memory, read-only, refusing us).
pub fn is_about_the_call(error: &str) -> bool {
    error.contains("WRONGTYPE") || error.contains("user_script:") && error.contains("attempt to")
}

const fn length(parts: &[&str]) -> usize {
    let (mut sum, mut part) = (0, 0);
    while part < parts.len() {
        sum += parts[part].len();
        part += 1;
    }
    sum
}

const fn joined<const LENGTH: usize>(parts: &[&str]) -> [u8; LENGTH] {
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

/// Declares the scripts that the edge calls, and those of the origin alone.
macro_rules! scripts {
    (edge { $($edge:tt)+ } origin { $($origin:tt)+ }) => {
        scripts!(EdgeScripts, "Those that the edge calls, and no others: it is shipped small.", $($edge)+);
        scripts!(Scripts, "Every script.", $($edge)+ $($origin)+);
    };
    ($scripts:ident, $what:literal, $($(#[$doc:meta])* $field:ident: [$($file:literal),+],)+) => {
        #[doc = $what]
        ///
        /// Ready to be called. Build it once.
        #[derive(Debug)]
        pub struct $scripts { $($(#[$doc])* pub $field: Script,)+ }

        impl $scripts {
            pub fn new() -> $scripts {
                $scripts {
                    $($field: const {
                        const PARTS: &[&str] = &[$(include_str!($file)),+];
                        Script::new(stringify!($field), PARTS, &joined::<{ length(PARTS) }>(PARTS))
                    },)+
                }
            }

            pub fn all(&self) -> Vec<&Script> {
                vec![$(&self.$field,)+]
            }
        }

        impl Default for $scripts {
            fn default() -> $scripts {
                $scripts::new()
            }
        }
    };
}

scripts! {
    edge {
        /// Secret, limits, membership and sliding expiry, in the user's slot.
        admit: ["limits_core.lua", "admit.lua"],
        /// Limits without a session.
        limit: ["limits_core.lua", "limit.lua"],
        /// The state of limits.
        peek: ["limits_core.lua", "peek.lua"],
        /// A failed attempt's entry, returned.
        give_back: ["give_back.lua"],
        /// The reaction counts of a cached list's items.
        counts: ["counts.lua"],
        /// A reaction, made or taken back.
        react: ["writes_core.lua", "react.lua"],
        /// A visit, noted.
        visit: ["writes_core.lua", "visit.lua"],
    }
    origin {
        /// A writer's fence, raised.
        fence: ["fences_core.lua", "fence.lua"],
        /// A writer's fence, dropped after the commit.
        release: ["fences_core.lua", "release.lua"],
        /// A writer's fence, dropped after a rollback.
        unhide: ["fences_core.lua", "unhide.lua"],
        /// The right to fill.
        lease: ["fences_core.lua", "lease.lua"],
        /// A fill.
        fill: ["fences_core.lua", "fill.lua"],
        /// The relay's invalidation.
        invalidate: ["invalidate.lua"],
        /// The relay's vouching.
        vouch: ["vouch.lua"],
        /// The relay's events.
        append: ["append.lua"],
        /// Messages' reactions, from Postgres.
        install: ["fences_core.lua", "writes_core.lua", "install.lua"],
        /// Messages' reactions, compared with Postgres.
        audit: ["writes_core.lua", "audit.lua"],
        /// A partition, opened for what is written behind.
        open: ["writes_core.lua", "open.lua"],
        /// A partition's flushed entries, removed.
        trim: ["writes_core.lua", "trim.lua"],
        /// A draft, saved.
        autosave: ["writes_core.lua", "autosave.lua"],
        /// A draft and its row, brought together.
        restore: ["writes_core.lua", "restore.lua"],
        /// A draft's version, known to be in Postgres.
        flushed: ["flushed.lua"],
        /// A draft that is in Postgres, dropped.
        drop_flushed: ["drop_flushed.lua"],
    }
}

/// The words that describe limits to a script: count, then for each its kind, number of windows, and their numbers.
pub fn describe_limits(limits: &[&crate::limits::LimitRow]) -> Vec<Vec<u8>> {
    use crate::limits::Precision;
    let mut words = vec![limits.len().to_string()];
    for row in limits {
        words.push(match row.precision {
            Precision::Exact => "w".to_owned(),
            Precision::Counter => "c".to_owned(),
        });
        words.push(row.windows.len().to_string());
        for window in row.windows {
            words.push(window.admitted.to_string());
            words.push((u64::from(window.seconds) * 1000).to_string());
        }
    }
    words.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_parts_joined() {
        const PARTS: &[&str] = &["return", " ", "1"];
        let script = const { Script::new("one", PARTS, &joined::<{ length(PARTS) }>(PARTS)) };
        assert_eq!(script.source(), "return 1");
        // What SCRIPT LOAD answers.
        assert_eq!(&script.sha1, b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }
}
