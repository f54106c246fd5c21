//! Sealing private text: XChaCha20-Poly1305 under a key of the user's own, which a key encryption key wraps.
//!
//! A sealed text is bound to its owner, its kind, its id and its version: in another's place it does not open. Nothing here
//! logs or stores anything in the clear.

use std::time::Duration;

use ::redis::Cmd;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_plane::cache::value::id_of;
use optimist_plane::config::Keys;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::keyed_hash;
use optimist_plane::postgres::pool::Postgres;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::redis::Items;
use optimist_plane::statements;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::Key;
use optimist_shared::scripts::Scalars as _;

statements! {
    const FIND: &str = "-- sealing::find
select kek_id, wrapped from journal_keys where user_id = $1";

    const CREATE: &str = "-- sealing::create
insert into journal_keys (user_id, kek_id, wrapped) values ($1, $2, $3) on conflict do nothing";

    /// Nobody makes a key for an erased account, or restores what was destroyed.
    const LIVES: &str = "-- sealing::lives
select from users where id = $1 and status <> 'erased'";

    const KEYLESS: &str = "-- sealing::keyless
select user_id from unnest($1::uuid[]) user_id
except select user_id from journal_keys where user_id = any($1)";

    /// The keys of the next people.
    const NEXT: &str = "-- sealing::next
select user_id, kek_id, wrapped from journal_keys where user_id > $1 order by user_id limit 100";

    /// Changes nothing if another process has wrapped it anew.
    const REWRAP: &str = "-- sealing::rewrap
update journal_keys set kek_id = $2, wrapped = $3, rewrapped_at = now() where user_id = $1 and wrapped = $4";
}

/// The ring of key encryption keys. The first key wraps; all of them unwrap.
pub const JOURNAL_KEYS: &str = "journal_keys";

/// The first byte of a sealed text, which says its form: the nonce follows, then the ciphertext and its tag.
const FORM: u8 = 1;
const NONCE: usize = 24;

/// The kind of a sealed text.
#[derive(Clone, Copy, Debug)]
pub enum What {
    Draft,
    Entry,
    Mood,
    Tags,
    /// The key of an export's pieces.
    Export,
}

/// A user's keys, derived from their data key.
pub struct Sealer {
    user: Uuid,
    key: [u8; 32],
    index: [u8; 32],
    wrapped: Wrapped,
}

/// A wrapped data key, and the id of the key that wraps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wrapped {
    kek_id: String,
    bytes: Vec<u8>,
}

impl Sealer {
    fn new(user: Uuid, data_key: &[u8; 32], wrapped: Wrapped) -> Sealer {
        let (key, index) = (keyed_hash(data_key, &[b"seal"]), keyed_hash(data_key, &[b"index"]));
        Sealer { user, key, index, wrapped }
    }

    /// Makes sure that Postgres has the key, in the transaction that stores what the key has sealed. A failover may have lost the
    /// row while Redis still knew the key: then this restores it. If Postgres has another key by now, nothing is stored, and
    /// the next attempt seals with that one.
    pub async fn hold(&self, ctx: &Ctx, tx: &Tx) -> Result<()> {
        for _ in 0..2 {
            if let Some(row) = tx.query_opt(FIND, &[&self.user]).await? {
                let stored = Wrapped { kek_id: row.get(0), bytes: row.get(1) };
                return if self.is_wrapped_in(ctx, &stored) {
                    Ok(())
                } else {
                    Err(forget(ctx, self.user).await)
                };
            }
            if tx.query_opt(LIVES, &[&self.user]).await?.is_none() {
                return Err(Error::new(ErrorCode::Unauthenticated));
            }
            tracing::warn!(user = %self.user, "a journal's key was missing, and is restored");
            tx.execute(CREATE, &[&self.user, &self.wrapped.kek_id, &self.wrapped.bytes]).await?;
        }
        Err(Error::internal("sealing", &"a key that was restored is gone"))
    }

    fn is_wrapped_in(&self, ctx: &Ctx, stored: &Wrapped) -> bool {
        let unwrapped = || unwrap(ctx.config.keys(JOURNAL_KEYS), self.user, stored);
        // A rotation changes the wrapping alone.
        *stored == self.wrapped || unwrapped().is_some_and(|key| keyed_hash(&key, &[b"seal"]) == self.key)
    }

