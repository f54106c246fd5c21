//! Limits at the origin: the table's, applied through the edge's scripts, or in memory when Redis cannot be asked.
//!
//! In memory they hold per instance, and are as exact. Log-in attempts by account are counted in Postgres then.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderValue};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::limits::{
    Counts, LIMITS, Limit, LimitRow, LimitState, Precision, Scope, policy_header, state_header,
};
use optimist_shared::routes::{Method, Pattern};
use optimist_shared::scripts::describe_limits;
use optimist_shared::session::{attempt_entry, autosave_entry, request_entry};

use crate::app::{Ctx, now_ms};
use crate::error::{Error, Result};
use crate::postgres::Tx;
use crate::redis::{Call, Items};
use crate::request::RequestContext;

const COUNT_ATTEMPT: &str = "-- limits::count_attempt
with old as (delete from login_attempts where account = $1 and attempted_at < clock_timestamp() - $2::bigint * interval '1 second'),
     recent as (select count(*) as attempts, min(attempted_at) as oldest from login_attempts
                where account = $1 and attempted_at >= clock_timestamp() - $2::bigint * interval '1 second'),
     added as (insert into login_attempts (account) select $1 from recent where attempts < $3 returning 1)
select exists (select from added), coalesce(extract(epoch from oldest - clock_timestamp())::bigint + $2::bigint, 0) from recent";

pub const STATEMENTS: &[&str] = &[COUNT_ATTEMPT];

/// Keys counted in memory at once; beyond, the map is swept, and then refuses nothing that it cannot remember.
const MEMORY_KEYS: usize = 100_000;

#[derive(Default)]
pub struct Limits {
    memory: Mutex<Memory>,
}

/// What was charged for a request, to be settled with its outcome.
pub struct Charged {
    rows: Vec<&'static LimitRow>,
    keys: Vec<String>,
    entry: String,
    states: Vec<LimitState>,
    in_memory: bool,
    /// This request made its entry; a retry's is somebody else's.
    is_own: bool,
}

impl Limits {
    /// Charges a route's limits of its user or, for public routes, of the client's address.
    pub async fn charge_route(
        &self,
        app: &Ctx,
        request: &RequestContext,
        user: Option<Uuid>,
        idempotency_key: Option<&str>,
    ) -> Result<Charged> {
        let route = request.route;
        let scope = if user.is_some() { Scope::User } else { Scope::Address };
        let rows = route.limits.iter().map(|limit| limit.row()).filter(|row| row.scope == scope).collect();
        let parameter = user.map_or_else(|| request.client.clone(), |user| user.to_string());
        let entry = match (user, idempotency_key) {
            (Some(user), _) if route.pattern == Pattern::AutoSave => {
                autosave_entry(user, request.path.draft.unwrap_or_default(), now_ms())
            }
            (Some(user), Some(key)) if route.method == Method::Post => attempt_entry(user, route.name, key),
            _ => request_entry(&request.request_id),
        };
        self.charge(app, rows, &parameter, entry).await
    }

    /// Charges a draft that the user did not ask for: one that keeps a refused text.
    pub async fn charge_draft(&self, app: &Ctx, user: Uuid, draft: Uuid) -> Result<()> {
        let entry = autosave_entry(user, draft, now_ms());
        self.charge(app, vec![Limit::JournalAutosaves.row()], &user.to_string(), entry).await.map(drop)
    }

    /// Counts an attempt to log in to an account: `account` is a digest of its e-mail.
    pub async fn charge_login(&self, app: &Ctx, account: &str) -> Result<()> {
        let row = Limit::LoginAccount.row();
        let charged =
            self.charge_in_redis(app, vec![row], account, Uuid::now_v7().simple().to_string()).await;
        if let Some(charged) = charged {
            return charged.map(drop);
        }
        let window = row.windows[0];
        let (seconds, admitted) = (i64::from(window.seconds), i64::from(window.admitted));
        let tx = Tx::begin(&app.db).await?;
        // One after another: none sees those that others are about to add.
        let counted = async {
            tx.lock(account).await?;
            tx.query_opt(COUNT_ATTEMPT, &[&account, &seconds, &admitted]).await
        }
        .await;
        let counted = tx.end(counted).await?;
        match counted {
            Some(row) if row.get::<_, bool>(0) => Ok(()),
            counted => {
                let wait = counted.map_or(1, |row| row.get::<_, i64>(1).max(1));
                Err(refusal(row.policy(&window), wait.cast_unsigned()))
            }
        }
    }

