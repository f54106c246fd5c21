//! `Idempotency-Key`: a POST that is repeated within 24 hours is done once, and answered as the first time.
//!
//! The write's own transaction keeps the status and the resource; the answer is rendered anew, and no body is stored.

use axum::http::HeaderMap;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::session::hex;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::postgres::transaction::Tx;
use crate::request::{Caller, RequestContext};
use crate::statements;

statements! {
    /// Waits for a concurrent duplicate, which holds the same row until it ends. A record older than a day no longer counts.
    const CLAIM: &str = "-- idempotency::claim
insert into idempotency (user_id, route, key, request_hash, status, resource, hash_version) values ($1, $2, $3, $4, $5, $6, $7)
on conflict (user_id, route, key) do update
    set request_hash = excluded.request_hash, status = excluded.status, resource = excluded.resource,
        hash_version = excluded.hash_version, created_at = now()
    where idempotency.created_at < now() - interval '24 hours'
returning key";

    const FIND: &str = "-- idempotency::find
select request_hash, status, resource, hash_version from idempotency where user_id = $1 and route = $2 and key = $3";
}

/// The version of [`Idempotency::request_hash`]: it covers the whole path, and the body.
pub const HASH_VERSION: i16 = 2;
/// The version of records made by the release before: four ids of the path, and the body. They are valid until they expire,
/// so this may be removed 24 hours after every origin runs the release that writes version 2.
const FORMER_VERSION: i16 = 1;

/// A request's key, and the hashes that a repetition must match. Without a key they are empty, and never used.
#[derive(Clone, Debug)]
pub struct Idempotency {
    key: Option<String>,
    request_hash: String,
    former_hash: String,
}

/// Whether a write must be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    First,
    /// Done before, with this answer.
    Repeated(Answer),
}

/// The part of an answer that is kept: its status, and the resource that it showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub resource: Uuid,
}

impl Idempotency {
    /// Reads the header: 1 to 255 visible ASCII characters.
    pub fn from_request(headers: &HeaderMap, request: &RequestContext, body: &[u8]) -> Result<Idempotency> {
        let Some(value) = headers.get("idempotency-key") else {
            return Ok(Idempotency { key: None, request_hash: String::new(), former_hash: String::new() });
        };
        let is_key = (1..=255).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
        let reason = "must be 1 to 255 visible ASCII characters";
        let refused = || Error::new(ErrorCode::BadRequest).field("Idempotency-Key", reason);
        let key = value.to_str().ok().filter(|_| is_key).map(str::to_owned).ok_or_else(refused)?;
        let (mut hash, mut former) = (Sha256::new(), Sha256::new());
        // No path has a zero byte: it separates path and body.
        [request.target.as_bytes(), b"\0", body].iter().for_each(|part| hash.update(part));
        for id in [Id::User, Id::Session, Id::Circle, Id::Message] {
            former.update(request.path.ids.get(id).unwrap_or(Uuid::nil()).as_bytes());
        }
        former.update(body);
        let [request_hash, former_hash] = [hash, former].map(|hash| hex(&hash.finalize()));
        Ok(Idempotency { key: Some(key), request_hash, former_hash })
    }

    /// Replaces the hashes by keyed ones, so that the stored one does not confirm a guess at the request.
    pub fn keyed(mut self, keyed: impl Fn(&str) -> Vec<u8>) -> Idempotency {
        if self.key.is_none() {
            return self;
        }
        for hash in [&mut self.request_hash, &mut self.former_hash] {
            *hash = hex(&keyed(hash));
        }
        self
    }

    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    pub fn request_hash(&self) -> &str {
        &self.request_hash
    }

