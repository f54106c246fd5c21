//! The erased leave a region's Redis: one walk over all keys removes those whose names have the id, or the digest of the address, of
//! anybody who was erased since the last walk, and their entries in those that others share.

use ::redis::{Cmd, Value};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::redis::{Items, RedisDown};
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::scripts::Scalars as _;

use crate::erasure::rows::digest_of;
use crate::erasure::steps::{Left, Person};

/// People of one walk.
const AT_ONCE: i64 = 200;
/// Keys that Redis looks at before it answers.
const KEYS: usize = 1_000;
/// What the cache protocol has beside a copy, and no value of anybody's is in. They lapse.
const COMPANIONS: [&str; 3] = ["fence:", "lease:", "floor:"];

statements! {
    /// Those for whom nothing is written any more.
    const SINCE: &str = "-- erasure::since
select e.place, e.user_id, e.email from erased e join regions r on r.name = $1
where e.place > r.erased_place and e.erased_at < clock_timestamp() - interval '1 minute' order by e.place limit $2";

    const SEARCHED: &str = "-- erasure::searched
update regions set erased_place = $2 where name = $1 and erased_place < $2";

    /// Whether no region is left to search. One that is silent for a day has no Redis that anybody trusts.
    const GONE: &str = "-- erasure::keys_are_gone
select not exists (
    select from regions r join erased e on e.user_id = $1 and r.erased_place < e.place where r.seen_at > now() - interval '1 day')";
}

/// Removes the keys of those who were erased since. Returns how many keys.
pub async fn sweep(ctx: &Ctx) -> Result<u64> {
    let rows = ctx.db.query(SINCE, &[&ctx.config.region, &AT_ONCE]).await?;
    let Some(last) = rows.last().map(|row| row.get::<_, i64>(0)) else { return Ok(0) };
    let people: Vec<(Uuid, Option<String>)> = rows.iter().map(|row| (row.get(1), row.get(2))).collect();
    let Ok(removed) = remove(ctx, &Sought::of(&people)).await else { return Ok(0) };
    hooks::step("erasure.keys").await;
    ctx.db.query(SEARCHED, &[&ctx.config.region, &last]).await?;
    Ok(removed)
}

/// The last step: every region's Redis was searched.
pub async fn are_gone(ctx: &Ctx, person: &Person) -> Result<Left> {
    let row = ctx.db.query_opt(GONE, &[&person.user]).await?;
    Ok(if row.is_some_and(|row| row.get(0)) { Left::Nothing } else { Left::Waits })
}

/// Removes the keys of one person from this region's Redis.
pub async fn forget(ctx: &Ctx, person: &Person) -> Result<()> {
    let sought = Sought::of(&[(person.user, person.email.clone())]);
    remove(ctx, &sought).await.map(drop).map_err(|_| Error::unavailable("The cache"))
}

async fn remove(ctx: &Ctx, sought: &Sought) -> std::result::Result<u64, RedisDown> {
    let mut removed = 0;
    let mut walk = Walk::default();
    while let Some(keys) = walk.next(ctx).await? {
        let mut commands = Vec::new();
        let (mut unlink, before) = (Cmd::new(), removed);
        unlink.arg("UNLINK");
        for key in &keys {
            if sought.is_named_by(key) {
                unlink.arg(key);
                removed += 1;
            } else if let Some(entries) = entries_of(key) {
                let mut take = Cmd::new();
                take.arg(entries).arg(key).arg(&sought.users);
                commands.push(take);
            }
        }
        if removed > before {
            commands.push(unlink);
        }
        if !commands.is_empty() {
            ctx.redis.send(commands).await?;
        }
    }
    Ok(removed)
}

/// The keys that name a person.
pub async fn left(ctx: &Ctx, user: Uuid) -> std::result::Result<Vec<String>, RedisDown> {
    let sought = Sought::of(&[(user, None)]);
    let mut left = Vec::new();
    let mut walk = Walk::default();
    while let Some(keys) = walk.next(ctx).await? {
        left.extend(keys.into_iter().filter(|key| sought.is_named_by(key)));
    }
    Ok(left)
}

