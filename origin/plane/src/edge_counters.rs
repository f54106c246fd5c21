//! The edges' counters, for the metrics page.

use std::fmt::Write as _;

use ::redis::{Cmd, Value};
use optimist_shared::ids::Partition;
use optimist_shared::keys::Key;
use optimist_shared::scripts::Scalars as _;

use crate::ctx::Ctx;
use crate::redis::Items;

/// Hits, misses, refusals, and requests that the origin refused to take from an edge, in Prometheus's text format. Edges count one hit or miss in 64, as 64.
pub async fn edge_counters(ctx: &Ctx) -> String {
    let mut read = Cmd::new();
    read.arg("HGETALL").arg(Key::Metrics.of_partition(Partition::COMMON));
    let Ok(values) = ctx.redis.send([read]).await else { return String::new() };
    let mut counts = std::collections::BTreeMap::<(String, String), i64>::new();
    for value in values {
        let Value::Array(pairs) = value else { continue };
        let count = pairs.len() / 2;
        let mut items = Items::new(Value::Array(pairs));
        for _ in 0..count {
            let (field, number) = (items.text(), items.int());
            if let Some((what, name)) = field.split_once(':') {
                counts.insert((what.to_owned(), name.to_owned()), number);
            }
        }
    }
    let mut page = String::new();
    let families = [
        ("hit", "optimist_edge_hits_total", "type"),
        ("miss", "optimist_edge_misses_total", "type"),
        ("limit", "optimist_edge_limited_total", "policy"),
        // An operator must act: the origin does not know the key that an edge signs with, or the region is another.
        ("refused", "optimist_edge_refused_by_origin_total", "region"),
    ];
    for (what, metric, label) in families {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "# TYPE {metric} counter");
        for ((_, name), count) in counts.iter().filter(|((kind, _), _)| kind == what) {
            let _ = writeln!(page, "{metric}{{{label}=\"{name}\"}} {count}");
        }
    }
    page
}
