//! The limits table: how often a caller may do what.
//!
//! The edge applies it through Redis scripts; the origin through the same scripts or, without Redis, in memory. The routes
//! table says which routes a limit guards.

/// A limit of the table. `Limit::Messages.row()` is its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    Messages,
    Reactions,
    Visits,
    CircleJoin,
    CircleCreate,
    JournalEntries,
    JournalAutosaves,
    Moods,
    Invites,
    Reads,
    Forwarded,
    LoginAddress,
    LoginAccount,
    LoginTotal,
    LoginDevice,
    Passwords,
    Sessions,
    RefreshFamily,
    RegisterAddress,
    RefreshAddress,
    BadTokens,
    PublicReads,
}

/// The caller that a limit counts: the parameter of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The session's user.
    User,
    /// The client's address, IPv6 by /64.
    Address,
    /// The account that a body names, existing or not. The origin counts this and the following, since it
    /// alone reads bodies.
    Account,
    /// An account, as one address tries to log in to it.
    AccountAddress,
    /// A device from which somebody has logged in to an account before.
    Device,
    /// The sessions that came from one log-in.
    Family,
}

impl Scope {
    /// As documents name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::User => "user",
            Scope::Address => "address",
            Scope::Account => "account",
            Scope::AccountAddress => "account and address",
            Scope::Device => "device",
            Scope::Family => "log-in",
        }
    }
}

/// The cost of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// An attempt that ends in 4xx or 5xx is given back.
    Successes,
    /// Every attempt stays counted.
    Attempts,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Sliding windows: admits at most `admitted` in any window of the length, and refuses none while there were fewer.
    Exact,
    /// A counter that restarts when its window ends: cheaper, for generous limits. One window only.
    Counter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub admitted: u32,
    pub seconds: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct LimitRow {
    pub limit: Limit,
    /// The limit's name in `RateLimit` headers and problems; a window's is `<name>-<seconds>s`.
    pub name: &'static str,
    /// The key without its parameter: `rate_limit:messages` stands for `rate_limit:messages:{<user>}`.
    pub prefix: &'static str,
    /// Follows the parameter, where a guideline's key has several operations: `:join`.
    pub suffix: &'static str,
    pub scope: Scope,
    pub counts: Counted,
    pub precision: Precision,
    pub windows: &'static [Window],
}

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

const fn window(admitted: u32, seconds: u32) -> Window {
    Window { admitted, seconds }
}

use {Counted::*, Precision::*, Scope::*};

