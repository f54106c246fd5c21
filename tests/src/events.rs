//! Events in the streams, and the events that the outbox requires.

use std::collections::{BTreeMap, BTreeSet};

use optimist_shared::ids::{Partition, Uuid};
use optimist_shared::keys::Key;
use redis::streams::StreamRangeReply;

use crate::System;

/// A stream's entry, by partition and id.
pub type Place = (u16, String);

/// The entries of all streams, with their fields.
pub async fn streams(system: &System) -> BTreeMap<Place, BTreeMap<String, String>> {
    let mut redis = system.redis.connect().await;
    let mut entries = BTreeMap::new();
    for partition in Partition::all() {
        let key = Key::Events.of_partition(partition);
        let reply: StreamRangeReply = redis::cmd("XRANGE")
            .arg(key)
            .arg("-")
            .arg("+")
            .query_async(&mut redis)
            .await
            .expect("redis answers");
        for entry in reply.ids {
            let fields = entry
                .map
                .iter()
                .map(|(name, value)| (name.clone(), redis::from_redis_value_ref(value).expect("a text")));
            entries.insert((partition.index() as u16, entry.id.clone()), fields.collect());
        }
    }
    entries
}

/// The places at which the outbox requires an entry.
pub fn expected(system: &System) -> BTreeSet<Place> {
    let rows = system.sql("select xid::text || '-' || seq, array_to_string(topics, ' ') from outbox");
    let mut places = BTreeSet::new();
    for row in rows.lines() {
        let (id, topics) = row.split_once('|').expect("an id and topics");
        for topic in topics.split_whitespace() {
            let partition = Partition::of(topic.parse::<Uuid>().expect("an id"));
            places.insert((partition.index() as u16, id.to_owned()));
        }
    }
    places
}
