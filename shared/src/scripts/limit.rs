//! `limit.lua`, `peek.lua` and `give_back.lua`: limits charged without a session, looked at, and given back. [`super::admit`]
//! charges them with a session. A route's row names its limits.

use super::script::{Script, script};
use super::{Call, Scalars};
use crate::limits::{LimitRow, LimitState, Networks, Precision, Scope};

pub static LIMIT: Script = script!("limit": "clock_core.lua", "limits_core.lua", "limit.lua");
pub static PEEK: Script = script!("peek": "clock_core.lua", "limits_core.lua", "peek.lua");
pub static GIVE_BACK: Script = script!("give_back": "give_back.lua");

/// An attempt, and the limits that it is charged to, all of one hash tag.
#[derive(Clone, Debug)]
pub struct Charge {
    pub rows: Vec<&'static LimitRow>,
    pub keys: Vec<String>,
    /// The name that limits remember the attempt by: an idempotency key's digest, or random.
    pub entry: String,
}

/// The window that refused, and for how long.
#[derive(Clone, Debug)]
pub struct Refused {
    pub policy: String,
    pub limit: u32,
    pub window_seconds: u32,
    /// Whole seconds, at least 1.
    pub retry_after: u64,
}

/// The outcome of an attempt.
#[derive(Clone, Debug)]
pub enum Verdict {
    Charged,
    /// A retry: its entry is there already.
    Found,
    Refused(Refused),
}

impl Charge {
    /// `parameter` is the user's id, the client's address or the account's digest. Limits of an address are charged with those of
    /// its networks, which share its slot.
    pub fn new(rows: Vec<&'static LimitRow>, parameter: &str, entry: String) -> Charge {
        let mut charge = Charge { rows: Vec::with_capacity(rows.len()), keys: Vec::new(), entry };
        let mut networks = None;
        for row in rows {
            if row.scope != Scope::Address {
                charge.rows.push(row);
                charge.keys.push(row.key(parameter));
                continue;
            }
            let networks = networks.get_or_insert_with(|| Networks::of(parameter));
            for row in std::iter::once(row).chain(row.limit.wider().iter().map(|wider| wider.row())) {
                if let Some(key) = networks.key(row) {
                    charge.rows.push(row);
                    charge.keys.push(key);
                }
            }
        }
        charge
    }

    /// The window that is used up, from the states of all: the next attempt would be refused.
    pub fn exhausted(&self, states: &[LimitState]) -> Option<Refused> {
        let full = states.iter().find(|state| state.remaining == 0)?;
        Some(Refused {
            policy: full.policy.clone(),
            limit: full.limit,
            window_seconds: full.window_seconds,
            retry_after: full.resets_in.max(1),
        })
    }

    /// Charges all limits or none.
    pub fn call(&self) -> Call<'_> {
        self.call_at("")
    }

    /// Charges at a time that the caller gives, as tests do: Unix milliseconds as text.
    pub fn call_at<'a>(&'a self, clock: &'a str) -> Call<'a> {
        self.describe(Call::new(&LIMIT).keys(self.names()).text(clock).text(self.entry.as_str()))
    }

    /// The outcome of the call, and the state of every window. `None` if the reply is not one of the script's.
    pub fn read(&self, reply: &mut impl Scalars) -> Option<(Verdict, Vec<LimitState>)> {
        let outcome = reply.text();
        let refused = Refused::read(&self.rows, reply);
        let states = self.states(reply);
        let outcome = match outcome.as_str() {
            "refused" => Verdict::Refused(refused),
            "found" => Verdict::Found,
            "charged" => Verdict::Charged,
            _ => return None,
        };
        Some((outcome, states))
    }

    /// Asks for the state of every window, which [`Charge::states`] reads.
    pub fn peek(&self) -> Call<'_> {
        self.peek_at("")
    }

    /// See [`Charge::call_at`].
    pub fn peek_at<'a>(&'a self, clock: &'a str) -> Call<'a> {
        self.describe(Call::new(&PEEK).keys(self.names()).text(clock))
    }

    /// The states of all windows, which end every reply of these scripts.
    pub fn states(&self, reply: &mut impl Scalars) -> Vec<LimitState> {
        let windows = self.rows.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
        windows.map(|(row, window)| row.state(window, reply.int(), reply.int())).collect()
    }

    /// The keys from which a failed attempt is given back.
    pub fn refundable(&self) -> Vec<String> {
        let rows = self.rows.iter().zip(&self.keys);
        rows.filter(|(row, _)| row.gives_back()).map(|(_, key)| key.clone()).collect()
    }

    /// Their limits.
    pub fn refundable_rows(&self) -> Vec<&'static LimitRow> {
        self.rows.iter().copied().filter(|row| row.gives_back()).collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// Adds the arguments that `limits_core.lua` reads: how many limits, then for each its kind, its number of windows, and
    /// their numbers.
    pub(super) fn describe<'a>(&self, call: Call<'a>) -> Call<'a> {
        let mut call = call.number(self.rows.len() as u64);
        for row in &self.rows {
            call = call.text(match row.precision {
                Precision::Exact => "w",
                Precision::Counter => "c",
            });
            call = call.number(row.windows.len() as u64);
            for window in row.windows {
                call = call.number(window.admitted.into()).number(u64::from(window.seconds) * 1000);
            }
        }
        call
    }
}