/// The table. Without Redis the origin applies the same rows in memory, per instance, but counts log-ins to an account in
/// Postgres.
#[rustfmt::skip] // One line a row.
pub const LIMITS: &[LimitRow] = &[
    // The guidelines' numbers.
    row(Limit::Messages, "messages", "rate_limit:messages", "", User, Successes, Exact, &[window(10, MINUTE), window(100, HOUR), window(500, DAY)]),
    row(Limit::Reactions, "reactions", "rate_limit:reactions", "", User, Successes, Exact, &[window(50, MINUTE)]),
    // A client reports one visit in five minutes; it may forget that it did.
    row(Limit::Visits, "visits", "rate_limit:visits", "", User, Attempts, Counter, &[window(60, MINUTE)]),
    row(Limit::CircleJoin, "circle-joins", "rate_limit:circles", ":join", User, Successes, Exact, &[window(5, HOUR)]),
    row(Limit::CircleCreate, "circle-creations", "rate_limit:circles", ":create", User, Successes, Exact, &[window(2, DAY)]),
    row(Limit::JournalEntries, "journal-entries", "rate_limit:journal", ":entry", User, Successes, Exact, &[window(10, DAY)]),
    // One save of a draft counts every two minutes: see `autosave_entry`.
    row(Limit::JournalAutosaves, "journal-autosaves", "rate_limit:journal", ":autosave", User, Successes, Exact, &[window(50, HOUR)]),
    row(Limit::Moods, "moods", "rate_limit:journal", ":mood", User, Successes, Exact, &[window(20, DAY)]),
    // Twenty a day fill a circle of friends; attempts count, since each mints a credential.
    row(Limit::Invites, "invites", "rate_limit:circles", ":invite", User, Attempts, Exact, &[window(20, DAY)]),
    // Fifty reads a second for a minute exceed any client that polls by hand, and are too few to do harm.
    row(Limit::Reads, "reads", "rate_limit:reads", "", User, Attempts, Counter, &[window(3_000, MINUTE)]),
    // The ceiling on what one person can make the origin do.
    row(Limit::Forwarded, "forwarded", "rate_limit:forwarded", "", User, Attempts, Counter, &[window(600, MINUTE)]),
    // A shared address (an office, a carrier's NAT) must still be able to log in; a guesser gets 7,200 tries a day at most.
    row(Limit::LoginAddress, "logins-address", "rate_limit:login_address", "", Address, Attempts, Exact, &[window(30, MINUTE), window(300, HOUR)]),
    // Ten guesses in a quarter of an hour: OWASP's order of magnitude for throttling by account. By address as well, so that
    // nobody keeps an account's owner out from elsewhere.
    row(Limit::LoginAccount, "logins-account", "rate_limit:login_account", "", AccountAddress, Attempts, Exact, &[window(10, 15 * MINUTE)]),
    // From everywhere together: more than an owner's addresses need, and too few to guess a password of ten characters.
    row(Limit::LoginTotal, "logins-account-total", "rate_limit:login_total", "", Account, Attempts, Exact, &[window(100, 15 * MINUTE)]),
    // Instead of the two before, for a device that somebody has logged in from.
    row(Limit::LoginDevice, "logins-device", "rate_limit:login_device", "", Device, Attempts, Exact, &[window(10, 15 * MINUTE)]),
    // Whoever holds a session may not guess its account's password with it.
    row(Limit::Passwords, "passwords", "rate_limit:passwords", "", User, Attempts, Exact, &[window(10, HOUR)]),
    // Ten devices in use all day refresh 480 times. Each session leaves a row for a month.
    row(Limit::Sessions, "sessions", "rate_limit:sessions", "", Account, Attempts, Exact, &[window(100, HOUR), window(500, DAY)]),
    // A client refreshes twice an hour; repetitions of a refresh are one.
    row(Limit::RefreshFamily, "refreshes-log-in", "rate_limit:refresh_family", "", Family, Attempts, Exact, &[window(30, HOUR), window(200, DAY)]),
    // A household or class registers at once; a farm of accounts does not get far.
    row(Limit::RegisterAddress, "registrations", "rate_limit:register", "", Address, Attempts, Exact, &[window(20, HOUR), window(60, DAY)]),
    // A client refreshes once in half an hour; one address may have many clients.
    row(Limit::RefreshAddress, "refreshes", "rate_limit:refresh", "", Address, Attempts, Exact, &[window(120, MINUTE)]),
    // Attempts in flight count: when Redis was emptied, a whole office returns at once, and all of it is admitted.
    row(Limit::BadTokens, "bad-tokens", "rate_limit:bad_tokens", "", Address, Attempts, Exact, &[window(600, MINUTE)]),
    row(Limit::PublicReads, "public-reads", "rate_limit:public", "", Address, Attempts, Counter, &[window(600, MINUTE)]),
];

#[allow(clippy::too_many_arguments)] // One argument a column: the table above reads as a table.
const fn row(
    limit: Limit,
    name: &'static str,
    prefix: &'static str,
    suffix: &'static str,
    scope: Scope,
    counts: Counted,
    precision: Precision,
    windows: &'static [Window],
) -> LimitRow {
    LimitRow { limit, name, prefix, suffix, scope, counts, precision, windows }
}

impl Limit {
    pub fn row(self) -> &'static LimitRow {
        &LIMITS[self as usize]
    }
}

impl LimitRow {
    /// The Redis key for a user's id, a client's address (see [`address_parameter`]) or an account's digest.
    pub fn key(&self, parameter: &str) -> String {
        format!("{}:{{{parameter}}}{}", self.prefix, self.suffix)
    }

    /// The same for a part of what the parameter names: an account's address, device or log-in. It shares the
    /// parameter's slot, so a script can charge both.
    pub fn key_of_part(&self, parameter: &str, part: &str) -> String {
        format!("{}:{part}", self.key(parameter))
    }

