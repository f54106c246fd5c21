//! Posting in batches: posts that arrive while a transaction is under way share the next one (see [`super::lanes`]).
//!
//! A batch accepts members' new messages in active circles, and nothing else. It waits for no circle: posts to a circle that
//! somebody has locked are left for the next batch, for as long as a single post would wait for the lock. It refuses nothing:
//! [`post_alone`] decides over each post that a batch leaves out (a repetition, a refusal, any post of a batch that failed),
//! and gives the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use optimist_plane::archive::missing;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Failure, Result};
use optimist_plane::hooks;
use optimist_plane::http::idempotency::{Answer, Claim, HASH_VERSION, Idempotency};
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::request::{Caller, WriteContext};
use optimist_plane::{statements, transaction};
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::Uuid;
use optimist_shared::keys::{BoundKey, Key};
use tokio::sync::oneshot;
use tokio_postgres::Row;

use crate::circles::standing::Standing;
use crate::messages::lanes::{Lanes, SLOW};
use crate::messages::message::{Message, TABLE, select};
use crate::messages::thread;

/// A message to be posted, its text checked.
pub struct Post {
    pub circle: Uuid,
    /// Of a comment: the message that it belongs to.
    pub parent: Option<Uuid>,
    pub caller: Caller,
    pub idempotency: Idempotency,
    pub body: String,
}

impl Post {
    /// The keys that it makes stale: its author has read it, and a thread's message shows how many comments it has.
    fn keys(&self) -> Vec<BoundKey> {
        let circle = self.circle;
        let mut keys = vec![
            Key::circle_messages(circle),
            Key::circle_head(circle),
            Key::read_marker(circle, self.caller.user),
        ];
        if let Some(parent) = self.parent {
            keys.extend([Key::message(circle, parent), Key::comments(circle, parent)]);
        }
        keys
    }
}