/// What is looked for.
struct Sought {
    users: Vec<String>,
    /// The digests of their addresses, by which log-ins and mails are limited.
    digests: Vec<String>,
}

impl Sought {
    fn of(people: &[(Uuid, Option<String>)]) -> Sought {
        Sought {
            users: people.iter().map(|(user, _)| user.to_string()).collect(),
            digests: people.iter().filter_map(|(_, email)| email.as_deref().map(digest_of)).collect(),
        }
    }

    fn is_named_by(&self, key: &str) -> bool {
        let mut needles = self.users.iter().chain(&self.digests);
        !COMPANIONS.iter().any(|companion| key.starts_with(companion))
            && needles.any(|needle| key.contains(needle.as_str()))
    }
}

/// The command that takes people's entries from a key that others share, if it has such entries. Whoever adds a key says here what an
/// erasure does about it.
fn entries_of(name: &str) -> Option<&'static str> {
    use Key::*;
    match BoundKey::parse(name)?.key() {
        Online | Typing | JoinRequests => Some("ZREM"),
        JoinTexts => Some("HDEL"),
        // Their names have the person's id.
        Session | Tickets | Membership | Me | Profile | PersonalPreferences | Preferences | PushTokens => {
            None
        }
        Draft | DraftSizes | JournalKey | RecentTags | Streak | Presence | Recent => None,
        MessageDraft | MessageDrafts | Blocked | MyCircles | ReadMarker | ReadAhead => None,
        // Copies that show people are dropped when the name goes, and reactions are taken back.
        Circle | CircleAccess | CircleMembers | CircleMessages | CircleHead | Message | Comments
        | Discovery => None,
        Reactions | Counts | CountsPage | CircleActivity | CircleStats => None,
        // Ids, until a job or a sender has taken them.
        DirtyDrafts | Touched | PresenceDue | Outgoing | Events | Writes => None,
        Cursor | Settled | Wake | Ledger | Vouch | Epoch | Metrics | Prompts | Categories | Popular => None,
    }
}

/// A walk over all keys, some at a time.
#[derive(Default)]
struct Walk {
    /// `None` before the first step.
    cursor: Option<String>,
}

impl Walk {
    /// `None` after the last step.
    async fn next(&mut self, ctx: &Ctx) -> std::result::Result<Option<Vec<String>>, RedisDown> {
        if self.cursor.as_deref() == Some("0") {
            return Ok(None);
        }
        let mut scan = Cmd::new();
        scan.arg("SCAN").arg(self.cursor.as_deref().unwrap_or("0")).arg("COUNT").arg(KEYS);
        let Some(Value::Array(parts)) = ctx.redis.send([scan]).await?.pop() else {
            self.cursor = Some("0".to_owned());
            return Ok(Some(Vec::new()));
        };
        let mut parts = parts.into_iter();
        self.cursor = parts.next().map(|cursor| Items::new(cursor).text());
        let keys = match parts.next() {
            Some(Value::Array(keys)) => keys.into_iter().map(|key| Items::new(key).text()).collect(),
            _ => Vec::new(),
        };
        Ok(Some(keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_anybodys_whom_its_name_has() {
        let sought = Sought { users: vec!["0198".to_owned()], digests: vec!["digest".to_owned()] };
        for key in ["me:{p001}:0198", "session:{0198}:7", "hidden:me:{p001}:0198", "limit:log-ins:{digest}:1"]
        {
            assert!(sought.is_named_by(key), "{key}");
        }
        for key in ["me:{p001}:0199", "floor:me:{p001}:0198", "lease:me:{p001}:0198", "fence:me:{p001}:0198"]
        {
            assert!(!sought.is_named_by(key), "{key}");
        }
    }
}
