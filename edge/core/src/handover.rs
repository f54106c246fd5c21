//! A forward as text, for hosts that decide in one place, beside Redis, and forward in another, beside the client.
//!
//! Both places run the same release. The text is never stored, and no client sees it.

use std::borrow::Cow;

use optimist_shared::limits::{LIMITS, LimitRow, LimitState};
use serde::{Deserialize, Serialize};

use crate::host::{Forward, Response};
use crate::origin::{Kept, Pending, Refund};
use crate::respond::Exchange;

/// [`Forward`], field by field, and the facts of its exchange. Rows of limits are their places in the table.
#[derive(Serialize, Deserialize)]
struct Text {
    body_limit: usize,
    body_deadline_ms: u32,
    deadline_ms: u32,
    retry: bool,
    context: String,
    is_read: bool,
    cache_status: String,
    refund: Option<RefundText>,
    is_kept: bool,
    request_id: String,
    started_ms: u64,
    redis_ms: u64,
    cors_origin: Option<String>,
    varies_by_origin: bool,
    private: bool,
    is_head: bool,
    limits: Option<LimitsText>,
}

#[derive(Serialize, Deserialize)]
struct RefundText {
    spread: String,
    rows: Vec<usize>,
    keys: Vec<String>,
    entry: String,
}

#[derive(Serialize, Deserialize)]
struct LimitsText {
    rows: Vec<usize>,
    /// Of each window of each row: how many are left, and seconds until more are.
    states: Vec<(u32, u64)>,
}

impl Forward {
    /// The forward as text, of ASCII alone; and the response that it keeps, if any, which the other place answers when it
    /// finishes with [`crate::host::Finish::Kept`].
    pub fn hand_over(self) -> (String, Option<Response>) {
        let Pending { exchange, is_read, cache_status, refund, kept, .. } = self.pending;
        let kept = match kept {
            Some(Kept::Here(response)) => Some(*response),
            Some(Kept::Apart) | None => None,
        };
        let text = Text {
            body_limit: self.body_limit,
            body_deadline_ms: self.body_deadline_ms,
            deadline_ms: self.deadline_ms,
            retry: self.retry,
            context: self.context,
            is_read,
            cache_status: cache_status.into_owned(),
            refund: refund.map(|refund| RefundText {
                spread: refund.spread,
                rows: places(&refund.rows),
                keys: refund.keys,
                entry: refund.entry,
            }),
            is_kept: kept.is_some(),
            request_id: exchange.request_id,
            started_ms: exchange.started_ms,
            redis_ms: exchange.redis_ms,
            cors_origin: exchange.cors_origin,
            varies_by_origin: exchange.varies_by_origin,
            private: exchange.private,
            is_head: exchange.is_head,
            limits: exchange.limits.map(|(rows, states)| LimitsText {
                rows: places(&rows),
                states: states.iter().map(|state| (state.remaining, state.resets_in)).collect(),
            }),
        };
        // A struct of texts and numbers always serialises.
        (serde_json::to_string(&text).unwrap_or_default(), kept)
    }

    /// The forward that another place handed over. `None` if the text is none of this release.
    pub fn take_over(text: &str) -> Option<Forward> {
        let text: Text = serde_json::from_str(text).ok()?;
        let refund = match text.refund {
            None => None,
            Some(RefundText { spread, rows, keys, entry }) => {
                Some(Refund { spread, rows: rows_at(&rows)?, keys, entry })
            }
        };
        let limits = match text.limits {
            None => None,
            Some(limits) => {
                let rows = rows_at(&limits.rows)?;
                let states = states(&rows, &limits.states);
                Some((rows, states))
            }
        };
        let exchange = Exchange {
            request_id: text.request_id,
            started_ms: text.started_ms,
            redis_ms: text.redis_ms,
            cors_origin: text.cors_origin,
            varies_by_origin: text.varies_by_origin,
            private: text.private,
            is_head: text.is_head,
            limits,
        };
        Some(Forward {
            body_limit: text.body_limit,
            body_deadline_ms: text.body_deadline_ms,
            deadline_ms: text.deadline_ms,
            retry: text.retry,
            context: text.context,
            pending: Pending {
                exchange,
                is_read: text.is_read,
                cache_status: Cow::Owned(text.cache_status),
                refund,
                kept: text.is_kept.then_some(Kept::Apart),
                forwarded_ms: 0,
            },
        })
    }
}