    /// Seals a text as this version of the thing with this id.
    pub fn seal(&self, what: What, id: Uuid, version: &str, plain: &[u8]) -> Result<Vec<u8>> {
        seal(&self.key, &self.bound_to(what, id, version), plain)
    }

    /// Opens a text that was sealed with exactly this kind, id and version.
    pub fn open(&self, what: What, id: Uuid, version: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        open(&self.key, &self.bound_to(what, id, version), sealed)
            .ok_or_else(|| Error::internal("sealing", &"a sealed text does not open"))
    }

    fn bound_to(&self, what: What, id: Uuid, version: &str) -> Vec<u8> {
        format!("{what:?} {} {id} {version}", self.user).into_bytes()
    }

    /// The digest that a tag is found by: the same for the same tag of the same user. It tells nobody else anything.
    pub fn index(&self, text: &str) -> Vec<u8> {
        self.index_bytes(text.as_bytes())
    }

    /// [`Sealer::index`] of any bytes.
    pub fn index_bytes(&self, text: &[u8]) -> Vec<u8> {
        keyed_hash(&self.index, &[text])[..16].to_vec()
    }
}

/// Seals bytes under a key, in their place alone.
pub fn seal(key: &[u8; 32], bound_to: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|error| Error::internal("sealing", &error))?;
    let payload = Payload { msg: plain, aad: bound_to };
    let sealed = XChaCha20Poly1305::new(&(*key).into())
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_| Error::internal("sealing", &"a text is too long to seal"))?;
    Ok([&[FORM][..], &nonce, &sealed].concat())
}

/// Whether bytes have the form of a sealed text.
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&FORM)
}

/// The bytes, if they were sealed under this key and in this place.
pub fn open(key: &[u8; 32], bound_to: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (&form, rest) = sealed.split_first()?;
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().filter(|_| form == FORM)?;
    let payload = Payload { msg: ciphertext, aad: bound_to };
    XChaCha20Poly1305::new(&(*key).into()).decrypt(&XNonce::from(*nonce), payload).ok()
}

/// Derives a key encryption key from one of the configuration, which may have any length.
fn kek(keys: &Keys, id: &str) -> Option<[u8; 32]> {
    keys.get(id).map(|key| keyed_hash(key, &[b"journal key encryption"]))
}

fn wrap(keys: &Keys, user: Uuid, data_key: &[u8; 32]) -> Result<Vec<u8>> {
    let kek = kek(keys, &keys.first).ok_or_else(|| Error::internal("sealing", &"there is no key"))?;
    seal(&kek, user.as_bytes(), data_key)
}

fn unwrap(keys: &Keys, user: Uuid, wrapped: &Wrapped) -> Option<[u8; 32]> {
    open(&kek(keys, &wrapped.kek_id)?, user.as_bytes(), &wrapped.bytes)?.try_into().ok()
}

/// A user's keys. Their first use makes them. Redis keeps the data key, wrapped, so that drafts go on without Postgres.
pub async fn sealer(ctx: &Ctx, user: Uuid) -> Result<Sealer> {
    let keys = ctx.config.keys(JOURNAL_KEYS);
    let name = Key::journal_key(user).name();
    if let Some(wrapped) = kept(ctx, &name).await
        && let Some(data_key) = unwrap(keys, user, &wrapped)
    {
        return Ok(Sealer::new(user, &data_key, wrapped));
    }
    let wrapped = match stored(ctx, user).await? {
        Some(stored) => stored,
        None => create(ctx, keys, user).await?,
    };
    let data_key = unwrap(keys, user, &wrapped)
        .ok_or_else(|| Error::internal("sealing", &"a key that journals are sealed with is gone"))?;
    let value = format!("{} {}", wrapped.kek_id, STANDARD.encode(&wrapped.bytes));
    let seconds = Key::JournalKey.row().kept_seconds().unwrap_or_default();
    let mut set = Cmd::new();
    set.arg("SET").arg(&name).arg(value).arg("EX").arg(seconds);
    // Without Redis every request reads it from Postgres.
    let _ = ctx.redis.send([set]).await;
    Ok(Sealer::new(user, &data_key, wrapped))
}

