//! Real time: how soon a committed message comes to those who listen, beside Socket.IO with its Redis adapter; what idle
//! connections take of the origin's memory; and two thousand clients that come back at once.

mod delivery;
mod idle;
mod returning;

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::iter;
use optimist_shared::signature::Identity;

use crate::Settings;
use crate::http1::Request;
use crate::listeners::{Heard, Listener, Refused, Way, listen, ticket};
use crate::made::signed;
use crate::region::{Member, Region};
use crate::report::Outcome;

/// Members of a circle who listen.
const LISTENERS: usize = 50;
/// Connections that are opened at a time.
const OPENING: usize = 32;

const BODY: &str = "A morning page of about a hundred and forty characters, which is what people write to each other when they \
                    mean to be read before noon.";

pub async fn run(settings: Arc<Settings>) -> Outcome {
    // Futures that borrow seats stay on one thread.
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(measure(&settings)))
}

async fn measure(settings: &Settings) -> Outcome {
    let mut outcome = delivery::run(settings).await;
    outcome.figures.extend(idle::run(settings).await);
    outcome.figures.extend(returning::run(settings).await);
    outcome
}

struct Circle {
    id: String,
    members: Vec<Member>,
}

fn circles(region: &Region, circles: usize, members: usize) -> Vec<Circle> {
    (0..circles)
        .map(|_| {
            let members = region.people(members);
            Circle { id: region.circle_of(&members), members }
        })
        .collect()
}

/// Posts a message as the circle's owner, as the edge forwards it.
fn post(url: &str, circle: &Circle) -> Request {
    let path = format!("/v1/circles/{}/messages", circle.id);
    let Member { user, token } = &circle.members[0];
    let identity = Identity::Session { user: *user, session: token.session };
    let body = format!(r#"{{"body":"{BODY}"}}"#);
    let key = optimist_shared::ids::Uuid::new_v4().to_string();
    signed(url, "POST", &path, identity, &[("idempotency-key", &key)], body.as_bytes())
}

/// One who listens: a member, at an address, which many share, but fewer than an address may have.
struct Seat<'a> {
    member: &'a Member,
    address: String,
    way: Way,
}

impl Seat<'_> {
    async fn take(&self, region: &Region, last: Option<&str>, heard: &Heard) -> Result<Listener, Refused> {
        let ticket = ticket(&region.origin.api, self.member, &self.address).await;
        listen(&region.origin.gateway, self.way, &ticket, last, heard).await
    }
}

/// Connections of the circles' first `listeners` members, `each` of everybody; `way` says by which way, given their number.
fn seats(circles: &[Circle], listeners: usize, each: usize, way: impl Fn(usize) -> Way) -> Vec<Seat<'_>> {
    let members = circles.iter().flat_map(|circle| &circle.members[..listeners]);
    let members = members.flat_map(|member| std::iter::repeat_n(member, each));
    members
        .enumerate()
        .map(|(number, member)| Seat {
            member,
            address: format!("192.0.2.{}", number / 100 + 1),
            way: way(number),
        })
        .collect()
}

/// Takes all seats, slower than arrivals are bounded.
async fn take_all(region: &Region, seats: &[Seat<'_>], heard: &Heard) -> Vec<Listener> {
    let taken = iter(seats).map(|seat| async move {
        loop {
            match seat.take(region, None, heard).await {
                Ok(listener) => return listener,
                Err(Refused { status: 503, .. }) => {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await
                }
                Err(refused) => panic!("a listener was refused: {refused:?}"),
            }
        }
    });
    taken.buffered(OPENING).collect().await
}
