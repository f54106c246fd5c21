//! The job that takes waiting erasures through their steps, and the command that takes one through all of them.
//!
//! Each part of a step changes a bounded number of rows in a transaction of its own, and may be repeated. Whoever kills this loses
//! nothing: the next run goes on with the step that is noted.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use optimist_plane::archive::{self, Erased};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hooks;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use tokio_postgres::Row;

use crate::erasure::steps::{Left, Person, request};
use crate::erasure::{circles, keys, messages, reactions, rows};
use crate::people::erasing::Erasure;

type Step = for<'a> fn(&'a Ctx, &'a Person) -> BoxFuture<'a, Result<Left>>;

/// In this order: who has left all circles posts nothing more, and activity says where somebody has posted and reacted.
const STEPS: &[Step] = &[
    |ctx, person| Box::pin(account(ctx, person)),
    |ctx, person| Box::pin(note(ctx, person)),
    |ctx, person| Box::pin(circles::leave(ctx, person)),
    |ctx, person| Box::pin(messages::go(ctx, person)),
    |ctx, person| Box::pin(reactions::take_back(ctx, person)),
    |ctx, person| Box::pin(rows::remove(ctx, person)),
    |ctx, person| Box::pin(keys::are_gone(ctx, person)),
];

/// Requests that were admitted before an account was erased end within this time, in seconds: what they write comes before the steps.
const SETTLES: f64 = 60.0;
/// Erasures that a run takes further, those that wait longest first. One that waits for something does not hold up the others.
const AT_ONCE: i64 = 20;
/// How long a run lasts: other jobs of the region wait for it.
const LASTS: Duration = Duration::from_secs(5);
/// How long the command waits for others, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);

statements! {
    const WAITING: &str = "-- erasure::waiting
select user_id, keeps_messages, email, step, after, erased_at from erased
where done_at is null and erased_at < clock_timestamp() - $1 * interval '1 second' order by place limit $2";

    const FIND: &str = "-- erasure::find
select user_id, keeps_messages, email, step, after, erased_at from erased where user_id = $1 and done_at is null";

    const NOTE: &str = "-- erasure::note
update erased set step = $2, after = $3 where user_id = $1 and done_at is null";

    const DONE: &str = "-- erasure::done
update erased set done_at = now(), email = null, after = null where user_id = $1";
}

impl Person {
    fn from_row(row: &Row) -> Person {
        Person {
            user: row.get(0),
            keeps_messages: row.get(1),
            email: row.get(2),
            step: row.get(3),
            after: row.get(4),
            erased_at: row.get(5),
        }
    }
}

/// Takes waiting erasures further. Returns how many it has ended.
pub async fn run(ctx: &Ctx) -> Result<u64> {
    let until = Instant::now() + LASTS;
    let (mut ended, mut failure) = (0, None);
    for row in ctx.db.query(WAITING, &[&SETTLES, &AT_ONCE]).await? {
        let mut person = Person::from_row(&row);
        while Instant::now() < until {
            match go_on(ctx, &mut person).await {
                Ok(Progress::Some) => continue,
                Ok(Progress::Waits) => {}
                Ok(Progress::Done) => ended += 1,
                // It holds up nobody else.
                Err(error) => failure = Some(error),
            }
            break;
        }
    }
    failure.map_or(Ok(ended), Err)
}

enum Progress {
    Some,
    Waits,
    Done,
}

/// Does a part of the person's step, and notes how far it is.
async fn go_on(ctx: &Ctx, person: &mut Person) -> Result<Progress> {
    let step = usize::try_from(person.step).ok().and_then(|step| STEPS.get(step));
    let Some(step) = step else {
        ctx.db.query(DONE, &[&person.user]).await?;
        tracing::info!(user = %person.user, "an account is erased");
        return Ok(Progress::Done);
    };
    match step(ctx, person).await? {
        Left::Waits => return Ok(Progress::Waits),
        Left::More => return Ok(Progress::Some),
        Left::MoreAfter(after) => person.after = Some(after),
        Left::Nothing => (person.step, person.after) = (person.step + 1, None),
    }
    hooks::step("erasure.step").await;
    ctx.db.query(NOTE, &[&person.user, &person.step, &person.after]).await?;
    Ok(Progress::Some)
}

/// The account itself: there is something to do if its owner's request was cut off, or somebody is on the list alone.
async fn account(ctx: &Ctx, person: &Person) -> Result<Left> {
    let erasure = Erasure { user: person.user, keeps_messages: person.keeps_messages, by: None };
    erasure.begin(ctx, &request()).await?;
    Ok(Left::Nothing)
}

/// Notes the person outside the database too. Without the store the erasure waits: a backup must not bring anybody back.
async fn note(ctx: &Ctx, person: &Person) -> Result<Left> {
    if ctx.config.archive_url.is_none() {
        return Ok(Left::Nothing);
    }
    let Person { user, keeps_messages, .. } = *person;
    match archive::note(&ctx.config, Erased { user, keeps_messages }).await {
        Ok(()) => Ok(Left::Nothing),
        Err(trouble) => {
            tracing::error!(why = %trouble, "an erasure cannot be noted in the archive's store; it waits");
            Ok(Left::Waits)
        }
    }
}

/// Erases an account, for the operator, and waits until it is gone from the database and this region's Redis. Returns whether there is such an account, or there was.
pub async fn apply(ctx: &Ctx, user: Uuid, keeps_messages: bool) -> Result<bool> {
    let erasure = Erasure { user, keeps_messages, by: None };
    let exists = erasure.begin(ctx, &request()).await?;
    if !exists {
        // Rows of before, in archived months or a copy of the database.
        crate::erasure::outside::add(ctx, &[Erased { user, keeps_messages }]).await?;
    }
    let Some(row) = ctx.db.query_opt(FIND, &[&user]).await? else { return Ok(exists) };
    let mut person = Person::from_row(&row);
    let mut until = Instant::now() + PATIENCE;
    loop {
        if usize::try_from(person.step) == Ok(STEPS.len() - 1) {
            keys::forget(ctx, &person).await?;
            return Ok(exists);
        }
        match go_on(ctx, &mut person).await? {
            Progress::Done => return Ok(exists),
            Progress::Some => until = Instant::now() + PATIENCE,
            Progress::Waits if Instant::now() > until => {
                let detail =
                    "An origin must run, and the archive's store be reachable: the erasure goes on then.";
                return Err(Error::unavailable("The erasure").detail(detail));
            }
            Progress::Waits => tokio::time::sleep(PAUSE).await,
        }
    }
}