/// Restores the keys of users whose drafts come to Postgres, where a failover has lost them and Redis has them.
pub async fn hold_all(ctx: &Ctx, users: &[Uuid]) -> Result<()> {
    for row in ctx.db.query(KEYLESS, &[&users]).await? {
        let user: Uuid = row.get(0);
        if !lives(ctx, user).await? {
            continue;
        }
        let Some(wrapped) = kept(ctx, &Key::journal_key(user).name()).await else {
            tracing::error!(%user, "a journal's key is in no store");
            continue;
        };
        tracing::warn!(%user, "a journal's key was missing, and is restored");
        ctx.db.query(CREATE, &[&user, &wrapped.kek_id, &wrapped.bytes]).await?;
    }
    Ok(())
}

/// Drops Redis's copy of a key that Postgres does not have. Returns the error to answer with.
async fn forget(ctx: &Ctx, user: Uuid) -> Error {
    tracing::error!(%user, "Redis had a journal's key that Postgres does not have");
    let mut drop = Cmd::new();
    drop.arg("DEL").arg(Key::journal_key(user).name());
    // Without Redis the next attempt reads Postgres's anyway.
    let _ = ctx.redis.send([drop]).await;
    Error::unavailable("The journal's key")
}

/// Makes a user's data key. Another request may be faster: the key in Postgres counts.
async fn create(ctx: &Ctx, keys: &Keys, user: Uuid) -> Result<Wrapped> {
    if !lives(ctx, user).await? {
        return Err(Error::new(ErrorCode::Unauthenticated));
    }
    let mut data_key = [0; 32];
    getrandom::fill(&mut data_key).map_err(|error| Error::internal("sealing", &error))?;
    let wrapped = wrap(keys, user, &data_key)?;
    ctx.db.query(CREATE, &[&user, &keys.first, &wrapped]).await?;
    stored(ctx, user).await?.ok_or_else(|| Error::internal("sealing", &"a key that was made is gone"))
}

/// Whether a user has an account that is not erased.
async fn lives(ctx: &Ctx, user: Uuid) -> Result<bool> {
    Ok(ctx.db.query_opt(LIVES, &[&user]).await?.is_some())
}

/// A user's wrapped key as Postgres keeps it.
async fn stored(ctx: &Ctx, user: Uuid) -> Result<Option<Wrapped>> {
    let row = ctx.db.query_opt(FIND, &[&user]).await?;
    Ok(row.map(|row| Wrapped { kek_id: row.get(0), bytes: row.get(1) }))
}

/// The same as Redis keeps them.
async fn kept(ctx: &Ctx, name: &str) -> Option<Wrapped> {
    let mut get = Cmd::new();
    get.arg("GET").arg(name);
    let value = ctx.redis.send([get]).await.ok()?.pop()?;
    let text = Items::new(value).text();
    let (kek_id, wrapped) = text.split_once(' ')?;
    Some(Wrapped { kek_id: kek_id.to_owned(), bytes: STANDARD.decode(wrapped).ok()? })
}

/// Compares a journal's wrapped key.
pub async fn compare(ctx: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let Suspect { key, name, repair } = suspect;
    let user = id_of(&key, Id::User)?;
    let Some(before) = kept(ctx, name).await else { return Ok(Tally::PASSED_OVER) };
    let stored = stored(ctx, user).await?;
    // A rotation changes the key. A reader that cannot use Redis's copy reads the row.
    if stored.as_ref() == Some(&before) {
        return Ok(Tally::SAME);
    }
    if kept(ctx, name).await.as_ref() != Some(&before) {
        return Ok(Tally::PASSED_OVER);
    }
    // A key that Redis alone knows is restored: a failover has lost its row.
    let is_lost = stored.is_none()
        && unwrap(ctx.config.keys(JOURNAL_KEYS), user, &before).is_some()
        && lives(ctx, user).await?;
    if repair && is_lost {
        ctx.db.query(CREATE, &[&user, &before.kek_id, &before.bytes]).await?;
    } else if repair {
        let mut drop = Cmd::new();
        drop.arg("DEL").arg(name);
        // Without Redis the next round finds it again.
        let _ = ctx.redis.send([drop]).await;
    }
    let is_rewrapped = stored.is_some_and(|stored| stored.kek_id != before.kek_id);
    Ok(if is_rewrapped { Tally::STALE } else { Tally::CONFLICT })
}

