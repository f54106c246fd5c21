//! The Redis scripts, and how to call them: EVALSHA first, EVAL when Redis does not know the script (it was restarted).

use sha1::{Digest, Sha1};

/// A script and the digest that Redis knows it by.
#[derive(Debug)]
pub struct Script {
    pub name: &'static str,
    /// One behind the other: what several scripts begin with is there once.
    parts: &'static [&'static str],
    /// 40 hex digits.
    pub sha1: String,
}

impl Script {
    fn new(name: &'static str, parts: &'static [&'static str]) -> Script {
        let mut digest = Sha1::new();
        parts.iter().for_each(|part| digest.update(part.as_bytes()));
        let sha1 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
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
            word(self.sha1.as_bytes());
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
                $scripts { $($field: Script::new(stringify!($field), &[$(include_str!($file)),+]),)+ }
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
