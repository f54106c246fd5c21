//! The limits table: how often a caller may do what.
//!
//! The edge applies it through Redis scripts; the origin through the same scripts or, without Redis, in memory. The routes
//! table says which routes a limit guards.

mod networks;

pub use networks::{Networks, address_parameter};

/// A limit of the table. `Limit::Messages.row()` is its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    Messages,
    Reactions,
    Visits,
    ReadMarks,
    Typing,
    Presence,
    MessageDrafts,
    Recent,
    Searches,
    CircleJoin,
    CircleCreate,
    JournalEntries,
    JournalAutosaves,
    JournalEdits,
    Moods,
    Invites,
    PushTokens,
    Reads,
    Changes,
    Forwarded,
    LoginAddress,
    LoginAccount,
    LoginTotal,
    LoginDevice,
    MailAccount,
    MailTotal,
    Passwords,
    Sessions,
    RefreshFamily,
    RegisterAddress,
    RefreshAddress,
    BadTokens,
    PublicReads,
    LoginSite,
    LoginNetwork,
    RegisterSite,
    RegisterNetwork,
    RefreshSite,
    RefreshNetwork,
    BadTokensSite,
    BadTokensNetwork,
    PublicReadsSite,
    PublicReadsNetwork,
}

/// The caller that a limit counts: the parameter of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The session's user.
    User,
    /// The client's address, IPv6 by /64. Whatever counts it counts its site and network too: see [`Limit::wider`].
    Address,
    /// The IPv6 /56 of the client's address.
    Site,
    /// The IPv4 /24, or the IPv6 /48, of the client's address.
    Network,
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
            Scope::Site => "site",
            Scope::Network => "network",
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

/// Windows that admit so many times as much.
const fn times<const N: usize>(factor: u32, mut windows: [Window; N]) -> [Window; N] {
    let mut index = 0;
    while index < N {
        windows[index].admitted *= factor;
        index += 1;
    }
    windows
}

/// How many times as often as one address a site and a network may do something.
const SITE: u32 = 2;
const NETWORK: u32 = 8;

