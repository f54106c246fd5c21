//! A case: a message that people have reported, as those see it who decide.

use std::collections::HashMap;

use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::http::sent::{Refused, Shown, Text};
use optimist_plane::http::time::Time;
use optimist_plane::{describe, statements};
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::messages::message::MessageBody;
use crate::people::person::Person;
use crate::people::veil::HiddenMessage;

/// Reports of a message that count until it is decided: more say nothing new.
pub const MOST: i64 = 100;

/// What somebody says against a message, in their own words.
pub type ReportText = Text<0, 500>;

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Reason {
    Spam,
    Harassment,
    /// Somebody may hurt themselves.
    SelfHarm,
    Violence,
    Sexual,
    Misinformation,
    Other,
}

describe!(Reason, {
    "type": "string", "enum": ["spam", "harassment", "self_harm", "violence", "sexual", "misinformation", "other"],
});

impl Reason {
    const ALL: [Reason; 7] = [
        Reason::Spam,
        Reason::Harassment,
        Reason::SelfHarm,
        Reason::Violence,
        Reason::Sexual,
        Reason::Misinformation,
        Reason::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Spam => "spam",
            Reason::Harassment => "harassment",
            Reason::SelfHarm => "self_harm",
            Reason::Violence => "violence",
            Reason::Sexual => "sexual",
            Reason::Misinformation => "misinformation",
            Reason::Other => "other",
        }
    }
}

impl TryFrom<String> for Reason {
    type Error = Refused;

    fn try_from(text: String) -> Result<Reason, Refused> {
        let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
        known.ok_or_else(|| {
            let names = Reason::ALL.map(|reason| format!("`{}`", reason.as_str())).join(", ");
            Refused::new(format!("must be one of {names}"))
        })
    }
}

/// How a case stands.
pub struct State;

describe!(State, {"type": "string", "enum": ["open", "escalated", "dismissed", "removed"]});

statements! {
    /// Cases and their messages' authors, and how many of the round's reports give each reason. `$2` is [`MOST`].
    const SHOWN: &str = "-- reports::shown (10,000 rows)
select its.*, a.name as author_name, d.name as decider_name
from unnest($1::uuid[]) asked (id) cross join lateral (
    select c.message_id, c.circle_id, c.author_id, c.number, c.body, c.state, c.round, c.decided_by, c.decided_at, r.*
    from report_cases c cross join lateral (
        select count(*) as reports, min(created_at) as first_at, max(created_at) as last_at,
            count(*) filter (where reason = 'spam') as spam,
            count(*) filter (where reason = 'harassment') as harassment,
            count(*) filter (where reason = 'self_harm') as self_harm,
            count(*) filter (where reason = 'violence') as violence,
            count(*) filter (where reason = 'sexual') as sexual,
            count(*) filter (where reason = 'misinformation') as misinformation,
            count(*) filter (where reason = 'other') as other
        from (select created_at, reason from reports where message_id = c.message_id and round = c.round limit $2) each) r
    where c.message_id = asked.id limit 1) its
join users a on a.id = its.author_id
left join users d on d.id = its.decided_by";

    /// The latest texts of some cases' rounds, five of each, but none by whom `$3` has blocked.
    const TEXTS: &str = "-- reports::texts (500 rows)
select asked.id, its.reason, its.body, its.created_at
from unnest($1::uuid[], $2::integer[]) asked (id, round) cross join lateral (
    select reason, body, created_at from reports r
    where message_id = asked.id and r.round = asked.round and body <> ''
      and not exists (select from blocks where user_id = $3 and blocked_id = reporter_id)
    order by created_at desc limit 5) its";
}

/// A message that people have reported.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReportedMessage")]
pub struct Case {
    /// The message's.
    pub id: Uuid,
    circle_id: Uuid,
    #[schemars(with = "State")]
    state: String,
    #[schemars(with = "ShownReported")]
    message: Reported,
    /// How many people have reported it since it was decided last: a hundred at most.
    #[schemars(range(min = 0, max = 100))]
    reports: i64,
    reasons: Reasons,
    /// What they say, the latest first. Of a hundred reports the latest five that say something are here.
    #[schemars(length(max = 5))]
    texts: Vec<ReportedText>,
    /// Null if whoever reported it has deleted their account.
    first_reported_at: Option<Time>,
    last_reported_at: Option<Time>,
    /// Null if its author deleted it, or nobody has decided.
    decided_by: Option<Person>,
    decided_at: Option<Time>,
}