    async fn charge(
        &self,
        app: &Ctx,
        rows: Vec<&'static LimitRow>,
        parameter: &str,
        entry: String,
    ) -> Result<Charged> {
        match self.charge_in_redis(app, rows.clone(), parameter, entry.clone()).await {
            Some(charged) => charged,
            None => {
                let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.charge(rows, parameter, entry, now_ms())
            }
        }
    }

    /// `None` when Redis cannot be asked.
    async fn charge_in_redis(
        &self,
        app: &Ctx,
        rows: Vec<&'static LimitRow>,
        parameter: &str,
        entry: String,
    ) -> Option<Result<Charged>> {
        let keys: Vec<String> = rows.iter().map(|row| row.key(parameter)).collect();
        let description = describe_limits(&rows);
        let mut arguments: Vec<&[u8]> = vec![b"", entry.as_bytes()];
        arguments.extend(description.iter().map(Vec::as_slice));
        let call = Call {
            script: &app.cache.redis.scripts.limit,
            keys: keys.iter().map(String::as_str).collect(),
            arguments,
        };
        let mut values = app.cache.redis.call(&[call]).await.ok()?;
        let mut items = Items::new(values.pop()?);
        let outcome = items.text();
        let (limit, window, wait) = (items.int(), items.int(), items.int());
        if outcome == "refused" {
            let row = usize::try_from(limit - 1).ok().and_then(|index| rows.get(index))?;
            let window = usize::try_from(window - 1).ok().and_then(|index| row.windows.get(index))?;
            return Some(Err(refusal(
                row.policy(window),
                u64::try_from(wait).unwrap_or(0).div_ceil(1000).max(1),
            )));
        }
        let windows = rows.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
        let states = windows.map(|(row, window)| row.state(window, items.int(), items.int())).collect();
        let is_own = outcome == "charged";
        Some(Ok(Charged { rows, keys, entry, states, in_memory: false, is_own }))
    }

    /// Checks a token that the edge could not, nor count in Redis. An address that has brought too many bad ones is refused
    /// before, by memory: good tokens share their address's fate.
    pub async fn checking_token<T>(&self, client: &str, check: impl Future<Output = Result<T>>) -> Result<T> {
        // Of its own: a request that is sent again is another attempt.
        let (row, attempt) = (Limit::BadTokens.row(), Uuid::now_v7().to_string());
        let memory = || self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory().charge(vec![row], client, attempt.clone(), now_ms())?;
        let result = check.await;
        if !matches!(&result, Err(error) if error.code == ErrorCode::Unauthenticated) {
            memory().give_back(&row.key(client), &attempt);
        }
        result
    }

    /// The state of every limit that counts a user, charging none.
    pub async fn peek(&self, app: &Ctx, user: Uuid) -> Vec<LimitState> {
        let rows: Vec<&'static LimitRow> = LIMITS.iter().filter(|row| row.scope == Scope::User).collect();
        let keys: Vec<String> = rows.iter().map(|row| row.key(&user.to_string())).collect();
        let description = describe_limits(&rows);
        let mut arguments: Vec<&[u8]> = vec![b""];
        arguments.extend(description.iter().map(Vec::as_slice));
        let call = Call {
            script: &app.cache.redis.scripts.peek,
            keys: keys.iter().map(String::as_str).collect(),
            arguments,
        };
        match app.cache.redis.call(&[call]).await {
            Ok(mut values) => {
                let mut items = Items::new(values.pop().unwrap_or(::redis::Value::Nil));
                let windows = rows.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
                windows.map(|(row, window)| row.state(window, items.int(), items.int())).collect()
            }
            Err(_) => {
                let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.states(&rows, &keys, now_ms())
            }
        }
    }
}

