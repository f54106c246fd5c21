//! Whom a text names: `<@` id `>`. Whether they are told is decided where the events of messages are followed.

use std::collections::HashSet;

use optimist_shared::ids::{Uuid, parse_id};
use serde_json::{Value, json};

/// People whom an edit tells: as many as a message does.
const TOLD: usize = 20;

/// The ids that a text names, each once, in its order.
fn named(body: &str) -> Vec<Uuid> {
    const ID: usize = 36;
    let mut seen = HashSet::new();
    let found = body.split("<@").skip(1).filter_map(|rest| {
        let (id, rest) = rest.split_at_checked(ID)?;
        rest.starts_with('>').then(|| parse_id(&id.to_ascii_lowercase()))?
    });
    found.filter(|id| seen.insert(*id)).collect()
}

/// Adds to the payload of an edit whom only the new text names, the first of them, and whom only the former one does.
pub fn note_edit(payload: &mut Value, before: &str, after: &str) {
    let (before, after) = (named(before), named(after));
    let only = |these: &[Uuid], others: &[Uuid]| -> Vec<Uuid> {
        these.iter().filter(|id| !others.contains(id)).copied().collect()
    };
    let mut new = only(&after, &before);
    new.truncate(TOLD);
    note(payload, "named", &new);
    note(payload, "unnamed", &only(&before, &after));
}

/// Adds to the payload of a deletion whom the text named.
pub fn note_deletion(payload: &mut Value, body: &str) {
    note(payload, "unnamed", &named(body));
}

fn note(payload: &mut Value, name: &str, people: &[Uuid]) {
    if !people.is_empty() {
        payload[name] = json!(people);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    #[test]
    fn an_edit_notes_whom_it_names_anew_and_no_longer() {
        let text = |ids: &[u128]| ids.iter().map(|n| format!("<@{}> hello ", id(*n))).collect::<String>();
        let mut payload = json!({});
        note_edit(&mut payload, &text(&[1, 2, 1]), &text(&[2, 3, 3, 4]));
        assert_eq!(payload, json!({"named": [id(3), id(4)], "unnamed": [id(1)]}));
        let mut payload = json!({});
        note_edit(&mut payload, &text(&[1]), &text(&[1]));
        assert_eq!(payload, json!({}));
        note_edit(&mut payload, "", &text(&(1..30).collect::<Vec<_>>()));
        assert_eq!(payload["named"].as_array().map(Vec::len), Some(TOLD));
        let mut payload = json!({});
        note_deletion(&mut payload, &text(&[5]));
        assert_eq!(payload, json!({"unnamed": [id(5)]}));
    }

    proptest! {
        #[test]
        fn any_text_names_only_what_it_holds(text in "(<@|>|@|[0-9a-fA-F-]{36}|ü|🎈){0,12}|\\PC*") {
            for id in named(&text) {
                let mention = format!("<@{id}>");
                prop_assert!(text.to_lowercase().contains(&mention));
            }
        }
    }
}
