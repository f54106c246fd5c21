//! The policy tables as Markdown, which `docs/policies.md` holds so that a change of policy shows in review, and as JSON for
//! administrators.
//!
//! The tables themselves are in `shared`: nothing is decided here.

use std::fmt::Write as _;

use optimist_shared::growth::{self, Growth, Left};
use optimist_shared::keys::{Freshness, KEYS, Life};
use optimist_shared::limits::{Counted, LIMITS, Precision};
use optimist_shared::live::LIVE;
use optimist_shared::quotas::{QUOTAS, QuotaRow};
use optimist_shared::routes::{AtEdge, ROUTES};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub fn render() -> String {
    let mut page = String::from(
        "# Policies\n\nRendered from the tables in `shared` by `optimist-origin routes`. Change them there.\n\n## Routes\n\n\
         | route | operation | caller | pattern | at the edge | key | limits | body | overlays | fences |\n|-|-|-|-|-|-|-|-|-|-|\n",
    );
    // Writing to a String cannot fail.
    for route in ROUTES {
        let names = |names: Vec<String>| if names.is_empty() { "".to_owned() } else { names.join(", ") };
        let _ = writeln!(
            page,
            "| {} | `{} {}` | {} | {} | {} | {} | {} | {} | {} | {} |",
            route.name,
            route.method.as_str(),
            route.path,
            route.audience.as_str(),
            route.pattern.as_str(),
            at_edge(route.at_edge),
            names(route.key.iter().map(|key| key.row().data_type.to_owned()).collect()),
            names(route.limits.iter().map(|limit| limit.row().name.to_owned()).collect()),
            route.body,
            names(route.overlays.iter().map(|overlay| format!("{overlay:?}").to_lowercase()).collect()),
            names(route.fences.iter().map(|key| key.row().data_type.to_owned()).collect()),
        );
    }
    page.push_str("\n## Keys\n\n| data type | template | fresh | kept | freshness |\n|-|-|-|-|-|\n");
    for row in KEYS {
        let (fresh, kept) = match row.life {
            Life::Seconds { fresh, grace } => (seconds(fresh), seconds(fresh + grace)),
            Life::Unflushed { then } => (String::new(), format!("until flushed, then {}", seconds(then))),
            Life::Kept { because } => (String::new(), format!("for ever: {because}")),
        };
        let freshness = row.freshness.as_str();
        let _ = writeln!(page, "| {} | `{}` | {fresh} | {kept} | {freshness} |", row.data_type, row.template);
    }
    page.push_str("\n## Limits\n\n| limit | key | windows | counts | precision |\n|-|-|-|-|-|\n");
    for row in LIMITS {
        let windows: Vec<String> = row
            .windows
            .iter()
            .map(|window| format!("{} in {}", window.admitted, seconds(window.seconds)))
            .collect();
        let counts = if row.counts == Counted::Attempts { "attempts" } else { "successes" };
        let precision = if row.precision == Precision::Exact { "exact, sliding" } else { "counter" };
        let key = row.pattern();
        let _ =
            writeln!(page, "| {} | `{key}` | {} | {counts} | {precision} |", row.name, windows.join(", "));
    }
    page.push_str(
        "\n## Quotas\n\n| quota | of what | kept by | at most | each counts at least |\n|-|-|-|-|-|\n",
    );
    for QuotaRow { name, keeper, most, unit, least_each, what, .. } in QUOTAS {
        let measured = |number: &u64| format!("{number} {unit}").trim_end().to_owned();
        let (most, least) = (measured(most), measured(least_each));
        let _ = writeln!(page, "| {name} | {what} | {keeper} | {most} | {least} |");
    }
    page.push_str("\n## The gateway\n\n| bound | at most | of |\n|-|-|-|\n");
    for row in LIVE {
        let _ = writeln!(page, "| {} | {} | {} |", row.name, row.most, row.of);
    }
    page.push_str(
        "\n## What a day can leave\n\nHow much one caller can add to each store in a day, at the rate of the write's narrowest limit. A bound that \
         holds however many requests there are stands beside it. Sizes are of rows and keys, without indexes, and \
         without the streams of events, which keep those of ten minutes, and about 20,000 of a partition.\n\n\
         | route | requests a day | by | Postgres a day | within | Redis a day | within |\n|-|-|-|-|-|-|-|\n",
    );
    for (route, Growth { postgres, redis, .. }) in growth::rows() {
        let Some((most, limit)) = growth::most_in_a_day(route) else { continue };
        let a_day = |left: &Left| bytes(most * left.each);
        let within = |left: &Left| match left.within {
            0 => String::new(),
            size => format!("{} of {}", bytes(size), left.of),
        };
        let _ = writeln!(
            page,
            "| {} | {most} | {} | {} | {} | {} | {} |",
            route.name,
            limit.name,
            a_day(postgres),
            within(postgres),
            a_day(redis),
            within(redis),
        );
    }
    page
}

