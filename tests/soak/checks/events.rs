//! Every committed write's event is in the streams of its topics, once and in order, and a stream's readers get it
//! without a gap.

use std::collections::{BTreeMap, BTreeSet};

use optimist_tests::events::Place;

use crate::history::{Finals, History};

pub fn check(history: &History) -> Vec<String> {
    let finals = &history.finals;
    let mut found = placed(finals);
    found.extend(ordered(finals));
    // A lost stream begins anew and tells its readers so; what they read before cannot be compared.
    if history.loss().is_none() {
        found.extend(followed(finals));
    }
    found
}

/// Compares streams and outbox, from where each stream is whole.
fn placed(finals: &Finals) -> Vec<String> {
    let is_told = |place: &&Place| {
        let since = finals.whole_since.get(&place.0);
        since.is_none_or(|since| number(&place.1) > number(since))
    };
    let expected: BTreeSet<&Place> = finals.outbox.iter().filter(is_told).collect();
    let there: BTreeSet<&Place> = finals.streams.keys().filter(is_told).collect();
    let missing = expected.difference(&there).map(|place| format!("event {place:?} is in no stream"));
    let surplus = there.difference(&expected).map(|place| format!("event {place:?} is in no outbox"));
    missing.chain(surplus).take(10).collect()
}

/// A circle's messages appear in the order of their numbers, each once.
fn ordered(finals: &Finals) -> Vec<String> {
    let mut posted: BTreeMap<(u16, String), Vec<(Id, u64)>> = BTreeMap::new();
    for ((partition, id), fields) in &finals.streams {
        if fields.get("kind").is_none_or(|kind| kind != "message.posted") {
            continue;
        }
        let payload: serde_json::Value =
            fields.get("payload").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let circle = payload["circle"].as_str().unwrap_or_default().to_owned();
        let message = payload["number"].as_u64().unwrap_or_default();
        posted.entry((*partition, circle)).or_default().push((number(id), message));
    }
    let mut found = Vec::new();
    for ((partition, circle), mut told) in posted {
        told.sort_unstable();
        let numbers: Vec<u64> = told.into_iter().map(|(_, message)| message).collect();
        let is_whole = !finals.whole_since.contains_key(&partition);
        let follows = |pair: &[u64]| if is_whole { pair[1] == pair[0] + 1 } else { pair[1] > pair[0] };
        if !numbers.windows(2).all(follows) {
            found.push(format!("circle {circle} in p{partition:03}: messages were told of as {numbers:?}"));
        }
    }
    found
}

/// A reader was given exactly what the stream holds, up to where they read.
fn followed(finals: &Finals) -> Vec<String> {
    let mut found = Vec::new();
    for (partition, given) in &finals.followed {
        let Some(last) = given.iter().map(|id| number(id)).max() else { continue };
        let first = number(&given[0]);
        let of_this = finals.streams.keys().filter(|(of, _)| of == partition).map(|(_, id)| number(id));
        let mut held: Vec<Id> = of_this.filter(|id| (first..=last).contains(id)).collect();
        held.sort_unstable();
        let given: Vec<Id> = given.iter().map(|id| number(id)).collect();
        if given != held {
            let differ = given.iter().zip(&held).position(|(given, held)| given != held);
            found.push(format!(
                "a reader of p{partition:03} was given {} events of {}, and differs at {differ:?}",
                given.len(),
                held.len()
            ));
        }
    }
    found
}

/// An entry's id as two numbers.
type Id = (u64, u64);

fn number(id: &str) -> Id {
    let (xid, seq) = id.split_once('-').unwrap_or((id, "0"));
    (xid.parse().unwrap_or_default(), seq.parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{history, redis_killed};
    use super::*;

    fn place(id: &str) -> Place {
        (7, id.to_owned())
    }

    fn entry(id: &str, message: u64) -> (Place, BTreeMap<String, String>) {
        let payload = format!("{{\"circle\":\"c\",\"number\":{message}}}");
        let fields = [("kind", "message.posted"), ("payload", &payload)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        (place(id), BTreeMap::from(fields))
    }

    fn with(entries: &[(&str, u64)], outbox: &[&str], read: &[&str]) -> History {
        let finals = Finals {
            streams: entries.iter().map(|(id, message)| entry(id, *message)).collect(),
            outbox: outbox.iter().map(|id| place(id)).collect(),
            followed: BTreeMap::from([(7, read.iter().map(|id| (*id).to_owned()).collect())]),
            ..Finals::default()
        };
        History { finals, ..history(Vec::new()) }
    }

    #[test]
    fn a_whole_stream_is_good() {
        let good = with(&[("9-1", 1), ("10-2", 2)], &["9-1", "10-2"], &["9-1", "10-2"]);
        assert_eq!(check(&good), Vec::<String>::new());
    }

    #[test]
    fn a_missing_and_a_surplus_event_are_found() {
        assert_eq!(check(&with(&[("9-1", 1)], &["9-1", "10-2"], &[])).len(), 1);
        assert_eq!(check(&with(&[("9-1", 1), ("10-2", 2)], &["9-1"], &[])).len(), 1);
    }

    #[test]
    fn messages_out_of_order_told_twice_or_not_at_all_are_found() {
        for told in [[("9-1", 2), ("10-2", 1)], [("9-1", 1), ("10-2", 1)], [("9-1", 1), ("10-2", 3)]] {
            assert_eq!(check(&with(&told, &["9-1", "10-2"], &[])).len(), 1, "{told:?}");
        }
    }

    #[test]
    fn a_reader_s_gap_is_found() {
        let whole = [("8-1", 1), ("9-1", 2), ("10-2", 3)];
        let outbox = ["8-1", "9-1", "10-2"];
        assert_eq!(check(&with(&whole, &outbox, &["8-1", "10-2"])).len(), 1);
        assert_eq!(check(&with(&whole, &outbox, &["8-1", "10-2", "9-1"])).len(), 1, "and what came late");
        assert!(check(&with(&whole, &outbox, &["9-1", "10-2"])).is_empty(), "who came later missed nothing");
    }

    #[test]
    fn a_stream_that_was_lost_is_held_to_what_it_says_of_itself() {
        let mut lost = with(&[("10-2", 5)], &["9-1", "10-2"], &["9-1", "10-2"]);
        lost.faults = vec![redis_killed(1)];
        lost.faults[0].loses_redis = true;
        lost.finals.whole_since = BTreeMap::from([(7, "9-1".to_owned())]);
        assert!(check(&lost).is_empty());
        lost.finals.whole_since = BTreeMap::from([(7, "8-0".to_owned())]);
        assert_eq!(check(&lost).len(), 1);
    }
}