const LOGINS: [Window; 2] = [window(30, MINUTE), window(300, HOUR)];
const REGISTRATIONS: [Window; 2] = [window(20, HOUR), window(60, DAY)];
const REFRESHES: [Window; 1] = [window(120, MINUTE)];
const BAD_TOKENS: [Window; 1] = [window(600, MINUTE)];
const PUBLIC_READS: [Window; 1] = [window(600, MINUTE)];

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
    // Once in a second while somebody reads on, on two devices.
    row(Limit::ReadMarks, "read-marks", "rate_limit:read_marks", "", User, Attempts, Counter, &[window(120, MINUTE)]),
    // Once in ten seconds for as long as somebody types, in a few circles.
    row(Limit::Typing, "typing", "rate_limit:typing", "", User, Attempts, Counter, &[window(60, MINUTE)]),
    // Ten devices that refresh a lease of five minutes at a third of it, and change ten times.
    row(Limit::Presence, "presence", "rate_limit:presence", "", User, Attempts, Counter, &[window(60, MINUTE)]),
    // Once in a second while somebody composes, on two devices. Each wakes the person's other devices.
    row(Limit::MessageDrafts, "message-drafts", "rate_limit:message_drafts", "", User, Attempts, Counter, &[window(120, MINUTE)]),
    // Every second something else, for two minutes: a person who leafs through a list.
    row(Limit::Recent, "recent", "rate_limit:recent", "", User, Attempts, Counter, &[window(120, MINUTE)]),
    // Once in two seconds, as a client asks that waits for a pause in what is typed. Each may look at forty thousand rows.
    row(Limit::Searches, "searches", "rate_limit:searches", "", User, Attempts, Counter, &[window(30, MINUTE)]),
    row(Limit::CircleJoin, "circle-joins", "rate_limit:circles", ":join", User, Successes, Exact, &[window(5, HOUR)]),
    row(Limit::CircleCreate, "circle-creations", "rate_limit:circles", ":create", User, Successes, Exact, &[window(2, DAY)]),
    row(Limit::JournalEntries, "journal-entries", "rate_limit:journal", ":entry", User, Successes, Exact, &[window(10, DAY)]),
    // One save of a draft counts every two minutes: see `autosave_entry`.
    row(Limit::JournalAutosaves, "journal-autosaves", "rate_limit:journal", ":autosave", User, Successes, Exact, &[window(50, HOUR)]),
    // An edit seals and writes the whole entry again, some 200 KB at most.
    row(Limit::JournalEdits, "journal-edits", "rate_limit:journal", ":edit", User, Attempts, Counter, &[window(60, MINUTE)]),
    row(Limit::Moods, "moods", "rate_limit:journal", ":mood", User, Successes, Exact, &[window(20, DAY)]),
    // Twenty a day fill a circle of friends; attempts count, since each mints a credential.
    row(Limit::Invites, "invites", "rate_limit:circles", ":invite", User, Attempts, Exact, &[window(20, DAY)]),
    // Browsers renew subscriptions rarely. A webhook makes the service ask an address: attempts count.
    row(Limit::PushTokens, "push-tokens", "rate_limit:push_tokens", "", User, Attempts, Exact, &[window(20, HOUR), window(60, DAY)]),
    // Fifty reads a second for a minute exceed any client that polls by hand, and are too few to do harm.
    row(Limit::Reads, "reads", "rate_limit:reads", "", User, Attempts, Counter, &[window(3_000, MINUTE)]),
    // Each leaves an event for a day. Seven a minute, all day, exceed what a person does by hand, and an evening's import passes.
    row(Limit::Changes, "changes", "rate_limit:changes", "", User, Attempts, Counter, &[window(10_000, DAY)]),
    // The ceiling on what one person can make the origin do.
    row(Limit::Forwarded, "forwarded", "rate_limit:forwarded", "", User, Attempts, Counter, &[window(600, MINUTE)]),
    // A shared address (an office, a carrier's NAT) must still be able to log in; a guesser gets 7,200 tries a day at most.
    row(Limit::LoginAddress, "logins-address", "rate_limit:login_address", "", Address, Attempts, Exact, &LOGINS),
    // Ten guesses in a quarter of an hour: OWASP's order of magnitude for throttling by account. By address as well, so that
    // nobody keeps an account's owner out from elsewhere.
    row(Limit::LoginAccount, "logins-account", "rate_limit:login_account", "", AccountAddress, Attempts, Exact, &[window(10, 15 * MINUTE)]),
    // From everywhere together: more than an owner's addresses need, and too few to guess a password of ten characters.
    row(Limit::LoginTotal, "logins-account-total", "rate_limit:login_total", "", Account, Attempts, Exact, &[window(100, 15 * MINUTE)]),
    // Instead of the two before, for a device that somebody has logged in from.
    row(Limit::LoginDevice, "logins-device", "rate_limit:login_device", "", Device, Attempts, Exact, &[window(10, 15 * MINUTE)]),
    // Mails that one address asks for to another person's: enough for whoever waits for one, and no flood.
    row(Limit::MailAccount, "mails-account", "rate_limit:mail_account", "", AccountAddress, Attempts, Exact, &[window(5, HOUR)]),
    // From everywhere together, so that strangers who ask leave the owner some.
    row(Limit::MailTotal, "mails-account-total", "rate_limit:mail_total", "", Account, Attempts, Exact, &[window(20, DAY)]),
    // Whoever holds a session may not guess its account's password with it.
    row(Limit::Passwords, "passwords", "rate_limit:passwords", "", User, Attempts, Exact, &[window(10, HOUR)]),
    // Ten devices in use all day refresh 480 times. Each session leaves a row for a month.
    row(Limit::Sessions, "sessions", "rate_limit:sessions", "", Account, Attempts, Exact, &[window(100, HOUR), window(500, DAY)]),
    // A client refreshes twice an hour; repetitions of a refresh are one.
    row(Limit::RefreshFamily, "refreshes-log-in", "rate_limit:refresh_family", "", Family, Attempts, Exact, &[window(30, HOUR), window(200, DAY)]),
    // A household or class registers at once; a farm of accounts does not get far.
    row(Limit::RegisterAddress, "registrations", "rate_limit:register", "", Address, Attempts, Exact, &REGISTRATIONS),
    // A client refreshes once in half an hour; one address may have many clients.
    row(Limit::RefreshAddress, "refreshes", "rate_limit:refresh", "", Address, Attempts, Exact, &REFRESHES),
    // Counted once a token has been found bad: when Redis was emptied, a whole office returns at once, and all of it is admitted.
    row(Limit::BadTokens, "bad-tokens", "rate_limit:bad_tokens", "", Address, Attempts, Exact, &BAD_TOKENS),
    row(Limit::PublicReads, "public-reads", "rate_limit:public", "", Address, Attempts, Counter, &PUBLIC_READS),
    // The same by networks, which their holder may use as a whole: a site twice as often as one address, a /24 or /48 eight times.
    row(Limit::LoginSite, "logins-site", "rate_limit:login_site", "", Site, Attempts, Exact, &times(SITE, LOGINS)),
    row(Limit::LoginNetwork, "logins-network", "rate_limit:login_network", "", Network, Attempts, Exact, &times(NETWORK, LOGINS)),
    row(Limit::RegisterSite, "registrations-site", "rate_limit:register_site", "", Site, Attempts, Exact, &times(SITE, REGISTRATIONS)),
    row(Limit::RegisterNetwork, "registrations-network", "rate_limit:register_network", "", Network, Attempts, Exact, &times(NETWORK, REGISTRATIONS)),
    row(Limit::RefreshSite, "refreshes-site", "rate_limit:refresh_site", "", Site, Attempts, Exact, &times(SITE, REFRESHES)),
    row(Limit::RefreshNetwork, "refreshes-network", "rate_limit:refresh_network", "", Network, Attempts, Exact, &times(NETWORK, REFRESHES)),
    row(Limit::BadTokensSite, "bad-tokens-site", "rate_limit:bad_tokens_site", "", Site, Attempts, Exact, &times(SITE, BAD_TOKENS)),
    row(Limit::BadTokensNetwork, "bad-tokens-network", "rate_limit:bad_tokens_network", "", Network, Attempts, Exact, &times(NETWORK, BAD_TOKENS)),
    row(Limit::PublicReadsSite, "public-reads-site", "rate_limit:public_site", "", Site, Attempts, Counter, &times(SITE, PUBLIC_READS)),
    row(Limit::PublicReadsNetwork, "public-reads-network", "rate_limit:public_network", "", Network, Attempts, Counter, &times(NETWORK, PUBLIC_READS)),
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

    /// The limits that count the networks of what this one counts by address.
    pub fn wider(self) -> &'static [Limit] {
        match self {
            Limit::LoginAddress => &[Limit::LoginSite, Limit::LoginNetwork],
            Limit::RegisterAddress => &[Limit::RegisterSite, Limit::RegisterNetwork],
            Limit::RefreshAddress => &[Limit::RefreshSite, Limit::RefreshNetwork],
            Limit::BadTokens => &[Limit::BadTokensSite, Limit::BadTokensNetwork],
            Limit::PublicReads => &[Limit::PublicReadsSite, Limit::PublicReadsNetwork],
            _ => &[],
        }
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
            Scope::User | Scope::Network | Scope::Account => self.key(&format!("<{}>", self.scope.as_str())),
            Scope::Address => self.key_of_part("<network>", "<address>"),
            Scope::Site => self.key_of_part("<network>", "<site>"),
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
    /// Whether an attempt that failed is given back.
    pub fn gives_back(&self) -> bool {
        self.counts == Counted::Successes && self.precision == Precision::Exact
    }

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

