//! Posting a message: authorised, under its circle's lock, with an idempotency key, an outbox event, and the circle's
//! list fenced until the commit. The peer only inserts the same row.
//!
//! Both take the same kind of signed requests over the same number of connections, with Postgres committing to disk,
//! spread over some hundred circles.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use optimist_shared::ids::Uuid;
use optimist_shared::signature::Identity;

use crate::Settings;
use crate::bare;
use crate::http1::Request;
use crate::made::{self, Load, signed};
use crate::processor::Worker;
use crate::region::{Member, Region};
use crate::report::{Figure, Outcome, Target};

const CIRCLES: usize = 320;

const BODY: &str = "A morning page of about a hundred and forty characters, which is what people write to each other when they \
                    mean to be read before noon.";

/// A circle with its only member.
struct Place {
    circle: String,
    member: Member,
}

pub async fn run(settings: Arc<Settings>) -> Outcome {
    let region = Region::start().await;
    let bare = bare::start(&region).await;
    let members = region.people(CIRCLES);
    let places: Vec<Place> = members
        .into_iter()
        .map(|member| Place { circle: region.circle_of(std::slice::from_ref(&member)), member })
        .collect();
    // Starts beyond the numbers that the other side assigns.
    let numbers = AtomicI64::new(1_000_000_000);
    let post = |url: &str, place: &Place, key: &str, body: String| -> Request {
        let path = format!("/v1/circles/{}/messages", place.circle);
        let identity = Identity::Session { user: place.member.user, session: place.member.token.session };
        signed(url, "POST", &path, identity, &[("idempotency-key", key)], body.as_bytes())
    };
    let ours = |turn: &mut usize| {
        *turn += crate::closed_loop::CONNECTIONS;
        let body = format!(r#"{{"body":"{BODY}"}}"#);
        post(&region.origin.api, &places[*turn % CIRCLES], &Uuid::new_v4().to_string(), body)
    };
    let alone = |turn: &mut usize| {
        *turn += crate::closed_loop::CONNECTIONS;
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let body = format!(r#"{{"body":"{BODY}","number":{number}}}"#);
        post(&bare, &places[*turn % CIRCLES], "none", body)
    };
    let answered = |_: &mut usize, answer: &crate::http1::Answer| {
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    };
    let state = |number| number;
    let (name, alone_name) = ("posting a message", "the same insert alone");
    // The bare server is a part of this program, which also makes the requests.
    let (stores, origin) = (region.stores(), region.origin_worker());
    let workers: Vec<Worker> = [origin].into_iter().chain(stores).collect();
    let ours = Load {
        name,
        url: &region.origin.api,
        workers: &workers,
        state: &state,
        request: &ours,
        answered: &answered,
    };
    let alone = Load {
        name: alone_name,
        url: &bare,
        workers: &stores,
        state: &state,
        request: &alone,
        answered: &answered,
    };
    let (mut posted, mut inserted) = (Vec::new(), Vec::new());
    tokio::task::block_in_place(|| {
        ours.run(1);
        alone.run(1);
        for _ in 0..settings.turns {
            posted.push(ours.run(settings.seconds));
            inserted.push(alone.run(settings.seconds));
        }
    });
    let figure = Figure::compare(
        "posting a message, with fence, outbox and idempotency: requests a second",
        made::sides(name, &posted),
        made::sides(alone_name, &inserted),
        Target::AtLeast(65.0),
    )
    .in_percent();
    Outcome { figures: vec![figure], plots: Vec::new() }
}