/// The message as it was when it was reported last.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageAsReported")]
struct Reported {
    id: Uuid,
    #[schemars(range(min = 1))]
    number: i64,
    author: Person,
    /// Empty once it is decided.
    #[schemars(with = "Shown<MessageBody>", length(min = 0))]
    body: String,
}

/// The schema of a message as reported: those who have blocked its author decide by what others say of it.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is a description alone")]
enum ShownReported {
    Reported(Reported),
    Hidden(HiddenMessage),
}

/// How many give each reason.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ReportReasons")]
struct Reasons {
    #[schemars(range(min = 0, max = 100))]
    spam: i64,
    #[schemars(range(min = 0, max = 100))]
    harassment: i64,
    #[schemars(range(min = 0, max = 100))]
    self_harm: i64,
    #[schemars(range(min = 0, max = 100))]
    violence: i64,
    #[schemars(range(min = 0, max = 100))]
    sexual: i64,
    #[schemars(range(min = 0, max = 100))]
    misinformation: i64,
    #[schemars(range(min = 0, max = 100))]
    other: i64,
}

#[derive(Serialize, JsonSchema)]
struct ReportedText {
    #[schemars(with = "Reason")]
    reason: String,
    #[schemars(with = "Shown<ReportText>")]
    text: String,
    reported_at: Time,
}

impl Case {
    fn from_row(row: &Row, texts: Vec<ReportedText>) -> Case {
        let decider = row.get::<_, Option<Uuid>>("decided_by").zip(row.get("decider_name"));
        Case {
            id: row.get("message_id"),
            circle_id: row.get("circle_id"),
            state: row.get("state"),
            message: Reported {
                id: row.get("message_id"),
                number: row.get("number"),
                author: Person { id: row.get("author_id"), name: row.get("author_name") },
                body: row.get("body"),
            },
            reports: row.get("reports"),
            reasons: Reasons {
                spam: row.get("spam"),
                harassment: row.get("harassment"),
                self_harm: row.get("self_harm"),
                violence: row.get("violence"),
                sexual: row.get("sexual"),
                misinformation: row.get("misinformation"),
                other: row.get("other"),
            },
            texts,
            first_reported_at: row.get("first_at"),
            last_reported_at: row.get("last_at"),
            decided_by: decider.map(|(id, name)| Person { id, name }),
            decided_at: row.get("decided_at"),
        }
    }
}

/// The cases of some messages as `viewer` sees them, in the order of `messages`; one that is gone is left out.
pub async fn shown(ctx: &Ctx, messages: &[Uuid], viewer: Uuid) -> Result<Vec<Case>> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let rows = ctx.db.query(SHOWN, &[&messages, &MOST]).await?;
    let rounds: Vec<(Uuid, i32)> = rows.iter().map(|row| (row.get("message_id"), row.get("round"))).collect();
    let (ids, rounds): (Vec<Uuid>, Vec<i32>) = rounds.into_iter().unzip();
    let mut texts: HashMap<Uuid, Vec<ReportedText>> = HashMap::new();
    for row in ctx.db.query(TEXTS, &[&ids, &rounds, &viewer]).await? {
        let text = ReportedText { reason: row.get(1), text: row.get(2), reported_at: row.get(3) };
        texts.entry(row.get(0)).or_default().push(text);
    }
    let mut cases: HashMap<Uuid, Case> = HashMap::new();
    for row in &rows {
        let id = row.get("message_id");
        cases.insert(id, Case::from_row(row, texts.remove(&id).unwrap_or_default()));
    }
    Ok(messages.iter().filter_map(|id| cases.remove(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_as_they_are_written() {
        for reason in Reason::ALL {
            assert_eq!(Reason::try_from(reason.as_str().to_owned()).ok(), Some(reason));
        }
        assert!(Reason::try_from("boring".to_owned()).is_err());
    }
}