/// The same as JSON.
#[derive(Serialize, JsonSchema)]
pub struct Policies {
    #[schemars(with = "Vec<Map<String, Value>>")]
    keys: Vec<Value>,
    #[schemars(with = "Vec<Map<String, Value>>")]
    limits: Vec<Value>,
    #[schemars(with = "Vec<Map<String, Value>>")]
    routes: Vec<Value>,
    #[schemars(with = "Vec<Map<String, Value>>")]
    quotas: Vec<Value>,
}

pub fn all() -> Policies {
    let routes: Vec<Value> = ROUTES
        .iter()
        .map(|route| {
            json!({
                "name": route.name,
                "method": route.method.as_str(),
                "path": route.path,
                "caller": route.audience.as_str(),
                "pattern": route.pattern.as_str(),
                "key": route.key.map(|key| key.row().data_type),
                "limits": route.limits.iter().map(|limit| limit.row().name).collect::<Vec<_>>(),
                "body_bytes": route.body,
                "fences": route.fences.iter().map(|key| key.row().data_type).collect::<Vec<_>>(),
            })
        })
        .collect();
    let keys: Vec<Value> = KEYS
        .iter()
        .map(|row| {
            json!({
                "data_type": row.data_type,
                "template": row.template,
                "fresh_seconds": row.fresh_seconds(),
                "kept_seconds": row.kept_seconds(),
                "is_fenced": row.freshness == Freshness::Fenced,
            })
        })
        .collect();
    let limits: Vec<Value> = LIMITS
        .iter()
        .map(|row| {
            let windows = row.windows.iter();
            let windows =
                windows.map(|window| json!({"limit": window.admitted, "window_seconds": window.seconds}));
            json!({
                "name": row.name,
                "key": row.pattern(),
                "counts_attempts": row.counts == Counted::Attempts,
                "is_exact": row.precision == Precision::Exact,
                "windows": windows.collect::<Vec<_>>(),
            })
        })
        .collect();
    let quotas = QUOTAS.iter().map(|QuotaRow { name, keeper, most, unit, least_each, what, .. }| {
        json!({"name": name, "of": what, "keeper": keeper, "most": most, "unit": unit, "least_each": least_each})
    });
    Policies { keys, limits, routes, quotas: quotas.collect() }
}

/// The words for the part that the edge does by itself; none where it only forwards.
fn at_edge(at_edge: AtEdge) -> &'static str {
    match at_edge {
        AtEdge::Forward => "",
        AtEdge::Cached => "answers with the key",
        AtEdge::Session => "answers with the session",
        AtEdge::Limits => "answers with the limits",
        AtEdge::React { reacted: true } => "makes the reaction",
        AtEdge::React { reacted: false } => "takes the reaction back",
        AtEdge::Visit => "notes the visit",
        AtEdge::MarkRead => "moves the marker",
        AtEdge::Type => "notes who types",
        AtEdge::SayPresence => "notes the device's state",
        AtEdge::SaveMessageDraft => "keeps the draft",
        AtEdge::ReadMessageDraft => "answers with the draft",
        AtEdge::DropMessageDraft => "forgets the draft",
        AtEdge::NoteRecent => "remembers it",
        AtEdge::ListRecent => "answers with the list",
    }
}

fn seconds(seconds: u32) -> String {
    match seconds {
        day if day % 86_400 == 0 => format!("{} d", day / 86_400),
        hour if hour % 3_600 == 0 => format!("{} h", hour / 3_600),
        minute if minute % 60 == 0 => format!("{} min", minute / 60),
        other => format!("{other} s"),
    }
}

/// A size in the largest unit of which there is one: `33 KiB`.
fn bytes(size: u64) -> String {
    match size {
        0..1024 => format!("{size} bytes"),
        1024..0x10_0000 => format!("{} KiB", size.div_ceil(1024)),
        0x10_0000..0x4000_0000 => format!("{} MiB", size.div_ceil(0x10_0000)),
        _ => format!("{:.1} GiB", size as f64 / f64::from(0x4000_0000)),
    }
}
