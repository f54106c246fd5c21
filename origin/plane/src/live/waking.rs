//! Wakes subscribers of states that committed transactions have changed.

use std::collections::{BTreeMap, BTreeSet};

use ::redis::Cmd;
use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::Key;
use optimist_shared::wake::{TOPICS, Wake};

use crate::ctx::Ctx;
use crate::postgres::left::Changed;

/// Runs until the process ends.
pub async fn run(ctx: Ctx) {
    loop {
        let changed = ctx.db.left.take_changed().await;
        let wakes = wakes(changed).into_iter().map(|(channel, text)| {
            let mut wake = Cmd::new();
            wake.arg("SPUBLISH").arg(channel).arg(text);
            wake
        });
        // Without Redis nobody listens: states are read anew once it is back.
        let _ = ctx.redis.send(wakes).await;
    }
}

/// The messages that name all these, with their channels: few of them, since a message to two hundred people changes a state of each.
/// A gateway listens to all channels alike.
fn wakes(changed: BTreeSet<Changed>) -> Vec<(String, String)> {
    let mut by_name: BTreeMap<&'static str, Vec<Uuid>> = BTreeMap::new();
    for (name, topic) in changed {
        by_name.entry(name).or_default().push(topic);
    }
    let each = by_name.iter().flat_map(|(name, topics)| topics.chunks(TOPICS).map(move |some| (name, some)));
    let message = |(name, topics): (&&'static str, &[Uuid])| {
        let channel = Key::Wake.of_partition(Partition::of(topics[0]));
        (channel, Wake::State { name, topics: topics.to_vec() }.render())
    };
    each.map(message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_topics_share_a_message() {
        let of = |name, count: usize| (0..count).map(move |topic| (name, Uuid::from_u128(topic as u128)));
        let changed: BTreeSet<Changed> = of("unread", 2 * TOPICS + 1).chain(of("drafts", 3)).collect();
        let wakes = wakes(changed.clone());
        assert_eq!(wakes.len(), 4);
        let mut named = BTreeSet::new();
        for (_, text) in &wakes {
            let Some(Wake::State { name, topics }) = Wake::parse(text) else { panic!("{text}") };
            named.extend(topics.into_iter().map(|topic| (name.to_owned(), topic)));
        }
        assert_eq!(named, changed.into_iter().map(|(name, topic)| (name.to_owned(), topic)).collect());
    }
}