    /// The key as documents show it.
    pub fn pattern(&self) -> String {
        match self.scope {
            Scope::User | Scope::Address | Scope::Account => self.key(&format!("<{}>", self.scope.as_str())),
            Scope::AccountAddress => self.key_of_part("<account>", "<address>"),
            Scope::Device => self.key_of_part("<account>", "<device>"),
            Scope::Family => self.key_of_part("<account>", "<log-in>"),
        }
    }

    /// Seconds that the key lives after its last entry.
    pub fn longest_window(&self) -> u32 {
        self.windows.iter().map(|window| window.seconds).max().unwrap_or(0)
    }
}

/// The state of one window of a limit, as `GET /v1/me/limits` lists it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LimitState {
    /// The limit's name in the table.
    pub name: &'static str,
    /// The window's policy name, as in `RateLimit` headers.
    pub policy: String,
    /// The number admitted in any window.
    pub limit: u32,
    pub window_seconds: u32,
    pub remaining: u32,
    /// Seconds until at least one more is available; 0 while nothing is used.
    pub resets_in: u64,
}

impl LimitRow {
    /// The name of a window's policy in `RateLimit` headers and problems.
    pub fn policy(&self, window: &Window) -> String {
        format!("{}-{}s", self.name, window.seconds)
    }

    /// The state of a window, from the scripts' numbers: how many are left, and milliseconds until more are.
    pub fn state(&self, window: &Window, left: i64, reset_ms: i64) -> LimitState {
        LimitState {
            name: self.name,
            policy: self.policy(window),
            limit: window.admitted,
            window_seconds: window.seconds,
            remaining: u32::try_from(left).unwrap_or(0),
            resets_in: u64::try_from(reset_ms).unwrap_or(0).div_ceil(1000),
        }
    }
}

/// `RateLimit-Policy` for these limits (draft-ietf-httpapi-ratelimit-headers): every window's quota and seconds.
pub fn policy_header(limits: &[&LimitRow]) -> String {
    let windows = limits.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
    join(windows.map(|(row, window)| {
        format!("\"{}\";q={};w={}", row.policy(window), window.admitted, window.seconds)
    }))
}

/// `RateLimit` for these states: what is left of each window, and seconds until more is.
pub fn state_header(states: &[LimitState]) -> String {
    join(
        states
            .iter()
            .map(|state| format!("\"{}\";r={};t={}", state.policy, state.remaining, state.resets_in)),
    )
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

/// A client's address as limits count it: IPv4 whole (also when mapped into IPv6), IPv6 by its /64.
pub fn address_parameter(address: std::net::IpAddr) -> String {
    use std::net::IpAddr;
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_name_and_well_formed() {
        for (index, row) in LIMITS.iter().enumerate() {
            assert_eq!(row.limit as usize, index, "{} stands out of order", row.name);
            assert!(!row.windows.is_empty() && row.windows.iter().all(|w| w.admitted > 0 && w.seconds > 0));
            assert!(
                row.precision == Precision::Exact || row.windows.len() == 1,
                "{}: counters have one window",
                row.name
            );
            assert!(
                row.precision == Precision::Exact || row.counts == Counted::Attempts,
                "{}: counters give nothing back",
                row.name
            );
        }
    }

    #[test]
    fn keys_are_the_guidelines() {
        assert_eq!(Limit::Messages.row().key("u"), "rate_limit:messages:{u}");
        assert_eq!(Limit::CircleJoin.row().key("u"), "rate_limit:circles:{u}:join");
        assert_eq!(Limit::CircleCreate.row().key("u"), "rate_limit:circles:{u}:create");
        assert_eq!(Limit::RefreshFamily.row().pattern(), "rate_limit:refresh_family:{<account>}:<log-in>");
    }

    #[test]
    fn addresses_count_by_network() {
        let parameter = |text: &str| address_parameter(text.parse().unwrap());
        assert_eq!(parameter("203.0.113.9"), "203.0.113.9");
        assert_eq!(parameter("::ffff:203.0.113.9"), "203.0.113.9");
        assert_eq!(parameter("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(parameter("2001:db8:1:2::ffff"), "2001:db8:1:2::/64");
    }
}
