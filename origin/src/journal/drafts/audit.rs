//! Drafts: one that is flushed is what Postgres has, and one that is not is among those that wait for it.

use ::redis::Cmd;
use optimist_shared::ids::{Partition, parse_hex};
use optimist_shared::keys::{Key, Parameters};
use optimist_shared::vouching::Vouched;

use crate::journal::drafts::store::in_postgres;
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::{Call, Items};

/// What Redis has of a draft.
#[derive(PartialEq, Eq)]
struct Live {
    version: String,
    sealed: String,
    is_flushed: bool,
    waits: bool,
}

async fn live(app: &Ctx, parameters: &Parameters, name: &str) -> Option<Live> {
    let (user, draft) = (parameters.user?, parameters.draft?);
    let partition = Partition::of(user);
    let (mut vouch, mut fields, mut waits) = (Cmd::new(), Cmd::new(), Cmd::new());
    vouch.arg("GET").arg(Key::Vouch.of_partition(partition));
    fields.arg("HMGET").arg(name).arg(&["epoch", "version", "sealed", "flushed"]);
    waits.arg("ZSCORE").arg(Key::DirtyDrafts.of_partition(partition)).arg(format!("{user}:{draft}"));
    let mut values = app.redis.send([vouch, fields, waits]).await.ok()?.into_iter().map(Items::new);
    let vouched = Vouched::parse(&values.next()?.bytes())?;
    let mut fields = values.next()?;
    let is_believed = parse_hex(&fields.text()) == Some(vouched.epoch);
    let (version, sealed, is_flushed) = (fields.text(), fields.text(), fields.text() == "1");
    let waits = !values.next()?.text().is_empty();
    (is_believed && !version.is_empty()).then_some(Live { version, sealed, is_flushed, waits })
}

pub async fn compare(app: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let Suspect { parameters, name, repair, .. } = suspect;
    let (user, draft) = (parameters.user.unwrap_or_default(), parameters.draft.unwrap_or_default());
    let Some(before) = live(app, &parameters, name).await else { return Ok(Tally::PASSED_OVER) };
    // Between its burial and its removal from here there is a moment.
    let mut is_buried = false;
    let is_same = if before.is_flushed {
        let stored = in_postgres(app, user, draft).await?;
        is_buried = stored.as_ref().is_some_and(|(_, sealed)| sealed.is_empty());
        stored.is_some_and(|(version, sealed)| version == before.version && sealed == before.sealed)
    } else {
        before.waits
    };
    if is_same {
        return Ok(Tally::SAME);
    }
    if live(app, &parameters, name).await.as_ref() != Some(&before) {
        return Ok(Tally::PASSED_OVER);
    }
    // Without Redis it is found again.
    let _ = match (repair, before.is_flushed) {
        (false, _) => Ok(Vec::new()),
        (true, true) => {
            let script = &app.redis.scripts.drop_flushed;
            let call = Call { script, keys: vec![name], arguments: vec![before.version.as_bytes()] };
            app.redis.call(&[call]).await
        }
        (true, false) => {
            let mut wait = Cmd::new();
            let dirty = Key::DirtyDrafts.of_partition(Partition::of(user));
            wait.arg("ZADD").arg(dirty).arg(0).arg(format!("{user}:{draft}"));
            app.redis.send([wait]).await
        }
    };
    Ok(if is_buried { Tally::STALE } else { Tally::CONFLICT })
}
