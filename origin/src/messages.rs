//! Messages of a circle: posting, reading, editing, deleting.
//!
//! Each has a number within its circle, counted under the circle's lock, which is its place in lists and cursors.

pub mod message;
mod posting;
mod reading;
mod writing;

use optimist_plane::audit::copies;
use optimist_plane::domain::{Compare, Domain, Loader};
use optimist_plane::http::served::Served;
use optimist_shared::keys::Key;

/// Authors' names may be as old as the copy.
const COMPARE: Compare = |app, suspect| Box::pin(copies::compare_but_for(app, suspect, Some("author")));
const COUNTED: Loader = Loader::Live(|app, parameters| Box::pin(reading::load_counted(app, parameters)));

pub const DOMAIN: Domain = Domain {
    routes,
    statements: &[message::STATEMENTS, posting::STATEMENTS, reading::STATEMENTS, writing::STATEMENTS],
    loaders: &[
        (Key::CircleMessages, Loader::Copy(|app, parameters| Box::pin(reading::load_list(app, parameters)))),
        (Key::Message, Loader::Copy(|app, parameters| Box::pin(reading::load_message(app, parameters)))),
        (Key::Counts, COUNTED),
        (Key::Reactions, COUNTED),
    ],
    audits: &[(Key::CircleMessages, COMPARE), (Key::Message, COMPARE)],
    ..Domain::new("messages")
};

fn routes() -> Vec<Served> {
    [reading::routes(), writing::routes()].into_iter().flatten().collect()
}
