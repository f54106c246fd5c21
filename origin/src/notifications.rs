//! Notifications: what someone is told of, and how many of them are unread.
//!
//! Each is written with its cause: in the order of the outbox, or together with the reactions that are applied in Postgres. A
//! member who leaves a circle loses its notifications. A person keeps the newest thousand, and is told of 60 in ten minutes and 500 a
//! day at most: one notification counts the rest. This is the record; [`crate::deliveries`] carries it further.

mod counts;
pub mod folding;
mod forgetting;
mod kept;
mod reading;
pub mod recipients;
mod state;
pub mod telling;
mod threads;
mod upkeep;

use optimist_plane::domain::{Command, Domain, Follow, Job, Sum};
use optimist_plane::own::{HOUR, MINUTE};

use crate::people::blocking::ADDED;

const ABOUT_SOMEONE: Follow = Follow::Paced(|tx, events, _| Box::pin(telling::tell_of_event(tx, events)));
const SOMEONE_LEFT: Follow =
    Follow::Paced(|tx, events, after| Box::pin(forgetting::forget_circle(tx, events, after)));

pub const DOMAIN: Domain = Domain {
    routes: reading::routes,
    tags: &[("notifications", "What one is told of.")],
    statements: &[
        counts::STATEMENTS,
        folding::STATEMENTS,
        forgetting::STATEMENTS,
        reading::STATEMENTS,
        recipients::STATEMENTS,
        state::STATEMENTS,
        telling::STATEMENTS,
        threads::STATEMENTS,
        upkeep::STATEMENTS,
    ],
    follows: &[
        ("message.posted", Follow::Paced(|tx, events, _| Box::pin(telling::tell_of_messages(tx, events)))),
        ("message.edited", Follow::Paced(|tx, events, _| Box::pin(telling::tell_of_edit(tx, events)))),
        ("member.role", ABOUT_SOMEONE),
        ("member.joined", ABOUT_SOMEONE),
        ("ownership.offered", ABOUT_SOMEONE),
        ("invite.created", ABOUT_SOMEONE),
        ("invite.revoked", Follow::Paced(|tx, events, _| Box::pin(forgetting::forget_invite(tx, events)))),
        (
            "ownership.withdrawn",
            Follow::Paced(|tx, events, _| Box::pin(forgetting::forget_offer(tx, events))),
        ),
        (ADDED, Follow::Paced(|tx, events, _| Box::pin(forgetting::forget_actor(tx, events)))),
        ("member.left", SOMEONE_LEFT),
        ("member.removed", SOMEONE_LEFT),
        (
            "message.deleted",
            Follow::Long(|tx, events, after| Box::pin(forgetting::forget_message(tx, events, after))),
        ),
    ],
    states: state::STATES,
    commands: &[Command { name: "read", route: "notifications.read" }],
    jobs: &[
        Job {
            name: "notifications.clean",
            what: "removes notifications of ninety days ago, unless they are archived",
            every: HOUR,
            run: |ctx| Box::pin(upkeep::remove_old(ctx)),
        },
        Job {
            name: "notifications.bound",
            what: "removes who reacted from notifications that are gone, and all but the newest thousand of a person",
            every: MINUTE,
            run: |ctx| Box::pin(upkeep::bring_within_bounds(ctx)),
        },
    ],
    sums: &[Sum { data_type: "notifications", sql: upkeep::COUNTS, is_grouped: false, mended: None }],
    ..Domain::new("notifications")
};