impl Refused {
    /// From a limit and a window, both counted from 1, and milliseconds to wait.
    pub(super) fn read(rows: &[&LimitRow], reply: &mut impl Scalars) -> Refused {
        let (limit, window, wait_ms) = (reply.count(), reply.count(), reply.count());
        let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(0);
        let row = rows.get(index(limit)).or(rows.first());
        let window = row.and_then(|row| row.windows.get(index(window)).or(row.windows.first()));
        Refused {
            policy: row.zip(window).map(|(row, window)| row.policy(window)).unwrap_or_default(),
            limit: window.map_or(0, |window| window.admitted),
            window_seconds: window.map_or(0, |window| window.seconds),
            retry_after: wait_ms.div_ceil(1000).max(1),
        }
    }
}

/// Removes a failed attempt's entry from these keys.
pub fn give_back<'a>(keys: &'a [String], entry: &'a str) -> Call<'a> {
    Call::new(&GIVE_BACK).keys(keys.iter().map(String::as_str)).text(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limit;

    /// An outcome, and zeros.
    struct Reply(Option<&'static str>);

    impl Scalars for Reply {
        fn bytes(&mut self) -> Vec<u8> {
            self.0.take().unwrap_or_default().into()
        }

        fn int(&mut self) -> i64 {
            0
        }
    }

    #[test]
    fn an_address_is_charged_with_its_networks_in_one_slot() {
        let keys = |client: &str| Charge::new(vec![Limit::RefreshAddress.row()], client, String::new()).keys;
        assert_eq!(
            keys("203.0.113.9"),
            [
                "rate_limit:refresh:{203.0.113.0/24}:203.0.113.9",
                "rate_limit:refresh_network:{203.0.113.0/24}"
            ]
        );
        let tag = "{2001:db8:1::/48}";
        assert_eq!(
            keys("2001:db8:1:2fe::/64"),
            [
                format!("rate_limit:refresh:{tag}:2001:db8:1:2fe::/64"),
                format!("rate_limit:refresh_site:{tag}:2001:db8:1:200::/56"),
                format!("rate_limit:refresh_network:{tag}"),
            ]
        );
    }

    #[test]
    fn a_window_without_anything_left_is_used_up() {
        let charge = Charge::new(vec![Limit::LoginAddress.row()], "203.0.113.9", String::new());
        let mut states = charge.states(&mut Reply(None));
        assert_eq!(states.len(), 4);
        states.iter_mut().for_each(|state| state.remaining = 1);
        assert!(charge.exhausted(&states).is_none());
        (states[3].remaining, states[3].resets_in) = (0, 17);
        let refused = charge.exhausted(&states).unwrap();
        assert_eq!(
            (refused.policy.as_str(), refused.limit, refused.retry_after),
            ("logins-network-3600s", 2400, 17)
        );
    }

    #[test]
    fn only_the_scripts_own_words_are_an_outcome() {
        let charge = Charge::new(vec![Limit::Messages.row()], "user", "entry".to_owned());
        let read = |outcome| charge.read(&mut Reply(Some(outcome)));
        assert!(matches!(read("charged"), Some((Verdict::Charged, states)) if states.len() == 3));
        assert!(matches!(read("found"), Some((Verdict::Found, states)) if states.len() == 3));
        assert!(matches!(read("refused"), Some((Verdict::Refused(_), states)) if states.len() == 3));
        for other in ["", "ok", "Charged", "charged "] {
            assert!(read(other).is_none(), "{other}");
        }
    }
}