    /// Claims the key for this transaction and records its answer, or finds the answer of an earlier one. Without a key every
    /// request is the first.
    pub async fn claim(&self, tx: &mut Tx, caller: &Caller, answer: Answer) -> Result<Claim> {
        let Some(key) = &self.key else { return Ok(Claim::First) };
        let (route, status) = (caller.request.route.name, answer.status.cast_signed());
        let hash = &self.request_hash;
        let claimed = tx
            .query_opt(CLAIM, &[&caller.user, &route, key, hash, &status, &answer.resource, &HASH_VERSION])
            .await?;
        if claimed.is_some() {
            return Ok(Claim::First);
        }
        let row = tx.query_one(FIND, &[&caller.user, &route, key]).await?;
        let known = self.hash_of(row.get(3))?;
        if row.get::<_, String>(0) != known {
            return Err(
                Error::new(ErrorCode::KeyReused).field("Idempotency-Key", "was used with another request")
            );
        }
        tx.unchanged();
        Ok(Claim::Repeated(Answer { status: row.get::<_, i16>(1).cast_unsigned(), resource: row.get(2) }))
    }

    /// The hash that a record of this version has of the same request. 503 if this release does not know the version: an
    /// origin of the newer release can tell.
    fn hash_of(&self, version: i16) -> Result<&str> {
        match version {
            FORMER_VERSION => Ok(&self.former_hash),
            HASH_VERSION => Ok(&self.request_hash),
            _ => {
                let detail = "The Idempotency-Key was recorded by a newer release.";
                Err(Error::unavailable("The database").detail(detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use optimist_shared::routes::{Matched, lookup};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_kept_as_it_came_or_refused(key in "[!-~]{0,300}|[ -~\u{80}-\u{ff}]{0,20}", body: Vec<u8>) {
            match read(key.as_bytes(), 1, &body) {
                Ok(read) => prop_assert_eq!(read.key, Some(key)),
                Err(error) => {
                    prop_assert_eq!(error.code, ErrorCode::BadRequest);
                    prop_assert!(!(1..=255).contains(&key.len()) || key.bytes().any(|byte| !byte.is_ascii_graphic()));
                }
            }
        }
    }

    fn read(key: &[u8], circle: u128, body: &[u8]) -> Result<Idempotency> {
        let value = axum::http::HeaderValue::from_bytes(key).unwrap();
        let name = axum::http::HeaderName::from_static("idempotency-key");
        read_with(&HeaderMap::from_iter([(name, value)]), circle, body)
    }

    fn read_with(headers: &HeaderMap, circle: u128, body: &[u8]) -> Result<Idempotency> {
        let target = format!("/v1/circles/{}/messages", Uuid::from_u128(circle));
        let Matched::Route(route, path) = lookup("POST", &target) else { panic!("{target} leads nowhere") };
        let request = RequestContext {
            request_id: String::new(),
            traceparent: None,
            client: String::new(),
            route,
            path,
            target: target.into(),
            user_agent: None,
        };
        Idempotency::from_request(headers, &request, body)
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(read(b"8e03978e-40d5-43dd-bc93-6894a57f9324", 1, b"").is_ok());
        for bad in [&b""[..], b"a b", b"a\tb", "\u{e9}".as_bytes(), &[b'x'; 256]] {
            assert!(read(bad, 1, b"").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn without_a_key_nothing_is_hashed() {
        let read = read_with(&HeaderMap::new(), 1, b"{}").unwrap();
        let read = read.keyed(|_| panic!("there is nothing to key"));
        assert_eq!((read.key(), read.request_hash(), read.former_hash.as_str()), (None, "", ""));
    }

    #[test]
    fn a_record_of_a_newer_release_is_not_judged() {
        let read = read(b"k", 1, b"{}").unwrap();
        assert_eq!(read.hash_of(FORMER_VERSION).unwrap(), read.former_hash);
        assert_eq!(read.hash_of(HASH_VERSION).unwrap(), read.request_hash);
        assert_eq!(read.hash_of(HASH_VERSION + 1).unwrap_err().code, ErrorCode::Unavailable);
    }

    #[test]
    fn another_path_or_body_is_another_request() {
        let hash = |circle, body| {
            let read = read(b"k", circle, body).unwrap();
            (read.request_hash, read.former_hash)
        };
        assert_eq!(hash(1, b"{}"), hash(1, b"{}"));
        for other in [hash(2, b"{}"), hash(1, b"{ }")] {
            assert!(hash(1, b"{}").0 != other.0 && hash(1, b"{}").1 != other.1);
        }
    }
}