statements! {
    /// The id of the circle's next message, from Postgres's clock and the circle's newest message. The circle's lock keeps it the
    /// next; one that is not used leaves a gap.
    const MINT: &str = "-- messages::mint
select id_at(next_place(last_id, 1)) from circles where id = $1";

    const POST: &str = "-- messages::post
with counted as (
    update circles set last_number = last_number + 1, last_id = $1, active_at = case when active_at < now() - interval '1 hour' then now() else active_at end,
        months = case when months[cardinality(months)] = id_month($1) then months else months || id_month($1) end,
        month_numbers = case when months[cardinality(months)] = id_month($1) then month_numbers
            else month_numbers || last_number + 1 end
    where id = $2 returning last_number),
posted as (
    insert into messages (id, circle_id, number, author_id, body, created_at, parent_id)
    select $1, $2, last_number, $3, $4, id_time($1), $5 from counted
    returning id, circle_id, number, author_id, body, created_at, edited_at, version, parent_id, comments),
read as (
    insert into read_markers as known (circle_id, user_id, number) select circle_id, author_id, number from posted
    on conflict (circle_id, user_id) do update set number = greatest(known.number, excluded.number))
select posted.*, users.name as author_name from posted join users on users.id = author_id";

    /// Inserts the posts of a batch that are allowed and new, and their outbox rows, in the batch's order within each circle.
    /// Only posts to circles that the transaction has locked: `optimist.locked` names them. Ids are given as [`MINT`] does. It
    /// claims idempotency keys sorted by author and key, so that two batches never deadlock over them. Selects each message
    /// with its post's place in the batch, from 1. The moment is a value, since Citus takes no `now()` within `case`.
    const POST_ALL: &str = "-- messages::post_all
with posts as materialized (
    select * from unnest(
        $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
        $14::uuid[])
    with ordinality as post (
        circle_id, author_id, session, body, idempotency_key, request_hash, request_id, traceparent, cache_keys, route, parent_id,
        place)
    where circle_id::text = any(string_to_array(current_setting('optimist.locked', true), ' '))),
permitted as materialized (
    select posts.*, last_id, row_number() over (partition by posts.circle_id order by place) as nth,
        count(*) over (partition by posts.circle_id) as n
    from posts
    join circles on circles.id = posts.circle_id and archived_at is null
    join memberships on memberships.circle_id = posts.circle_id and user_id = author_id and role <> 'banned'),
given as materialized (select circle_id, next_place(last_id, n) as first from permitted where nth = 1),
allowed as materialized (select permitted.*, id_at(first + nth - 1) as id from permitted join given using (circle_id)),
claimed as (
    insert into idempotency (user_id, route, key, request_hash, status, resource, hash_version)
    select author_id, route, idempotency_key, request_hash, $11, id, $13 from allowed
    where idempotency_key is not null order by author_id, idempotency_key
    on conflict (user_id, route, key) do nothing
    returning resource),
accepted as (
    select circle_id, id, author_id, session, body, request_id, traceparent, cache_keys, parent_id, place,
        row_number() over (partition by circle_id order by place) as nth, count(*) over (partition by circle_id) as n,
        now() as moment, now() - interval '1 hour' as an_hour_ago
    from allowed where idempotency_key is null or id in (select resource from claimed)),
counted as (
    update circles set last_number = last_number + n, last_id = accepted.id,
        active_at = case when active_at < an_hour_ago then moment else active_at end,
        months = case when months[cardinality(months)] = id_month(accepted.id) then months else months || id_month(accepted.id) end,
        month_numbers = case when months[cardinality(months)] = id_month(accepted.id) then month_numbers
            else month_numbers || last_number + 1 end
    from accepted
    where circles.id = circle_id and nth = n
    returning circles.id as counted_id, last_number - n as before),
numbered as materialized (
    select *, before + nth as number from accepted join counted on counted_id = circle_id order by circle_id, nth),
recorded as (
    insert into outbox (region, actor, session, request_id, traceparent, keys, kind, payload, topics)
    select $12, author_id, session, request_id, traceparent, string_to_array(cache_keys, ' '), 'message.posted',
        jsonb_strip_nulls(jsonb_build_object('circle', circle_id, 'message', id, 'number', number, 'parent', parent_id)),
        array[circle_id]
    from numbered),
read as (
    insert into read_markers as known (circle_id, user_id, number)
    select circle_id, author_id, max(number) from numbered group by circle_id, author_id order by circle_id, author_id
    on conflict (circle_id, user_id) do update set number = greatest(known.number, excluded.number)),
posted as (
    insert into messages (id, circle_id, number, author_id, body, created_at, parent_id)
    select id, circle_id, number, author_id, body, id_time(id), parent_id from numbered
    returning id, circle_id, number, author_id, body, created_at, edited_at, version, parent_id, comments)
select posted.*, users.name as author_name, place
from posted join users on users.id = author_id join numbered using (circle_id, number)";
}

/// The status of the answer to a new message.
const CREATED: u16 = 201;

/// Posts a message. Returns whether it is new, or was posted before under the same idempotency key.
pub async fn post_in_batch(ctx: &Ctx, posting: &Arc<Posting>, post: Post) -> Result<(Message, bool)> {
    let post = Arc::new(post);
    // A repetition is answered whatever has become of the thread.
    if let Some(parent) = post.parent
        && let Err(error) = thread::require_open(ctx, post.circle, parent).await
    {
        return if post.idempotency.key().is_some() { post_alone(ctx, &post).await } else { Err(error) };
    }
    match posting.batched(ctx, post.clone()).await? {
        Some(message) => Ok((message, true)),
        None => post_alone(ctx, &post).await,
    }
}

async fn post_alone(ctx: &Ctx, post: &Post) -> Result<(Message, bool)> {
    let Post { circle, parent, caller, body, .. } = post;
    let context = caller.writes("messages::post", [*circle]);
    transaction!(ctx, context, |tx| {
        let minted = tx.query_opt(MINT, &[circle]).await?;
        let id: Uuid = minted.ok_or_else(|| Error::new(ErrorCode::NotFound))?.get(0);
        let claim = post.idempotency.claim(tx, caller, Answer { status: CREATED, resource: id }).await?;
        let standing = Standing::read(tx, *circle, caller.user).await?;
        post.keys().into_iter().for_each(|key| tx.touch(key));
        if let Claim::Repeated(before) = claim {
            standing.require_reader()?;
            return Ok((select(tx, *circle, before.resource).await?, false));
        }
        standing.require_member()?;
        if let Some(parent) = parent {
            thread::require_open_in(ctx, tx, *circle, *parent).await?;
        }
        let row = tx.query_one(POST, &[&id, circle, &caller.user, body, parent]).await?;
        let message = Message::from_row(&row);
        if !thread::add(tx, &[&message]).await? {
            // The thread's month is on its way to the archive.
            return Err(missing(ctx, TABLE, parent.unwrap_or(id)).await);
        }
        let mut payload = serde_json::json!({"circle": circle, "message": id, "number": message.number});
        if let Some(parent) = parent {
            payload["parent"] = serde_json::json!(parent);
        }
        tx.event("message.posted", payload);
        Ok((message, true))
    })
}

