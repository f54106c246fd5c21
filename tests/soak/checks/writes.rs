//! Every acknowledged write is there, once: messages, reactions, memberships, drafts. Nothing is there that nobody
//! wrote.

use std::collections::{BTreeMap, BTreeSet};

use optimist_tests::crowd::Place;

use super::places::{Tries, possible};
use crate::history::{History, Intent, Outcome};

pub fn check(history: &History) -> Vec<String> {
    [messages(history), reactions(history), members(history), drafts(history)].concat()
}

fn messages(history: &History) -> Vec<String> {
    let mut found = Vec::new();
    let mut times: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, text) in &history.finals.messages {
        *times.entry(text).or_default() += 1;
    }
    let mut posted: BTreeSet<&str> = BTreeSet::new();
    for call in &history.calls {
        let Intent::Post { text, .. } = &call.intent else { continue };
        posted.insert(text);
        if matches!(call.outcome, Outcome::Acknowledged { .. }) && !times.contains_key(text.as_str()) {
            found.push(format!("message {text:?} was acknowledged at {:?}, and is lost", call.ended));
        }
    }
    for (text, times) in times {
        if times > 1 {
            found.push(format!("message {text:?} is there {times} times"));
        }
        if !posted.contains(text) {
            found.push(format!("nobody posted message {text:?}"));
        }
    }
    let numbers: Vec<u64> = history.finals.messages.iter().map(|(number, _)| *number).collect();
    let first = history.finals.messages_at_first + 1;
    let expected: Vec<u64> = (first..first + numbers.len() as u64).collect();
    if numbers != expected {
        found.push(format!("messages are numbered {numbers:?}, from {first}"));
    }
    found
}

fn reactions(history: &History) -> Vec<String> {
    let mut tries: BTreeMap<&Place, Tries<'_>> = BTreeMap::new();
    for call in &history.calls {
        if let Intent::React { place, on } = &call.intent {
            tries.entry(place).or_default().push((*on, &call.outcome, call.ended));
        }
    }
    let mut found = differing(&tries, &history.finals.on, history);
    let unknown = history.finals.on.iter().filter(|place| !tries.contains_key(place));
    found.extend(unknown.map(|place| format!("nobody put {place:?} on")));
    found
}

fn members(history: &History) -> Vec<String> {
    let mut tries: BTreeMap<&String, Tries<'_>> = BTreeMap::new();
    for call in &history.calls {
        if let Intent::Belong { user, on } = &call.intent {
            tries.entry(user).or_default().push((*on, &call.outcome, call.ended));
        }
    }
    differing(&tries, &history.finals.members, history)
}

fn differing<P: Ord + std::fmt::Debug>(
    tries: &BTreeMap<&P, Tries<'_>>,
    on: &BTreeSet<P>,
    history: &History,
) -> Vec<String> {
    let mut found = Vec::new();
    for (place, tries) in tries {
        let (may_be_off, may_be_on) = possible(tries, history.loss());
        match on.contains(place) {
            true if !may_be_on => found.push(format!("{place:?} is on, and was put off: {tries:?}")),
            false if !may_be_off => found.push(format!("{place:?} is off, and was put on: {tries:?}")),
            _ => {}
        }
    }
    found
}

/// A client saves one text over the other. The newest acknowledged text is there, or one that may have been saved after
/// it.
fn drafts(history: &History) -> Vec<String> {
    let texts: BTreeSet<&str> = history.finals.draft_texts.iter().map(String::as_str).collect();
    let (mut newest, mut later): (Option<u64>, Vec<u64>) = (None, Vec::new());
    let mut found = Vec::new();
    for call in &history.calls {
        let Intent::Save { number } = call.intent else { continue };
        let is_there = texts.contains(draft_text(number).as_str());
        match call.outcome {
            Outcome::Acknowledged { in_postgres } => {
                let may_be_lost = !in_postgres && history.loss().is_some_and(|loss| call.begun <= loss);
                // In its place stands the text before it, or none.
                newest = (!may_be_lost).then_some(number);
                later.clear();
            }
            Outcome::KeptAside if !is_there && history.loss().is_none_or(|loss| call.begun > loss) => {
                found.push(format!("text {number} was kept aside at {:?}, and is lost", call.ended));
            }
            Outcome::Unknown(_) => later.push(number),
            _ => {}
        }
    }
    if let Some(newest) = newest
        && !later.iter().chain([&newest]).any(|number| texts.contains(draft_text(*number).as_str()))
    {
        found.push(format!("text {newest} was the newest saved, and is lost; there are {texts:?}"));
    }
    found
}

