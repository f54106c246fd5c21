//! Shapes of drafts, entries, moods, prompts and streaks.

use serde_json::{Value, json};

use super::{
    answer, change, count, id, line, lines, list, optional, promise, reference, request, string, text, time,
    with, zone,
};
use crate::journal::content as journal;

pub fn schemas() -> Vec<(&'static str, Value)> {
    let day = || json!({"type": "string", "format": "date"});
    let mood = || json!({"type": "integer", "minimum": 1, "maximum": 5});
    let tags = || json!({"type": "array", "maxItems": journal::TAGS, "items": line(journal::TAG)});
    // In lower case, which of some letters has more characters.
    let shown_tags = || json!({"type": "array", "maxItems": journal::TAGS, "items": string()});
    let written =
        json!({"title": optional(line(journal::TITLE)), "tags": optional(tags()), "mood": optional(mood())});
    let shown = json!({
        "title": text(journal::TITLE), "body": text(journal::BODY), "tags": shown_tags(), "mood": optional(mood()),
        "prompt_id": optional(id()),
    });
    let entry_text = || lines(1..=*journal::BODY.end());
    vec![
        (
            "SaveDraft",
            request(
                &["body", "base_version"],
                with(
                    &written,
                    json!({
                        "body": lines(journal::BODY), "prompt_id": optional(id()), "base_version": optional(version()),
                    }),
                ),
            ),
        ),
        (
            "SavedDraft",
            answer(
                json!({
                    "version": string(), "saved_at": time(), "promise": promise(),
                }),
                &[],
            ),
        ),
        (
            "Draft",
            answer(
                with(
                    &shown,
                    json!({
                        "id": id(), "version": string(), "sibling_of": optional(id()), "saved_at": time(),
                    }),
                ),
                &[],
            ),
        ),
        ("Drafts", list("Draft")),
        (
            "DraftConflict",
            answer(
                json!({
                    "type": string(), "title": string(), "status": {"type": "integer"}, "code": string(), "detail": string(),
                    "request_id": string(), "sibling": reference("Draft"),
                    "current": {"oneOf": [reference("Draft"), {"type": "null"}]},
                }),
                &[],
            ),
        ),
        (
            "SaveEntry",
            request(
                &["body"],
                with(
                    &written,
                    json!({
                        "body": entry_text(), "prompt_id": optional(id()), "draft_id": optional(id()),
                        "entry_date": optional(day()),
                    }),
                ),
            ),
        ),
        (
            "EditEntry",
            change(json!({
                "title": line(journal::TITLE), "body": entry_text(), "tags": tags(), "entry_date": day(),
                // Null takes it away.
                "mood": optional(mood()),
            })),
        ),
        (
            "Entry",
            answer(
                with(
                    &shown,
                    json!({
                        "id": id(), "entry_date": day(), "created_at": time(), "updated_at": time(),
                    }),
                ),
                &[],
            ),
        ),
        ("Entries", list("Entry")),
        ("Prompt", answer(json!({"id": id(), "category": string(), "body": string()}), &[])),
        ("Prompts", list("Prompt")),
        (
            "Streak",
            answer(
                json!({
                    "current": count("Days in a row up to today or yesterday."), "longest": count("The longest there was."),
                    "last_entry_date": optional(day()), "today": day(), "time_zone": zone(),
                }),
                &[],
            ),
        ),
        (
            "Tags",
            answer(
                json!({
                    "items": {"type": "array", "items": string()}, "next": {"type": "null"},
                }),
                &[],
            ),
        ),
        (
            "LogMood",
            request(
                &["score"],
                json!({
                    "score": {"type": "integer", "minimum": 1, "maximum": 5}, "emotions": optional(tags()),
                    "note": optional(lines(journal::NOTE)), "tags": optional(tags()), "logged_at": optional(time()),
                }),
            ),
        ),
        (
            "Mood",
            answer(
                json!({
                    "id": id(), "score": {"type": "integer", "minimum": 1, "maximum": 5}, "emotions": tags(), "tags": tags(),
                    "note": text(journal::NOTE), "logged_at": time(),
                }),
                &[],
            ),
        ),
        ("Moods", list("Mood")),
    ]
}

/// A draft's version, as every save answers it.
fn version() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-f]{32}$"})
}
