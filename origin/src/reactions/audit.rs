//! Reactions: what Redis has is what Postgres knew at one moment, and the entries since. A script compares the two.

use ::redis::{Cmd, Value};
use optimist_shared::ids::{Partition, Uuid, parse_id};
use optimist_shared::keys::{self, Key, Parameters};

use crate::reactions::snapshot::Snapshot;
use optimist_plane::audit::tally::{Suspect, Tally};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::redis::{Call, Items};

/// Messages of a circle whose counts are compared at a time.
const AT_ONCE: usize = 50;

const EXISTING: &str = "-- audit::existing_messages
select id from messages where circle_id = $1 and id = any($2) and deleted_at is null";

pub const STATEMENTS: &[&str] = &[EXISTING];

/// Compares a message's whole state, or some counts of a circle's messages.
pub async fn compare(app: &Ctx, suspect: Suspect<'_>) -> Result<Tally> {
    let parameters = suspect.parameters;
    let circle = parameters.circle.unwrap_or_default();
    let messages = match parameters.message {
        Some(message) => vec![message],
        None => counted(app, parameters).await,
    };
    let found = once(app, circle, &messages, parameters.message, false).await?;
    if found.conflicts == 0 {
        return Ok(found);
    }
    // A message may have been deleted meanwhile: what differs, differs twice.
    once(app, circle, &messages, parameters.message, suspect.repair).await
}

/// Some of those whose counts Redis has.
async fn counted(app: &Ctx, parameters: Parameters) -> Vec<Uuid> {
    let mut some = Cmd::new();
    some.arg("HRANDFIELD").arg(Key::Counts.render(&parameters)).arg(AT_ONCE);
    match app.redis.send([some]).await.map(|mut values| values.pop()) {
        Ok(Some(Value::Array(fields))) => {
            fields.into_iter().filter_map(|field| parse_id(&Items::new(field).text())).collect()
        }
        _ => Vec::new(),
    }
}

async fn once(
    app: &Ctx,
    circle: Uuid,
    messages: &[Uuid],
    whole: Option<Uuid>,
    repair: bool,
) -> Result<Tally> {
    let rows = app.db.query(EXISTING, &[&circle, &messages]).await?;
    let existing: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let whole = whole.filter(|message| existing.contains(message));
    let snapshot = Snapshot::read(app, circle, &existing, whole).await?;
    let Some(snapshot) = snapshot.filter(|_| !existing.is_empty()) else { return Ok(Tally::PASSED_OVER) };
    let partition = Partition::of(circle);
    let parameters = Parameters { circle: Some(circle), message: whole, ..Parameters::default() };
    let mut names = vec![
        Key::Vouch.of_partition(partition),
        Key::Ledger.of_partition(partition),
        Key::Writes.of_partition(partition),
        Key::Counts.render(&parameters).unwrap_or_default(),
        Key::CountsPage.render(&parameters).unwrap_or_default(),
    ];
    if whole.is_some() {
        let state = Key::Reactions.render(&parameters).unwrap_or_default();
        let fence = keys::fence(&state);
        names.extend([state, fence]);
    }
    let mut words = vec![
        snapshot.generation.to_string(),
        snapshot.position.to_string(),
        u8::from(repair).to_string(),
        whole.map_or_else(String::new, |message| message.to_string()),
    ];
    snapshot.describe(&mut words);
    let call = Call {
        script: &app.redis.scripts.audit,
        keys: names.iter().map(String::as_str).collect(),
        arguments: words.iter().map(String::as_bytes).collect(),
    };
    let Ok(values) = app.redis.call(&[call]).await else { return Ok(Tally::PASSED_OVER) };
    let mut items = Items::new(values.into_iter().next().unwrap_or(Value::Nil));
    if items.text() != "checked" {
        return Ok(Tally::PASSED_OVER);
    }
    Ok(Tally { checked: items.int(), conflicts: items.int(), stale: 0 })
}