/// The draft's text of that number.
pub fn draft_text(number: u64) -> String {
    format!("Text {number}.")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{call, done, history, unknown};
    use super::*;
    use crate::history::{Call, Finals};

    fn post(text: &str, outcome: Outcome) -> Call {
        call(1, 2, Intent::Post { circle: "c".to_owned(), text: text.to_owned() }, outcome)
    }

    fn with_messages(calls: Vec<Call>, messages: &[(u64, &str)]) -> History {
        let messages = messages.iter().map(|(number, text)| (*number, (*text).to_owned())).collect();
        History { finals: Finals { messages, ..Finals::default() }, ..history(calls) }
    }

    #[test]
    fn a_lost_a_doubled_and_a_made_up_message_are_found() {
        let calls = || vec![post("a", done()), post("b", unknown())];
        assert!(check(&with_messages(calls(), &[(1, "a")])).is_empty());
        assert!(check(&with_messages(calls(), &[(1, "a"), (2, "b")])).is_empty());
        assert_eq!(check(&with_messages(calls(), &[(1, "b")])).len(), 1, "lost");
        assert_eq!(check(&with_messages(calls(), &[(1, "a"), (2, "a")])).len(), 1, "doubled");
        assert_eq!(check(&with_messages(calls(), &[(1, "a"), (2, "c")])).len(), 1, "made up");
        assert_eq!(check(&with_messages(calls(), &[(1, "a"), (3, "b")])).len(), 1, "misnumbered");
    }

    #[test]
    fn a_lost_and_a_made_up_reaction_are_found() {
        let place = |kind| Place { message: "m".to_owned(), kind, user: "u".to_owned() };
        let react = |on| call(1, 2, Intent::React { place: place(1), on }, done());
        let with = |calls: Vec<Call>, on: &[Place]| History {
            finals: Finals { on: on.iter().cloned().collect(), ..Finals::default() },
            ..history(calls)
        };
        assert!(check(&with(vec![react(true)], &[place(1)])).is_empty());
        assert_eq!(check(&with(vec![react(true)], &[])).len(), 1, "lost");
        assert_eq!(check(&with(vec![react(true), react(false)], &[place(1)])).len(), 1, "back again");
        assert_eq!(check(&with(vec![react(true)], &[place(1), place(2)])).len(), 1, "made up");
    }

    #[test]
    fn a_lost_membership_is_found() {
        let join = |on| call(1, 2, Intent::Belong { user: "u".to_owned(), on }, done());
        let none = history(vec![join(true)]);
        assert_eq!(check(&none).len(), 1);
        assert!(check(&history(vec![join(true), join(false)])).is_empty());
    }

    #[test]
    fn a_lost_draft_is_found() {
        let save = |number, outcome| call(1, 2, Intent::Save { number }, outcome);
        let with = |calls: Vec<Call>, texts: &[u64]| History {
            finals: Finals {
                draft_texts: texts.iter().map(|n| draft_text(*n)).collect(),
                ..Finals::default()
            },
            ..history(calls)
        };
        let calls = || vec![save(1, done()), save(2, done()), save(3, unknown())];
        assert!(check(&with(calls(), &[2])).is_empty());
        assert!(check(&with(calls(), &[3])).is_empty());
        assert_eq!(check(&with(calls(), &[1])).len(), 1, "an older one");
        assert_eq!(check(&with(calls(), &[])).len(), 1);
        let kept = || vec![save(1, done()), save(2, Outcome::KeptAside)];
        assert!(check(&with(kept(), &[1, 2])).is_empty());
        assert_eq!(check(&with(kept(), &[1])).len(), 1, "what was kept aside");
    }
}