/// The states once an attempt is given back to limits of these rows.
pub fn given_back(states: &mut [LimitState], rows: &[&LimitRow]) {
    for state in states.iter_mut().filter(|state| rows.iter().any(|row| row.name == state.name)) {
        state.remaining = state.limit.min(state.remaining + 1);
        if state.remaining == state.limit {
            state.resets_in = 0;
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
            let scopes = row.limit.wider().iter().map(|wider| wider.row().scope);
            let wanted: &[Scope] = if row.scope == Address { &[Site, Network] } else { &[] };
            assert!(scopes.eq(wanted.iter().copied()), "{}: networks", row.name);
        }
    }

    #[test]
    fn what_is_given_back_is_left_again() {
        let (messages, reads) = (Limit::Messages.row(), Limit::Reads.row());
        let state = |row: &LimitRow, window: usize, left| row.state(&row.windows[window], left, 9_000);
        let mut states = vec![state(messages, 0, 9), state(messages, 1, 40), state(reads, 0, 2_999)];
        given_back(&mut states, &[messages]);
        let left: Vec<(u32, u64)> = states.iter().map(|state| (state.remaining, state.resets_in)).collect();
        assert_eq!(left, [(10, 0), (41, 9), (2_999, 9)]);
    }

    #[test]
    fn keys_are_the_guidelines() {
        assert_eq!(Limit::Messages.row().key("u"), "rate_limit:messages:{u}");
        assert_eq!(Limit::CircleJoin.row().key("u"), "rate_limit:circles:{u}:join");
        assert_eq!(Limit::CircleCreate.row().key("u"), "rate_limit:circles:{u}:create");
        assert_eq!(Limit::RefreshFamily.row().pattern(), "rate_limit:refresh_family:{<account>}:<log-in>");
    }
}