/// How often to try again, and how long to wait before, while others hold the rows.
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Rewraps, with the first key encryption key, every data key that another key wraps. Returns how many it rewrapped.
pub async fn rotate(db: &Postgres, keys: &Keys) -> Result<u64> {
    let (mut rotated, mut too_slow) = (0, 0);
    let mut after = Uuid::nil();
    loop {
        let tx = Tx::begin(db).await?;
        let result = rotate_some(&tx, keys, after).await;
        match tx.end(result).await {
            Ok((_, None)) => return Ok(rotated),
            Ok((done, Some(last))) => (rotated, after, too_slow) = (rotated + done, last, 0),
            Err(error) if error.is_slow() && too_slow < PATIENCE => {
                too_slow += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Rewraps the keys of the next people after one. Returns how many it rewrapped, and whose was the last it looked at.
async fn rotate_some(tx: &Tx, keys: &Keys, after: Uuid) -> Result<(u64, Option<Uuid>)> {
    let rows = tx.query(NEXT, &[&after]).await?;
    let mut rewrapped = 0;
    for row in &rows {
        let (user, kek_id, wrapped): (Uuid, String, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
        if kek_id == keys.first {
            continue;
        }
        let former = Wrapped { kek_id, bytes: wrapped };
        let data_key = unwrap(keys, user, &former).ok_or_else(|| {
            Error::internal(
                "sealing",
                &format_args!("the key {} is not in the configuration, or is another", former.kek_id),
            )
        })?;
        let wrapped = wrap(keys, user, &data_key)?;
        tx.execute(REWRAP, &[&user, &keys.first, &wrapped, &former.bytes]).await?;
        rewrapped += 1;
    }
    Ok((rewrapped, rows.last().map(|row| row.get(0))))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bit_of_a_sealed_text_may_change(plain in vec(any::<u8>(), 0..80), at: usize, bit in 0..8u8, length: usize) {
            let sealer = Sealer::new(Uuid::from_u128(1), &[7; 32], Wrapped::default());
            let mut sealed = sealer.seal(What::Draft, Uuid::from_u128(2), "1", &plain).unwrap();
            let opened = |sealed: &[u8]| open(&sealer.key, &sealer.bound_to(What::Draft, Uuid::from_u128(2), "1"), sealed);
            prop_assert_eq!(opened(&sealed), Some(plain));
            prop_assert_eq!(opened(&sealed[..length % sealed.len()]), None);
            let at = at % sealed.len();
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(opened(&sealed), None);
        }

        #[test]
        fn whatever_comes_as_a_sealed_text_does_not_open(bytes in vec(any::<u8>(), 0..120), form: bool) {
            let bytes = if form { [&[FORM][..], &bytes].concat() } else { bytes };
            prop_assert_eq!(open(&[7; 32], b"", &bytes), None);
        }
    }

    #[test]
    fn a_sealed_text_opens_in_its_own_place_alone() {
        let (ada, bo) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sealer = Sealer::new(ada, &[7; 32], Wrapped::default());
        let sealed = sealer.seal(What::Entry, bo, "1", b"private").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"private"));
        assert_eq!(sealer.open(What::Entry, bo, "1", &sealed).unwrap(), b"private");
        let elsewhere = [(What::Draft, bo, "1"), (What::Entry, ada, "1"), (What::Entry, bo, "2")];
        for (what, id, version) in elsewhere {
            assert!(sealer.open(what, id, version, &sealed).is_err(), "{what:?} {id} {version}");
        }
        assert!(
            Sealer::new(bo, &[7; 32], Wrapped::default()).open(What::Entry, bo, "1", &sealed).is_err(),
            "another user"
        );
        for broken in [&sealed[..0], &sealed[..20], &sealed[..sealed.len() - 1]] {
            assert!(sealer.open(What::Entry, bo, "1", broken).is_err());
        }
        let again = sealer.seal(What::Entry, bo, "1", b"private").unwrap();
        assert_ne!(sealed, again, "no nonce twice");
        assert_eq!(sealer.index("sleep"), sealer.index("sleep"));
        assert_ne!(sealer.index("sleep"), Sealer::new(ada, &[8; 32], Wrapped::default()).index("sleep"));
    }
}
