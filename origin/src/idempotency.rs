//! `Idempotency-Key`: a POST that is repeated within 24 hours is answered as the first time, and done once.
//!
//! What is kept is the status and the resource, in the write's own transaction; the answer is rendered anew, and no body is
//! stored.

use axum::http::HeaderMap;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::session::hex;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::postgres::Tx;
use crate::request::Caller;

/// Waits for a concurrent duplicate, which holds the same row until it ends.
const CLAIM: &str = "-- idempotency::claim
insert into idempotency (user_id, route, key, request_hash, status) values ($1, $2, $3, $4, 0)
on conflict (user_id, route, key) do update
    set request_hash = excluded.request_hash, status = 0, resource = null, created_at = now()
    where idempotency.created_at < now() - interval '24 hours'
returning key";

const FIND: &str = "-- idempotency::find
select request_hash, resource from idempotency where user_id = $1 and route = $2 and key = $3";

const RECORD: &str = "-- idempotency::record
update idempotency set status = $4, resource = $5 where user_id = $1 and route = $2 and key = $3";

pub const STATEMENTS: &[&str] = &[CLAIM, FIND, RECORD];

/// A request's key, and what must be the same in a repetition.
#[derive(Clone, Debug)]
pub struct Idempotency {
    key: Option<String>,
    request_hash: String,
}

/// Whether a write is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    First,
    /// Done before, with this resource.
    Repeated(Option<Uuid>),
}

impl Idempotency {
    /// Reads the header: 1 to 255 visible ASCII characters.
    pub fn from_request(headers: &HeaderMap, caller: &Caller, body: &[u8]) -> Result<Idempotency> {
        let key = match headers.get("idempotency-key") {
            None => None,
            Some(value) => {
                let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
                let reason = "must be 1 to 255 visible ASCII characters";
                Some(
                    key.ok_or_else(|| Error::new(ErrorCode::BadRequest).field("Idempotency-Key", reason))?
                        .to_owned(),
                )
            }
        };
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", caller.request.path));
        hash.update(body);
        Ok(Idempotency { key, request_hash: hex(&hash.finalize()) })
    }

    /// Claims the key for this transaction, or finds what an earlier one answered.
    pub async fn claim(&self, tx: &Tx, caller: &Caller) -> Result<Claim> {
        let Some(key) = &self.key else { return Ok(Claim::First) };
        let route = caller.request.route.name;
        if tx.query_opt(CLAIM, &[&caller.user, &route, key, &self.request_hash]).await?.is_some() {
            return Ok(Claim::First);
        }
        let row = tx.query_one(FIND, &[&caller.user, &route, key]).await?;
        if row.get::<_, String>(0) != self.request_hash {
            return Err(
                Error::new(ErrorCode::KeyReused).field("Idempotency-Key", "was used with another request")
            );
        }
        Ok(Claim::Repeated(row.get(1)))
    }

    /// Notes the answer, in the same transaction.
    pub async fn record(&self, tx: &Tx, caller: &Caller, status: i16, resource: Option<Uuid>) -> Result<()> {
        if let Some(key) = &self.key {
            let route = caller.request.route.name;
            tx.execute(RECORD, &[&caller.user, &route, key, &status, &resource]).await?;
        }
        Ok(())
    }
}
