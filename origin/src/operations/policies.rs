//! The policy tables as Markdown: `docs/policies.md` is this, so that a change of policy shows in review. And as JSON, for
//! administrators.

use std::fmt::Write as _;

use optimist_shared::keys::{Freshness, KEYS, Life};
use optimist_shared::limits::{Counts, LIMITS, Precision};
use optimist_shared::routes::{Caller, Pattern, ROUTES};
use serde_json::{Value, json};

pub fn render() -> String {
    let mut page = String::from(
        "# Policies\n\nRendered from the tables in `shared` by `optimist-origin routes`. Change them there.\n\n## Routes\n\n\
         | route | operation | caller | pattern | key | limits | body | overlays | fences |\n|-|-|-|-|-|-|-|-|-|\n",
    );
    // Writing to a String cannot fail.
    for route in ROUTES {
        let names = |names: Vec<String>| if names.is_empty() { "".to_owned() } else { names.join(", ") };
        let _ = writeln!(
            page,
            "| {} | `{} {}` | {} | {} | {} | {} | {} | {} | {} |",
            route.name,
            route.method.as_str(),
            route.path,
            caller(route.caller),
            pattern(route.pattern),
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
        let freshness = match row.freshness {
            Freshness::Fenced => "fenced",
            Freshness::Ttl => "as old as its TTL",
            Freshness::Live => "ahead of Postgres",
            Freshness::Own => "not a copy",
        };
        let _ = writeln!(page, "| {} | `{}` | {fresh} | {kept} | {freshness} |", row.data_type, row.template);
    }
    page.push_str("\n## Limits\n\n| limit | key | windows | counts | precision |\n|-|-|-|-|-|\n");
    for row in LIMITS {
        let windows: Vec<String> = row
            .windows
            .iter()
            .map(|window| format!("{} in {}", window.admitted, seconds(window.seconds)))
            .collect();
        let counts = if row.counts == Counts::Attempts { "attempts" } else { "successes" };
        let precision = if row.precision == Precision::Exact { "exact, sliding" } else { "counter" };
        let key = row.key(&format!("<{}>", format!("{:?}", row.scope).to_lowercase()));
        let _ =
            writeln!(page, "| {} | `{key}` | {} | {counts} | {precision} |", row.name, windows.join(", "));
    }
    page
}

/// The same as JSON: `routes`, `keys` and `limits`.
pub fn json() -> Value {
    let routes: Vec<Value> = ROUTES
        .iter()
        .map(|route| {
            json!({
                "name": route.name,
                "method": route.method.as_str(),
                "path": route.path,
                "caller": caller(route.caller),
                "pattern": pattern(route.pattern),
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
                "key": row.key(&format!("<{}>", format!("{:?}", row.scope).to_lowercase())),
                "counts_attempts": row.counts == Counts::Attempts,
                "is_exact": row.precision == Precision::Exact,
                "windows": windows.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"routes": routes, "keys": keys, "limits": limits})
}

pub fn caller(caller: Caller) -> &'static str {
    match caller {
        Caller::Public => "anyone",
        Caller::User => "signed in",
        Caller::CircleReader => "circle's reader",
        Caller::Member => "member",
        Caller::Moderator => "moderator",
        Caller::Owner => "owner",
        Caller::Admin => "administrator",
    }
}

pub fn pattern(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::CacheAside => "cache-aside",
        Pattern::WriteThrough => "write-through",
        Pattern::WriteBehind => "write-behind",
        Pattern::AutoSave => "auto-save",
        Pattern::RedisOnly => "Redis only",
        Pattern::Joined => "Redis and Postgres, joined at the origin",
        Pattern::Direct => "Postgres only",
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