fn places(rows: &[&LimitRow]) -> Vec<usize> {
    rows.iter().map(|row| row.limit as usize).collect()
}

fn rows_at(places: &[usize]) -> Option<Vec<&'static LimitRow>> {
    places.iter().map(|place| LIMITS.get(*place)).collect()
}

fn states(rows: &[&'static LimitRow], numbers: &[(u32, u64)]) -> Vec<LimitState> {
    let windows = rows.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
    let state = |((row, window), (left, seconds)): ((&&LimitRow, _), &(u32, u64))| {
        row.state(window, i64::from(*left), (seconds * 1000).cast_signed())
    };
    windows.zip(numbers).map(state).collect()
}

#[cfg(test)]
mod tests {
    use optimist_shared::limits::Limit;

    use super::*;

    fn forward(kept: Option<Kept>) -> Forward {
        let rows = vec![Limit::Messages.row(), Limit::Forwarded.row()];
        let windows =
            rows.iter().flat_map(|row| row.windows.iter().map(move |window| row.state(window, 7, 90_500)));
        let states = windows.collect();
        Forward {
            body_limit: 100_096,
            body_deadline_ms: 30_000,
            deadline_ms: 10_000,
            retry: true,
            context: "v1;session=…".replace('…', "x"),
            pending: Pending {
                exchange: Exchange {
                    request_id: "01a21f32-2b63-7934-9c67-0cd54c87d87c".to_owned(),
                    started_ms: 1_790_000_000_000,
                    redis_ms: 3,
                    cors_origin: Some("https://app.example.org".to_owned()),
                    varies_by_origin: true,
                    private: true,
                    is_head: false,
                    limits: Some((rows, states)),
                },
                is_read: false,
                cache_status: Cow::Borrowed("optimist; fwd=method"),
                refund: Some(Refund {
                    spread: "user".to_owned(),
                    rows: vec![Limit::Messages.row()],
                    keys: vec!["rate_limit:messages:{user}".to_owned()],
                    entry: "entry".to_owned(),
                }),
                kept,
                forwarded_ms: 0,
            },
        }
    }

    #[test]
    fn a_forward_arrives_as_it_was_handed_over() {
        for kept in
            [None, Some(Response { status: 200, headers: vec![("age", "3".to_owned())], body: vec![7] })]
        {
            let sent = || forward(kept.clone().map(|response| Kept::Here(Box::new(response))));
            let (text, response) = sent().hand_over();
            assert!(text.is_ascii() && !text.contains(['\n', '\r']), "{text}");
            assert_eq!(response, kept);
            let taken = Forward::take_over(&text).unwrap();
            assert_eq!(matches!(taken.pending.kept, Some(Kept::Apart)), kept.is_some());
            let headers = |forward: &Forward| {
                let changes = forward.pending.exchange.pass(&forward.pending.cache_status, 5);
                changes
                    .into_iter()
                    .map(|change| (change.name, change.value, change.append))
                    .collect::<Vec<_>>()
            };
            assert_eq!(headers(&taken), headers(&sent()));
            // What is handed over twice is the same text, so no field was lost.
            let again = Forward { pending: Pending { kept: sent().pending.kept, ..taken.pending }, ..taken };
            assert_eq!(again.hand_over().0, text);
        }
    }

    #[test]
    fn what_nobody_handed_over_is_no_forward() {
        let (text, _) = forward(None).hand_over();
        for text in ["", "{}", "null", &text[1..], &text.replace("\"rows\":[0", "\"rows\":[999")] {
            assert!(Forward::take_over(text).is_none(), "{text}");
        }
    }
}
