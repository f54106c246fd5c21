//! Notifications: what someone is told of, and how many of them are unread.
//!
//! Each is written with its cause: in the order of the outbox, or together with the reactions that are applied in Postgres. A
//! member who leaves a circle loses its notifications. Nothing is delivered from here: this is the record.

pub mod folding;
mod reading;
mod telling;
mod upkeep;

use optimist_plane::domain::{Domain, Follow, Job, Sum};
use optimist_plane::jobs::clean;
use optimist_plane::own::HOUR;

const ABOUT_SOMEONE: Follow = Follow::Paced(|tx, events, _| Box::pin(telling::tell_of_event(tx, events)));

pub const DOMAIN: Domain = Domain {
    routes: reading::routes,
    tags: &[("notifications", "What one is told of.")],
    statements: &[folding::STATEMENTS, reading::STATEMENTS, telling::STATEMENTS, upkeep::STATEMENTS],
    follows: &[
        (
            "message.posted",
            Follow::Paced(|tx, events, after| Box::pin(telling::tell_of_messages(tx, events, after))),
        ),
        ("member.role", ABOUT_SOMEONE),
        ("invite.created", ABOUT_SOMEONE),
        ("member.left", ABOUT_SOMEONE),
        ("member.removed", ABOUT_SOMEONE),
    ],
    jobs: &[Job {
        name: "notifications.clean",
        what: "removes notifications of ninety days ago",
        every: HOUR,
        run: |ctx| Box::pin(clean(ctx, upkeep::CLEAN)),
    }],
    sums: &[Sum { data_type: "unread", sql: upkeep::UNREAD, is_grouped: false, mended: None }],
    ..Domain::new("notifications")
};
