//! Deliveries: notifications that leave the application, by Web Push, webhooks and e-mail, as each person prefers.
//!
//! The rows are written with the notification ([`planning`]), and the plane's senders call the channels here. Each channel checks
//! rights and preferences again before it sends ([`checking`]).

pub mod planning;
mod kinds;
mod preferences;
mod tokens;
mod checking;
mod telling;
mod words;
mod web_push;
mod webhooks;
mod letters;
mod status;

use optimist_plane::domain::{Channel, Domain, Loader};
use optimist_plane::http::served::Served;
use optimist_shared::keys::Key;

/// Deliveries by HTTP that an origin has under way, or that wait for their turn at a host: most pushes go to a few hosts, of which each
/// takes some at once.
const AT_ONCE: usize = 256;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[
        ("preferences", "What one is told of, where and when."),
        ("push-tokens", "Browsers and webhooks that one is told through."),
    ],
    statements: &[
        planning::STATEMENTS,
        preferences::STATEMENTS,
        tokens::STATEMENTS,
        checking::STATEMENTS,
        status::STATEMENTS,
    ],
    loaders: &[
        (Key::Preferences, Loader::Own(|ctx, key| Box::pin(preferences::load(ctx, key)))),
        (Key::PushTokens, Loader::Own(|ctx, key| Box::pin(tokens::load(ctx, key)))),
    ],
    channels: &[
        Channel {
            name: "push",
            at_once: AT_ONCE,
            send: |ctx, delivery| Box::pin(web_push::send(ctx, delivery)),
        },
        Channel {
            name: "webhook",
            at_once: AT_ONCE,
            send: |ctx, delivery| Box::pin(webhooks::send(ctx, delivery)),
        },
        Channel { name: "email", at_once: 8, send: |ctx, delivery| Box::pin(letters::send(ctx, delivery)) },
    ],
    ..Domain::new("deliveries")
};

fn routes() -> Vec<Served> {
    [preferences::routes(), tokens::routes(), status::routes()].into_iter().flatten().collect()
}
