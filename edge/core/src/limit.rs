//! Limits at the edge: the rows that a route charges, a trip that charges without a session, and refusals. With a session,
//! [`crate::admit`] charges them in the same trip as the rest.

use optimist_shared::error::{ErrorCode, Problem};
use optimist_shared::limits::{LimitRow, Scope};
use optimist_shared::routes::{Audience, Route};
use optimist_shared::scripts::limit::{Charge, Refused, Verdict};

use crate::host::{Host, Request, Response};
use crate::passage::Passage;
use crate::trip::Trip;

/// The limits of a route that have this scope.
pub fn rows_of(route: &Route, scope: Scope) -> Vec<&'static LimitRow> {
    route.limits.iter().map(|limit| limit.row()).filter(|row| row.scope == scope).collect()
}

impl<H: Host, R: Request> Passage<'_, H, R> {
    /// Charges limits in a trip of their own. `None` without Redis, or without a usable answer.
    pub async fn charge_apart(&mut self, charge: &Charge) -> Option<Result<(), Refused>> {
        let mut trip = Trip::default();
        let charged = trip.call(charge.call(), |reply| charge.read(reply));
        let client = self.client();
        let (outcome, states) = self.send(&client, &trip).await?.take(charged)?;
        // Clients do not plan with the quota of bad tokens: their state is not shown.
        if self.route.audience == Audience::Public {
            self.exchange.limits = Some((charge.rows.clone(), states));
        }
        Some(match outcome {
            Verdict::Refused(refused) => Err(refused),
            Verdict::Charged | Verdict::Found => Ok(()),
        })
    }

    /// 429, counted for the metrics.
    pub fn limited(&self, refused: &Refused) -> Response {
        let Refused { policy, limit, window_seconds, retry_after } = refused;
        let mut problem = Problem::new(ErrorCode::RateLimited, &self.exchange.request_id).detail(format!(
            "At most {limit} in any {window_seconds} seconds; try again in {retry_after} seconds."
        ));
        problem.limit = Some(policy.clone());
        let mut response = self.exchange.problem(&problem);
        response.headers.push(("retry-after", retry_after.to_string()));
        self.edge.counts.add(format!("limit:{policy}"), 1);
        response
    }
}
