//! The caller's own circles, the latest activity first: a client's first screen.
//!
//! Two trips to Redis: for the circles that they are in, and for the heads and markers of these.

use std::cmp::Reverse;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use futures_util::future::try_join;
use optimist_plane::cache::many::{Wanted, load_many, look};
use optimist_plane::cache::read::read_through;
use optimist_plane::cache::value::{Loaded, Snapshot, id_of};
use optimist_plane::ctx::Ctx;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::to_json;
use optimist_plane::http::page::{At, List, answer_page, page};
use optimist_plane::http::served::{Served, on};
use optimist_plane::http::time::Time;
use optimist_plane::operation::links::{FIRST_ID, link};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_shared::ids::{Id, Uuid};
use optimist_shared::keys::{BoundKey, Key};
use optimist_shared::scripts::mark_read::ahead;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::circles::standing::MemberRole;
use crate::unread::head::{self, Head};
use crate::unread::marker;

pub fn routes() -> Vec<Served> {
    vec![
        on("me.circles", mine)
            .says("The caller's circles, the latest activity first.")
            .notes(
                "Activity is a message, or one's joining. Archived circles are listed: their members may read them. \
                 `unread` counts every message after the one that one has read up to, also what has been deleted since.",
            )
            .answers::<List<MyCircle>>(200)
            .tagged()
            .pages("cursor")
            .links([link("circles.get", &[("circle", FIRST_ID)]), link("messages.list", &[("circle", FIRST_ID)])]),
    ]
}

statements! {
    /// Nobody is in more.
    const MINE: &str = "-- unread::mine (500 rows)
select seen, m.* from (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen) snapshot
left join lateral (
    select circle_id, role, joined_at from memberships where user_id = $1 and role <> 'banned') m on true";
}

/// A circle as its member lists it.
#[derive(Serialize, JsonSchema)]
struct MyCircle {
    #[serde(flatten)]
    head: Head,
    #[schemars(with = "MemberRole")]
    role: String,
    joined_at: Time,
    /// The message that one has read up to.
    #[schemars(range(min = 0))]
    read_number: i64,
    #[schemars(range(min = 0))]
    unread: i64,
}

impl MyCircle {
    fn new(head: Head, mine: Mine, marker: Option<i64>) -> MyCircle {
        // Who was a member before there were markers has read everything.
        let read_number = marker.map_or(head.last_number, |marker| marker.min(head.last_number));
        let unread = head.last_number - read_number;
        MyCircle { head, role: mine.role, joined_at: mine.joined_at, read_number, unread }
    }

    /// Its place in the list.
    fn position(&self) -> At<'y'> {
        let time = self.head.last_message_at.map_or(self.joined_at, |at| at.max(self.joined_at));
        At { time: time.0, id: self.head.id }
    }
}

/// A person's membership, as their copy has it.
#[derive(Serialize, Deserialize)]
struct Mine {
    circle: Uuid,
    role: String,
    joined_at: Time,
}

pub async fn load(ctx: &Ctx, key: BoundKey) -> Result<Snapshot> {
    let rows = ctx.db.query(MINE, &[&id_of(&key, Id::User)?]).await?;
    let seen = rows.first().map_or(0, |row| row.get("seen"));
    let mut mine: Vec<Mine> = rows
        .iter()
        .filter_map(|row| {
            let circle = row.get::<_, Option<Uuid>>("circle_id")?;
            Some(Mine { circle, role: row.get("role"), joined_at: row.get("joined_at") })
        })
        .collect();
    mine.sort_unstable_by_key(|mine| mine.circle);
    let json = to_json(&mine)?;
    Ok(Snapshot::new(seen, Loaded::Object { version: digest(&[&json]), json }))
}

async fn mine(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let page = page::<At<'y'>>(uri.query(), "cursor")?;
    let mut circles = circles_of(&ctx, caller.user).await?;
    circles.sort_unstable_by_key(|circle| Reverse(place(circle)));
    let after = page.after.map(|at| (at.time, at.id));
    let mut following = circles.into_iter().filter(|circle| after.is_none_or(|after| place(circle) < after));
    let items = following.by_ref().take(page.limit).collect();
    answer_page(&headers, items, following.next().is_some(), MyCircle::position)
}

fn place(circle: &MyCircle) -> (chrono::DateTime<chrono::Utc>, Uuid) {
    let At { time, id } = circle.position();
    (time, id)
}

async fn circles_of(ctx: &Ctx, user: Uuid) -> Result<Vec<MyCircle>> {
    let mine: Vec<Mine> = match &*read_through(ctx, Key::my_circles(user)).await? {
        Loaded::Object { json, .. } => {
            serde_json::from_slice(json).map_err(|error| Error::internal("unread", &error))?
        }
        _ => Vec::new(),
    };
    let keys = |mine: &Mine| [Key::circle_head(mine.circle), Key::read_marker(mine.circle, user)];
    let wanted: Vec<Wanted<2>> = mine
        .iter()
        .map(|mine| Wanted { copies: keys(mine), beside: Key::read_ahead(mine.circle, user) })
        .collect();
    let mut warm = look(ctx, &wanted).await;
    let cold = |nth: usize| {
        let places = wanted.iter().zip(&warm).filter(move |(_, warm)| warm.copies[nth].is_none());
        places.map(move |(wanted, _)| wanted.copies[nth]).collect::<Vec<BoundKey>>()
    };
    let (heads, markers) = (cold(0), cold(1));
    let (heads, markers) = try_join(
        load_many(ctx, &heads, async |keys| head::load_many(ctx, keys).await),
        load_many(ctx, &markers, async |keys| marker::load_many(ctx, user, keys).await),
    )
    .await?;
    let (mut heads, mut markers) = (heads.into_iter(), markers.into_iter());
    let mut circles = Vec::with_capacity(mine.len());
    for (mine, warm) in mine.into_iter().zip(&mut warm) {
        let [head, marker] = &mut warm.copies;
        let head = head.take().or_else(|| heads.next());
        let marker = marker.take().or_else(|| markers.next());
        let Some(head) = head.map(|head| Head::parse(&head)).transpose()?.flatten() else { continue };
        let taken = warm.vouched.and_then(|vouched| ahead(&warm.beside, vouched));
        let marker = marker.as_ref().and_then(marker::number).max(taken);
        circles.push(MyCircle::new(head, mine, marker));
    }
    Ok(circles)
}
