//! Journals: drafts that save themselves, entries, moods, prompts, tags and streaks.
//!
//! Titles, texts, notes, tags and emotions are sealed before they go to either store, and never logged.

pub mod content;
pub mod drafts;
mod entries;
mod moods;
mod prompts;
pub mod sealing;
mod streaks;

use optimist_plane::domain::{Domain, Loader};
use optimist_plane::http::served::Served;
use optimist_shared::keys::Key;

pub const DOMAIN: Domain = Domain {
    routes,
    statements: &[
        entries::STATEMENTS,
        moods::STATEMENTS,
        prompts::STATEMENTS,
        sealing::STATEMENTS,
        streaks::STATEMENTS,
    ],
    loaders: &[
        (
            Key::RecentTags,
            Loader::Copy(|app, parameters| Box::pin(entries::load_recent_tags(app, parameters))),
        ),
        (Key::Streak, Loader::Copy(|app, parameters| Box::pin(streaks::load_streak(app, parameters)))),
        (Key::Prompts, Loader::Copy(|app, _| Box::pin(prompts::load_prompts(app)))),
    ],
    audits: &[
        (Key::RecentTags, |app, suspect| Box::pin(entries::compare_tags(app, suspect))),
        (Key::JournalKey, |app, suspect| Box::pin(sealing::compare(app, suspect))),
    ],
    key_rings: &[sealing::JOURNAL_KEYS],
    seed: Some(|client| Box::pin(prompts::seed(client))),
    ..Domain::new("journal")
};

fn routes() -> Vec<Served> {
    let routes = [entries::routes(), moods::routes(), prompts::routes(), streaks::routes()];
    routes.into_iter().flatten().collect()
}