fn refusal(policy: String, retry_after: u64) -> Error {
    metrics::counter!("optimist_limited_total", "policy" => policy.clone()).increment(1);
    Error::limited(policy, retry_after)
}

impl Charged {
    /// Gives the attempt back if it failed, and its limits' rows say so.
    pub async fn settle(&self, app: &Ctx, status: u16) {
        if status < 400 || !self.is_own {
            return;
        }
        let refundable =
            |row: &LimitRow| row.counts == Counts::Successes && row.precision == Precision::Exact;
        let keys: Vec<&str> = self
            .rows
            .iter()
            .zip(&self.keys)
            .filter(|(row, _)| refundable(row))
            .map(|(_, key)| key.as_str())
            .collect();
        if keys.is_empty() {
            return;
        }
        if self.in_memory {
            let mut memory = app.limits.memory.lock().unwrap_or_else(PoisonError::into_inner);
            keys.iter().for_each(|key| memory.give_back(key, &self.entry));
            return;
        }
        let script = &app.cache.redis.scripts.give_back;
        // Without Redis the entry lapses with its window; why was logged.
        let _ = app.cache.redis.call(&[Call { script, keys, arguments: vec![self.entry.as_bytes()] }]).await;
    }

    pub fn add_headers(&self, headers: &mut HeaderMap) {
        let values =
            [("ratelimit-policy", policy_header(&self.rows)), ("ratelimit", state_header(&self.states))];
        for (name, value) in values {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

/// Entries by key: when, and under which name.
#[derive(Default)]
struct Memory {
    entries: HashMap<String, VecDeque<(u64, String)>>,
}

impl Memory {
    fn charge(
        &mut self,
        rows: Vec<&'static LimitRow>,
        parameter: &str,
        entry: String,
        now: u64,
    ) -> Result<Charged> {
        let keys: Vec<String> = rows.iter().map(|row| row.key(parameter)).collect();
        let mut found = vec![false; rows.len()];
        for ((row, key), found) in rows.iter().zip(&keys).zip(&mut found) {
            let Some(entries) = self.entries.get_mut(key) else { continue };
            let retried = format!("{entry}!");
            let mut names = entries.iter_mut().map(|(_, name)| name);
            // What only counts knows no names.
            if row.precision == Precision::Exact
                && let Some(name) = names.find(|name| **name == entry || **name == retried)
            {
                *name = retried;
                *found = true;
                continue;
            }
            for window in row.windows {
                let length = u64::from(window.seconds) * 1000;
                let nth =
                    entries.len().checked_sub(window.admitted as usize).and_then(|index| entries.get(index));
                if let Some((at, _)) = nth.filter(|(at, _)| at + length > now) {
                    return Err(refusal(row.policy(window), (at + length - now).div_ceil(1000).max(1)));
                }
            }
        }
        if self.entries.len() > MEMORY_KEYS {
            self.sweep(now);
        }
        for ((row, key), _) in rows.iter().zip(&keys).zip(&found).filter(|(_, found)| !**found) {
            let keep = u64::from(row.longest_window()) * 1000;
            let entries = self.entries.entry(key.clone()).or_default();
            while entries.front().is_some_and(|(at, _)| at + keep <= now) {
                entries.pop_front();
            }
            let newest = entries.back().map_or(now, |(at, _)| now.max(*at));
            let name = if row.precision == Precision::Exact { entry.clone() } else { String::new() };
            entries.push_back((newest, name));
        }
        let states = self.states(&rows, &keys, now);
        let is_own = !found.contains(&true);
        Ok(Charged { rows, keys, entry, states, in_memory: true, is_own })
    }

    fn give_back(&mut self, key: &str, entry: &str) {
        if let Some(entries) = self.entries.get_mut(key) {
            entries.retain(|(_, name)| name != entry);
        }
    }

    fn states(&self, rows: &[&'static LimitRow], keys: &[String], now: u64) -> Vec<LimitState> {
        let mut states = Vec::new();
        for (row, key) in rows.iter().zip(keys) {
            for window in row.windows {
                let length = u64::from(window.seconds) * 1000;
                let within: Vec<u64> = self
                    .entries
                    .get(key)
                    .map(|entries| entries.iter().map(|(at, _)| *at).filter(|at| at + length > now).collect())
                    .unwrap_or_default();
                let left = i64::from(window.admitted) - within.len() as i64;
                let reset = within.first().map_or(0, |oldest| (oldest + length - now).cast_signed());
                states.push(row.state(window, left, reset));
            }
        }
        states
    }

    /// Forgets keys whose newest entry no window can see any more; if all are live, everything: an outage under attack is
    /// no reason to run out of memory.
    fn sweep(&mut self, now: u64) {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        self.entries.retain(|_, entries| entries.back().is_some_and(|(at, _)| at + DAY_MS > now));
        if self.entries.len() > MEMORY_KEYS {
            tracing::warn!("limits in memory were forgotten: too many keys");
            self.entries.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_admits_exactly_what_every_window_allows() {
        let row = Limit::Messages.row();
        let mut memory = Memory::default();
        let mut admitted: Vec<u64> = Vec::new();
        let mut now = 1_000_000_000;
        let mut seed = 7u64;
        for attempt in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += (seed >> 33) % 60_000;
            let allowed = row.windows.iter().all(|window| {
                let since = now - u64::from(window.seconds) * 1000;
                admitted.iter().filter(|at| **at > since).count() < window.admitted as usize
            });
            let charged = memory.charge(vec![row], "u", attempt.to_string(), now);
            assert_eq!(charged.is_ok(), allowed, "at {now}");
            if allowed {
                admitted.push(now);
            }
        }
        assert!(memory.entries["rate_limit:messages:{u}"].len() <= 500);
    }

    #[test]
    fn what_counts_requests_counts_each_whatever_it_is_called() {
        let row = Limit::Forwarded.row();
        let mut memory = Memory::default();
        for _ in 0..row.windows[0].admitted {
            assert!(memory.charge(vec![row], "u", "the same".to_owned(), 5_000).is_ok());
        }
        assert!(memory.charge(vec![row], "u", "the same".to_owned(), 5_000).is_err());
    }

    #[tokio::test]
    async fn bad_tokens_of_an_address_are_counted_and_good_ones_are_not() {
        let limits = Limits::default();
        let admitted = Limit::BadTokens.row().windows[0].admitted;
        let check = async |result: Result<()>| {
            limits.checking_token("192.0.2.1", async { result }).await.map_err(|error| error.code)
        };
        for _ in 0..2 * admitted {
            assert_eq!(check(Ok(())).await, Ok(()));
        }
        for _ in 0..admitted {
            let bad = Err(Error::new(ErrorCode::Unauthenticated));
            assert_eq!(check(bad).await, Err(ErrorCode::Unauthenticated));
        }
        assert_eq!(check(Ok(())).await, Err(ErrorCode::RateLimited));
    }

    #[test]
    fn a_retry_finds_its_entry_and_a_failure_returns_it() {
        let row = Limit::CircleCreate.row();
        let mut memory = Memory::default();
        let charge =
            |memory: &mut Memory, entry: &str| memory.charge(vec![row], "u", entry.to_owned(), 5_000);
        assert!(charge(&mut memory, "a").is_ok_and(|charged| charged.is_own));
        assert!(charge(&mut memory, "a").is_ok_and(|charged| !charged.is_own));
        assert!(charge(&mut memory, "b").is_ok());
        assert!(charge(&mut memory, "c").is_err());
        memory.give_back(&row.key("u"), "a");
        assert!(charge(&mut memory, "c").is_err(), "a retry has found it");
        memory.give_back(&row.key("u"), "b");
        assert!(charge(&mut memory, "c").is_ok());
    }
}