/// The pause before the next batch tries a busy circle again: a few transactions of others.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a post is left for the next batch, as long as a transaction waits for a lock.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The posts that wait for a batch.
#[derive(Default)]
pub struct Posting {
    lanes: Mutex<Lanes<Waiting>>,
}

struct Waiting {
    post: Arc<Post>,
    since: Instant,
    /// Gets `None` for a post that the batch left out.
    answer: oneshot::Sender<Result<Option<Message>>>,
}

impl Posting {
    /// The posted message; `None` if the batch left the post out.
    async fn batched(self: &Arc<Self>, ctx: &Ctx, post: Arc<Post>) -> Result<Option<Message>> {
        let (answer, answered) = oneshot::channel();
        self.add(ctx, [Waiting { post, since: Instant::now(), answer }]);
        hooks::step("post.waiting").await;
        let lost = |_| Error::internal("messages::post", &"a batch was abandoned");
        answered.await.unwrap_or_else(|gone| Err(lost(gone)))
    }

    fn add(self: &Arc<Self>, ctx: &Ctx, posts: impl IntoIterator<Item = Waiting>) {
        {
            let mut lanes = self.lanes();
            posts.into_iter().for_each(|waiting| lanes.add(waiting.post.circle, waiting));
        }
        self.begin(ctx);
    }

    /// Begins a batch, if one may begin.
    fn begin(self: &Arc<Self>, ctx: &Ctx) {
        let Some((number, mut batch)) = self.lanes().begin(Instant::now()) else { return };
        // Their clients have gone away.
        batch.retain(|waiting| !waiting.answer.is_closed());
        let turn = Turn { ctx: ctx.clone(), posting: self.clone(), number };
        // A task of its own, so that a client that goes away cancels no other client's post.
        tokio::spawn(run(turn, batch));
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<Waiting>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch under way. When it is dropped, the batch is over, however it ended, and the next may begin.
struct Turn {
    ctx: Ctx,
    posting: Arc<Posting>,
    number: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.posting.lanes().end(self.number);
        // Without a runtime the process ends.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.posting.begin(&self.ctx);
        }
    }
}

/// Runs a batch. Posts to busy circles wait for a later one.
async fn run(turn: Turn, batch: Vec<Waiting>) {
    let (ctx, posting) = (turn.ctx.clone(), turn.posting.clone());
    let busy = {
        let mut batch = pin!(run_batch(&ctx, batch));
        match tokio::time::timeout(SLOW, &mut batch).await {
            Ok(busy) => busy,
            Err(_) => {
                // Another may run beside this one now.
                posting.begin(&ctx);
                batch.await
            }
        }
    };
    drop(turn);
    if !busy.is_empty() {
        tokio::time::sleep(PAUSE).await;
        posting.add(&ctx, busy);
    }
}

/// Posts a batch and answers each of its posts. Returns those to busy circles, except the ones that have waited for too long.
async fn run_batch(ctx: &Ctx, batch: Vec<Waiting>) -> Vec<Waiting> {
    if batch.is_empty() {
        return batch;
    }
    metrics::histogram!("optimist_posting_batch").record(batch.len() as f64);
    let posts: Vec<&Post> = batch.iter().map(|waiting| &*waiting.post).collect();
    let mut busy = Vec::new();
    match post_all(ctx, &posts).await {
        Ok(Posted { mut messages, busy: circles }) => {
            for (place, waiting) in (1..).zip(batch) {
                let answer = match messages.remove(&place) {
                    Some(message) => Ok(Some(message)),
                    None if !circles.contains(&waiting.post.circle) => Ok(None),
                    None if waiting.since.elapsed() < PATIENCE => {
                        busy.push(waiting);
                        continue;
                    }
                    None => Err(Error::unavailable("The circle")),
                };
                // The receiver may be gone.
                let _ = waiting.answer.send(answer);
            }
        }
        // After an uncertain commit the clients have to look. After any other failure nothing was posted, and a single post
        // may be the cause: each is posted alone.
        Err(error) => batch.into_iter().for_each(|waiting| {
            let is_uncertain = error.failure == Failure::Uncertain;
            let _ = waiting.answer.send(if is_uncertain { Err(error.clone()) } else { Ok(None) });
        }),
    }
    busy
}

