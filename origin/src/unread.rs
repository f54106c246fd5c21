//! What one has not read yet: up to where a member has read each circle, and one's circles with what is new there, a client's first
//! screen.
//!
//! A message changes the screens of everyone in its circle, and fences none of theirs: a person's own copy says which circles they are in,
//! and a copy of each circle, its head, what is new there. Members of a circle share its head.

mod head;
mod marker;
mod marking;
mod mine;

use optimist_plane::audit::copies;
use optimist_plane::domain::{Domain, Entries, Loader};
use optimist_plane::http::served::Served;
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[("unread", "What one has not read yet.")],
    statements: &[head::STATEMENTS, marker::STATEMENTS, mine::STATEMENTS],
    loaders: &[
        (Key::MyCircles, Loader::Copy(|ctx, key| Box::pin(mine::load(ctx, key)))),
        (Key::CircleHead, Loader::Copy(|ctx, key| Box::pin(head::load(ctx, key)))),
        (Key::ReadMarker, Loader::Copy(|ctx, key| Box::pin(marker::load(ctx, key)))),
    ],
    entries: &[Entries {
        field: "read",
        is_understood: |value| marker::parse(value).is_some(),
        apply: |tx, placed| Box::pin(marker::apply(tx, placed)),
    }],
    audits: &[
        // A job drops the copies that show an author's former name, within a minute.
        (Key::CircleHead, |ctx, suspect| {
            Box::pin(copies::compare_but_for(ctx, suspect, Some("/last_message/author")))
        }),
        (Key::ReadMarker, |ctx, suspect| Box::pin(marker::compare(ctx, suspect))),
    ],
    ..Domain::new("unread")
};

fn routes() -> Vec<Served> {
    [mine::routes(), marking::routes()].into_iter().flatten().collect()
}
