//! Journals: drafts that save themselves, entries, moods, prompts, tags and streaks.
//!
//! Titles, texts, notes, tags and emotions are sealed before either store gets them, and no log names them.

pub mod sealing;
mod tagging;
pub mod content;
mod pages;
pub mod drafts;
mod entries;
mod moods;
mod prompts;
mod streaks;

use optimist_plane::domain::{Domain, Loader};
use optimist_plane::http::served::{Served, Tag};
use optimist_shared::keys::Key;

use entries::{entry, listing, tags, writing};

pub const DOMAIN: Domain = Domain {
    routes,
    tags: TAGS,
    statements: &[
        entry::STATEMENTS,
        writing::STATEMENTS,
        listing::STATEMENTS,
        tags::STATEMENTS,
        moods::STATEMENTS,
        prompts::STATEMENTS,
        sealing::STATEMENTS,
        streaks::STATEMENTS,
        drafts::flush::STATEMENTS,
        drafts::late::STATEMENTS,
        drafts::quota::STATEMENTS,
        drafts::saving::STATEMENTS,
        drafts::store::STATEMENTS,
    ],
    loaders: &[
        (Key::RecentTags, Loader::Own(|ctx, key| Box::pin(tags::load_recent_tags(ctx, key)))),
        (Key::Streak, Loader::Own(|ctx, key| Box::pin(streaks::load_streak(ctx, key)))),
        (Key::Prompts, Loader::Copy(|ctx, _| Box::pin(prompts::load_prompts(ctx)))),
    ],
    audits: &[
        (Key::RecentTags, |ctx, suspect| Box::pin(tags::compare(ctx, suspect))),
        (Key::JournalKey, |ctx, suspect| Box::pin(sealing::compare(ctx, suspect))),
        (Key::Draft, |ctx, suspect| Box::pin(drafts::audit::compare(ctx, suspect))),
    ],
    jobs: drafts::JOBS,
    tasks: &[|ctx| Box::pin(drafts::flush::run(ctx))],
    key_rings: &[sealing::JOURNAL_KEYS],
    seed: Some(|client| Box::pin(prompts::seed(client))),
    ..Domain::new("journal")
};

const TAGS: &[Tag] = &[
    ("drafts", "Journal entries while they are written. Sealed, as all of a journal is."),
    ("journal", "Private entries, prompts, tags and streaks."),
    ("mood", "How one feels."),
];

fn routes() -> Vec<Served> {
    let routes = [drafts::routes(), entries::routes(), moods::routes(), prompts::routes(), streaks::routes()];
    routes.into_iter().flatten().collect()
}
