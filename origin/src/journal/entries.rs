//! Journal entries over HTTP: which handler serves which route, and how the API describes it.

pub mod entry;
pub mod writing;
pub mod listing;
pub mod tags;

use optimist_plane::http::page::List;
use optimist_plane::http::sent::{Changes, Day};
use optimist_plane::http::served::{Served, on};
use optimist_plane::operation::links::{FIRST_ID, ID, link};
use serde_json::json;

use crate::journal::content::Score;
use crate::journal::pages::PAGE_NOTE;
use entry::Entry;
use listing::Search;
use writing::{Edit, Save};

/// Tags are words of a private text, and addresses are logged on their way.
const SEARCH_NOTE: &str = "A tag is sent in the body, because logs have URLs. It is found in either spelling of its accents (NFC, \
                           NFD). A page ends after `limit` items or 256 KiB, whichever comes first: send `next` as `cursor` until \
                           it is null.";

pub fn routes() -> Vec<Served> {
    const NEW_ENTRY: &[(&str, &str)] = &[("entry", ID)];
    vec![
        on("journal.save", writing::save)
            .says("Save a journal entry, and clear its draft.")
            .takes::<Save>(json!({
                "body": "Slept well.", "mood": 4, "tags": ["morning"],
                "draft_id": "0190a0a0-0000-7000-8000-000000000001",
            }))
            .answers::<Entry>(201)
            .tagged()
            .location()
            .idempotent()
            .links([
                link("journal.get", NEW_ENTRY),
                link("journal.edit", NEW_ENTRY),
                link("journal.delete", NEW_ENTRY),
            ]),
        on("journal.list", listing::list)
            .says("The caller's entries, by their days, newest first.")
            .notes(PAGE_NOTE)
            .answers::<List<Entry>>(200)
            .tagged()
            .pages("cursor")
            .filter::<Score>("mood", "With this mood.")
            .filter::<Day>("from", "Of this day or later.")
            .filter::<Day>("to", "Of this day or earlier.")
            .links([link("journal.get", &[("entry", FIRST_ID)])]),
        on("journal.search", listing::search)
            .says("The caller's entries that fit a search, by their days, newest first.")
            .notes(SEARCH_NOTE)
            .takes::<Search>(json!({"tag": "morning", "limit": 20}))
            .answers::<List<Entry>>(200)
            .tagged()
            .links([link("journal.get", &[("entry", FIRST_ID)])]),
        on("journal.get", entry::get).says("An entry.").answers::<Entry>(200).tagged(),
        on("journal.edit", writing::edit)
            .says("Change an entry.")
            .notes(
                "The newest twenty of its former titles and texts are kept, each once. A change of tags, mood or day keeps \
                 none.",
            )
            .takes::<Changes<Edit>>(json!({"mood": null}))
            .answers::<Entry>(200)
            .tagged(),
        on("journal.delete", writing::delete)
            .says("Delete an entry, with what it said before.")
            .conditional(),
        on("journal.tags", tags::recent_tags)
            .says("Tags of the caller's newest entries: of fifty, or of as many as have 256 KiB together.")
            .answers::<tags::RecentTags>(200)
            .tagged(),
    ]
}
