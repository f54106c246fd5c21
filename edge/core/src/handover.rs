//! A forward as text, for hosts that decide in one place, beside Redis, and forward in another, beside the client.
//!
//! Both places run the same release. The text is never stored, and no client sees it.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use optimist_shared::limits::{LIMITS, LimitRow, LimitState};

use crate::host::{Forward, Response};
use crate::origin::{Kept, Pending, Refund};
use crate::respond::Exchange;

/// Between the items of a list: no key and no number has one.
const SPACE: &str = " ";

impl Forward {
    /// The forward as text, of ASCII alone: a JSON array of strings, which [`Forward::take_over`] reads in the same order. And
    /// the response that it keeps, if any: the other place answers it when it finishes with [`crate::host::Finish::Kept`].
    pub fn hand_over(self) -> (String, Option<Response>) {
        let Pending { exchange, is_read, cache_status, refund, kept, .. } = self.pending;
        let kept = match kept {
            Some(Kept::Here(response)) => Some(*response),
            Some(Kept::Apart) | None => None,
        };
        let (limits, states) = exchange.limits.unwrap_or_default();
        let state = |state: &LimitState| format!("{}:{}", state.remaining, state.resets_in);
        let refund = refund.unwrap_or(Refund {
            spread: String::new(),
            rows: vec![],
            keys: vec![],
            entry: String::new(),
        });
        let texts = [
            self.context,
            cache_status.into_owned(),
            exchange.request_id,
            // No page's origin is empty.
            exchange.cors_origin.unwrap_or_default(),
            places(&limits),
            list(states.iter().map(state)),
            refund.spread,
            places(&refund.rows),
            refund.keys.join(SPACE),
            refund.entry,
            self.body_limit.to_string(),
            self.body_deadline_ms.to_string(),
            self.deadline_ms.to_string(),
            exchange.started_ms.to_string(),
            exchange.redis_ms.to_string(),
            list([
                self.retry,
                is_read,
                kept.is_some(),
                exchange.varies_by_origin,
                exchange.private,
                exchange.is_head,
            ]),
        ];
        // Strings always serialise.
        (serde_json::to_string(&texts.as_slice()).unwrap_or_default(), kept)
    }

    /// The forward that another place handed over. `None` if the text is none of this release.
    pub fn take_over(text: &str) -> Option<Forward> {
        let mut texts = serde_json::from_str::<Vec<String>>(text).ok()?.into_iter();
        let mut text = || texts.next();
        let (context, cache_status, request_id) = (text()?, text()?, text()?);
        let cors_origin = text().filter(|origin| !origin.is_empty());
        let (limits, numbers) = (rows_at(&text()?)?, text()?);
        let (spread, rows, keys, entry) = (text()?, rows_at(&text()?)?, text()?, text()?);
        let keys: Vec<String> = keys.split_whitespace().map(str::to_owned).collect();
        let (body_limit, body_deadline_ms) = (number(text()?)?, number(text()?)?);
        let (deadline_ms, started_ms, redis_ms) = (number(text()?)?, number(text()?)?, number(text()?)?);
        let flags: Vec<bool> = text()?.split(SPACE).map(|flag| flag.parse().ok()).collect::<Option<_>>()?;
        let [retry, is_read, is_kept, varies_by_origin, private, is_head] = flags[..] else { return None };
        let states = states(&limits, &numbers)?;
        let exchange = Exchange {
            request_id,
            started_ms,
            redis_ms,
            cors_origin,
            varies_by_origin,
            private,
            is_head,
            limits: (!limits.is_empty()).then_some((limits, states)),
        };
        let pending = Pending {
            exchange,
            is_read,
            cache_status: Cow::Owned(cache_status),
            refund: (!keys.is_empty()).then_some(Refund { spread, rows, keys, entry }),
            kept: is_kept.then_some(Kept::Apart),
            forwarded_ms: 0,
        };
        Some(Forward { body_limit, body_deadline_ms, deadline_ms, retry, context, pending })
    }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(SPACE)
}

/// The places of limits in the table.
fn places(rows: &[&LimitRow]) -> String {
    list(rows.iter().map(|row| row.limit as usize))
}

fn rows_at(places: &str) -> Option<Vec<&'static LimitRow>> {
    places.split_whitespace().map(|place| LIMITS.get(place.parse::<usize>().ok()?)).collect()
}

fn number<T: FromStr>(text: String) -> Option<T> {
    text.parse().ok()
}

/// Of each window of each row: how many are left, and seconds until more are.
fn states(rows: &[&'static LimitRow], numbers: &str) -> Option<Vec<LimitState>> {
    let mut numbers = numbers.split_whitespace();
    let windows = rows.iter().flat_map(|row| row.windows.iter().map(move |window| (row, window)));
    let mut state = |(row, window): (&&LimitRow, _)| {
        let (left, seconds) = numbers.next()?.split_once(':')?;
        let seconds: i64 = seconds.parse().ok()?;
        Some(row.state(window, left.parse().ok()?, seconds.saturating_mul(1000)))
    };
    windows.map(&mut state).collect()
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
            context: "v1;session=x".to_owned(),
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
        let cut = text.replace("\"optimist; fwd=method\",", "");
        for text in ["", "{}", "null", "[]", &text[1..], &text.replace("false", "no"), &cut] {
            assert!(Forward::take_over(text).is_none(), "{text}");
        }
    }
}