/// The outcome of a batch.
struct Posted {
    /// The messages of the posts that were allowed and new, by the posts' places in the batch.
    messages: BTreeMap<i64, Message>,
    /// The circles that somebody else had locked: nothing was decided about their posts.
    busy: BTreeSet<Uuid>,
}

async fn post_all(ctx: &Ctx, posts: &[&Post]) -> Result<Posted> {
    // The route of comments names all keys that the batch may touch.
    let Some(first) = posts.iter().find(|post| post.parent.is_some()).or(posts.first()) else {
        return Ok(Posted { messages: BTreeMap::new(), busy: BTreeSet::new() });
    };
    let circles: BTreeSet<Uuid> = posts.iter().map(|post| post.circle).collect();
    let context = WriteContext {
        name: "messages::post_all",
        request: &first.caller.request,
        actor: None,
        order: circles.iter().copied().collect(),
        leaves_busy: true,
    };
    transaction!(ctx, context, |tx| {
        let rows = insert(tx, ctx, posts).await?;
        let messages: BTreeMap<i64, Message> =
            rows.iter().map(|row| (row.get("place"), Message::from_row(row))).collect();
        if !thread::add(tx, &messages.values().collect::<Vec<_>>()).await? {
            // One was deleted just now: alone, its comment gets the reason.
            return Err(Error::new(ErrorCode::NotFound));
        }
        let posted = (1..).zip(posts).filter(|(place, _)| messages.contains_key(place));
        let keys: BTreeMap<String, BoundKey> =
            posted.flat_map(|(_, post)| post.keys()).map(|key| (key.name(), key)).collect();
        keys.into_values().for_each(|key| tx.touch(key));
        if messages.is_empty() {
            tx.unchanged();
        }
        tx.recorded();
        let busy = circles.iter().copied().filter(|circle| !tx.holds(*circle)).collect();
        Ok(Posted { messages, busy })
    })
}

async fn insert(tx: &Tx, ctx: &Ctx, posts: &[&Post]) -> Result<Vec<Row>> {
    let circles: Vec<Uuid> = posts.iter().map(|post| post.circle).collect();
    let authors: Vec<Uuid> = posts.iter().map(|post| post.caller.user).collect();
    let sessions: Vec<Uuid> = posts.iter().map(|post| post.caller.session).collect();
    let bodies: Vec<&str> = posts.iter().map(|post| post.body.as_str()).collect();
    let keys: Vec<Option<&str>> = posts.iter().map(|post| post.idempotency.key()).collect();
    let hashes: Vec<&str> = posts.iter().map(|post| post.idempotency.request_hash()).collect();
    let request_ids: Vec<&str> = posts.iter().map(|post| post.caller.request.request_id.as_str()).collect();
    let traces: Vec<Option<&str>> =
        posts.iter().map(|post| post.caller.request.traceparent.as_deref()).collect();
    let names = |post: &&Post| post.keys().iter().map(BoundKey::name).collect::<Vec<_>>().join(" ");
    let cache_keys: Vec<String> = posts.iter().map(names).collect();
    let routes: Vec<&str> = posts.iter().map(|post| post.caller.request.route.name).collect();
    let parents: Vec<Option<Uuid>> = posts.iter().map(|post| post.parent).collect();
    tx.query(
        POST_ALL,
        &[
            &circles,
            &authors,
            &sessions,
            &bodies,
            &keys,
            &hashes,
            &request_ids,
            &traces,
            &cache_keys,
            &routes,
            &CREATED.cast_signed(),
            &ctx.config.region,
            &HASH_VERSION,
            &parents,
        ],
    )
    .await
}
