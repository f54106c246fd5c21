//! Limits at the edge: which keys a route charges, and what the scripts' answers mean.

use optimist_shared::error::{ErrorCode, Problem};
use optimist_shared::ids::Uuid;
use optimist_shared::limits::{Counts, LimitRow, LimitState, Precision, Scope};
use optimist_shared::routes::Route;
use optimist_shared::scripts::describe_limits;

use crate::redis::Fields;

/// The limits that one trip charges: those of one tag.
pub struct Charge {
    pub rows: Vec<&'static LimitRow>,
    pub keys: Vec<String>,
    /// How the attempt is remembered: an idempotency key's digest, or random.
    pub entry: String,
    /// For the scripts.
    pub description: Vec<Vec<u8>>,
}

impl Charge {
    /// `parameter` is the user's id or the client's address.
    pub fn new(rows: Vec<&'static LimitRow>, parameter: &str, entry: String) -> Charge {
        let keys = rows.iter().map(|row| row.key(parameter)).collect();
        let description = describe_limits(&rows);
        Charge { rows, keys, entry, description }
    }

    /// The limits of a route that count its user.
    pub fn of_user(route: &Route, user: Uuid, entry: String) -> Charge {
        Charge::new(rows_of(route, Scope::User), &user.to_string(), entry)
    }

    /// The keys from which a failed attempt is given back.
    pub fn refundable(&self) -> Vec<String> {
        let refunds = |row: &LimitRow| row.counts == Counts::Successes && row.precision == Precision::Exact;
        self.rows.iter().zip(&self.keys).filter(|(row, _)| refunds(row)).map(|(_, key)| key.clone()).collect()
    }

    /// The states of all windows, which end every answer of the scripts.
    pub fn states(&self, fields: &mut Fields) -> Vec<LimitState> {
        let windows = self.rows.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
        windows.map(|(row, window)| row.state(window, fields.int(), fields.int())).collect()
    }
}

pub fn rows_of(route: &Route, scope: Scope) -> Vec<&'static LimitRow> {
    route.limits.iter().map(|limit| limit.row()).filter(|row| row.scope == scope).collect()
}

/// Which window refused, and for how long.
pub struct Refused {
    pub policy: String,
    pub limit: u32,
    pub window_seconds: u32,
    /// Whole seconds, at least 1.
    pub retry_after: u64,
}

impl Refused {
    /// From the script's one-based limit and window, and milliseconds to wait.
    pub fn read(rows: &[&LimitRow], fields: &mut Fields) -> Refused {
        let (limit, window, wait) = (fields.int(), fields.int(), fields.int());
        let index = |number: i64| usize::try_from(number.saturating_sub(1)).unwrap_or(0);
        let row = rows.get(index(limit)).or(rows.first());
        let window = row.and_then(|row| row.windows.get(index(window)).or(row.windows.first()));
        Refused {
            policy: row.zip(window).map(|(row, window)| row.policy(window)).unwrap_or_default(),
            limit: window.map_or(0, |window| window.admitted),
            window_seconds: window.map_or(0, |window| window.seconds),
            retry_after: u64::try_from(wait).unwrap_or(0).div_ceil(1000).max(1),
        }
    }

    pub fn problem(&self, request_id: &str) -> Problem {
        let Refused { policy, limit, window_seconds, retry_after } = self;
        let mut problem = Problem::new(ErrorCode::RateLimited, request_id).detail(format!(
            "At most {limit} in any {window_seconds} seconds; try again in {retry_after} seconds."
        ));
        problem.limit = Some(policy.clone());
        problem
    }
}
