//! Presence, typing, and messages that are being composed: Redis alone holds them, and without Redis the answer is 503.
//!
//! The edge answers most of these requests; the handlers here are for callers whom it does not know. What a device says is noted
//! in its person's partition alone. [`showing`] then brings it to the person's circles, in batches, and only if others see
//! a difference.

mod saying;
mod composing;
mod live;
mod showing;
mod states;

use optimist_plane::domain::{Command, Domain};
use optimist_plane::http::served::Served;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[
        ("presence", "Who is there, and who types. Redis alone holds it."),
        (
            "message-drafts",
            "Messages that are being composed, of each circle one. Redis alone holds them, for an hour, in clear.",
        ),
    ],
    statements: &[saying::STATEMENTS, live::STATEMENTS, showing::STATEMENTS],
    states: states::STATES,
    commands: &[
        Command { name: "typing", route: "presence.type" },
        Command { name: "presence", route: "presence.say" },
    ],
    tasks: &[|ctx| Box::pin(showing::run(ctx))],
    ..Domain::new("presence")
};

fn routes() -> Vec<Served> {
    [saying::routes(), live::routes(), composing::routes()].into_iter().flatten().collect()
}
