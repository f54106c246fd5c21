//! The messages of a circle: posting, reading, editing and deleting them.
//!
//! A comment is a message that belongs to another one. Each message has a number within its circle, counted under the circle's lock. The number is its place in lists and cursors.

pub mod message;
mod comments;
mod lanes;
pub mod mentions;
mod part;
mod posting;
pub mod reading;
mod stretch;
pub mod subject;
mod thread;
mod writing;
mod names;
mod told;

use optimist_plane::audit::copies;
use optimist_plane::domain::{Compare, Domain, Loader};
use optimist_plane::http::served::Served;
use optimist_shared::keys::Key;

/// A job drops the copies that show an author's former name, within a minute.
const COMPARE: Compare = |ctx, suspect| Box::pin(copies::compare_but_for(ctx, suspect, Some("/author")));
const COUNTED: Loader = Loader::Live(|ctx, key| Box::pin(reading::load_counted(ctx, key)));

pub const DOMAIN: Domain = Domain {
    routes,
    tags: &[
        ("messages", "What is said in a circle. Each message has a number there."),
        ("comments", "Threads of messages, each about another message."),
    ],
    statements: &[
        comments::STATEMENTS,
        message::STATEMENTS,
        posting::STATEMENTS,
        reading::STATEMENTS,
        subject::STATEMENTS,
        thread::STATEMENTS,
        writing::STATEMENTS,
        names::STATEMENTS,
    ],
    loaders: &[
        (Key::CircleMessages, Loader::Copy(|ctx, key| Box::pin(reading::load_list(ctx, key)))),
        (Key::Message, Loader::Copy(|ctx, key| Box::pin(reading::load_message(ctx, key)))),
        (Key::Comments, Loader::Copy(|ctx, key| Box::pin(comments::load_thread(ctx, key)))),
        (Key::Counts, COUNTED),
        (Key::Reactions, COUNTED),
    ],
    follows: names::FOLLOWS,
    told: told::TOLD,
    states: told::STATES,
    jobs: &[names::JOB],
    audits: &[(Key::CircleMessages, COMPARE), (Key::Message, COMPARE), (Key::Comments, COMPARE)],
    sums: &[thread::SUM],
    ..Domain::new("messages")
};

fn routes() -> Vec<Served> {
    [reading::routes(), writing::routes(), comments::routes()].into_iter().flatten().collect()
}
