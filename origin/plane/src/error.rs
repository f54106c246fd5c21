//! The origin's one error type, and the answers to failures of Postgres.

use axum::response::{IntoResponse, Response};
use http_body_util::Full;
use optimist_shared::error::{ErrorCode, FieldError, PROBLEM_JSON, Problem};
use optimist_shared::quotas::{Quota, QuotaRow};
use tokio_postgres::error::SqlState;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An answer that is not a success. Cloned for callers that share one query.
#[derive(Clone, Debug)]
pub struct Error {
    pub code: ErrorCode,
    pub detail: Option<String>,
    fields: Vec<FieldError>,
    limit: Option<Box<str>>,
    retry_after: Option<u64>,
    /// The constraint that the values violate, by its name in the schema.
    constraint: Option<Box<str>>,
    pub failure: Failure,
}

/// The meaning of a failure to the code that asked, besides its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No meaning beyond the answer. Defects of ours are among these.
    Answer,
    /// The values themselves are refused: another attempt would fail the same way.
    Refused,
    /// The same transaction may succeed in another attempt, after so many milliseconds.
    Again { after_ms: u64 },
    /// A statement took too long, or waited too long for a lock: less work at once may succeed.
    Slow,
    /// The request may have been carried out nonetheless.
    Uncertain,
}

tokio::task_local! {
    /// The id of the request that this task answers.
    pub static REQUEST_ID: String;
}

impl Error {
    pub fn new(code: ErrorCode) -> Error {
        Error {
            code,
            detail: None,
            fields: Vec::new(),
            limit: None,
            retry_after: None,
            constraint: None,
            failure: Failure::Answer,
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = Some(detail.into());
        self
    }

    pub fn field(mut self, field: impl Into<String>, reason: impl Into<String>) -> Error {
        self.fields.push(FieldError { field: field.into(), reason: reason.into() });
        self
    }

    /// A value is not acceptable.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::new(ErrorCode::Invalid).field(field, reason)
    }

    /// A store is unavailable: 503, worth another attempt in a second.
    pub fn unavailable(store: &'static str) -> Error {
        let mut error =
            Error::new(ErrorCode::Unavailable).detail(format!("{store} cannot be reached at the moment."));
        error.retry_after = Some(1);
        error
    }

    /// Names the seconds after which another attempt is worth it.
    pub fn retry_after(mut self, seconds: u64) -> Error {
        self.retry_after = Some(seconds);
        self
    }

    /// Marks a failure of something that was sent, and may have been done.
    pub fn uncertain(mut self) -> Error {
        self.failure = Failure::Uncertain;
        self
    }

    /// Marks a failure before anything was done: the same transaction is worth another attempt.
    pub fn again(mut self, after_ms: u64) -> Error {
        self.failure = Failure::Again { after_ms };
        self
    }

    /// Refused values. The reason is only logged, not shown to clients.
    pub fn refused(what: &str, why: &dyn std::fmt::Display) -> Error {
        let mut error = Error::internal(what, why);
        error.failure = Failure::Refused;
        error
    }

    pub fn is_refused(&self) -> bool {
        self.failure == Failure::Refused
    }

    /// Values that violate a constraint. They are refused, unless the domain whose statement it was knows a better answer (see
    /// [`Error::violates`]): so the log has it as an error only once it is answered as one.
    fn violation(constraint: &str, why: &dyn std::fmt::Display) -> Error {
        tracing::info!(constraint, why = %why, "values violate a constraint");
        let mut error = Error::new(ErrorCode::Internal);
        error.failure = Failure::Refused;
        error.constraint = Some(constraint.into());
        error
    }

    /// Whether Postgres refused the values because they violate this constraint.
    pub fn violates(&self, constraint: &str) -> bool {
        self.constraint.as_deref() == Some(constraint)
    }

    /// Work that took too long, or waited too long: 503, worth another attempt in a second.
    pub fn slow() -> Error {
        let mut error = Error::unavailable("The database");
        error.failure = Failure::Slow;
        error
    }

    /// Whether less work at once may succeed: a statement was too slow, or met others' locks.
    pub fn is_slow(&self) -> bool {
        matches!(self.failure, Failure::Slow | Failure::Again { .. })
    }

    /// A request that reached the origin too late: 503, worth another attempt in a second.
    pub fn late() -> Error {
        let mut error = Error::new(ErrorCode::Unavailable).detail("The request reached the origin too late.");
        error.retry_after = Some(1);
        error
    }

    pub fn limited(policy: String, retry_after: u64) -> Error {
        let mut error =
            Error::new(ErrorCode::RateLimited).detail(format!("Try again in {retry_after} seconds."));
        error.limit = Some(policy.into());
        error.retry_after = Some(retry_after);
        error
    }

    /// More than a person, or a circle, may keep at once.
    pub fn over(quota: Quota) -> Error {
        let QuotaRow { name, most, unit, what, .. } = quota.row();
        let mut error = Error::new(ErrorCode::QuotaExceeded).detail(match unit.is_empty() {
            true => format!("At most {most} {what}."),
            false => format!("At most {most} {unit} of {what}."),
        });
        error.limit = Some((*name).into());
        error
    }

    /// A failure of ours. The reason is only logged, not shown to clients.
    pub fn internal(what: &str, why: &dyn std::fmt::Display) -> Error {
        tracing::error!(what, why = %why, "internal error");
        Error::new(ErrorCode::Internal)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Some(constraint) = &self.constraint {
            tracing::error!(constraint, "internal error: values violate a constraint");
        }
        let request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
        let mut problem = Problem::new(self.code, &request_id);
        problem.detail = self.detail;
        problem.errors = self.fields;
        problem.limit = self.limit.map(String::from);
        let mut response = Response::builder()
            .status(self.code.status())
            .header("content-type", PROBLEM_JSON)
            .header("cache-control", "no-store");
        if let Some(seconds) = self.retry_after {
            response = response.header("retry-after", seconds);
        }
        if self.code.status() == 401 {
            response = response.header("www-authenticate", "Bearer");
        }
        response
            .body(axum::body::Body::new(Full::from(problem.to_json())))
            .unwrap_or_else(|_| axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }
}

/// Citus passes on, as an internal error, what libpq says when a worker dies in the middle of a statement. Nothing is committed then.
fn has_lost_shard(message: &str) -> bool {
    ["server closed the connection unexpectedly", "connection not open", "could not receive data from server"]
        .iter()
        .any(|lost| message.contains(lost))
}

/// Whether an SQLSTATE says that the values are at fault. Any other (a column that does not exist, a right that is missing)
/// is a defect, and would hit other values too.
fn is_refusal(code: &SqlState) -> bool {
    // Data, constraints, a view's check.
    ["22", "23", "44"].contains(&&code.code()[..2])
        // A row, or its part of an index, that is too large. The rest of its class is about statements, which are ours.
        || *code == SqlState::PROGRAM_LIMIT_EXCEEDED
        // A trigger's own exception. The rest of its class are defects of functions.
        || *code == SqlState::RAISE_EXCEPTION
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Error {
        let Some(database) = error.as_db_error() else {
            if error.is_closed()
                || error.to_string().contains("communicating")
                || error.to_string().contains("connect")
            {
                // The attempt to reconnect finds out whether Postgres is lost, and logs that once.
                tracing::debug!(why = %error, "a connection to postgres broke");
                return Error::unavailable("The database");
            }
            return Error::internal("postgres", &error);
        };
        let code = database.code();
        if [SqlState::QUERY_CANCELED, SqlState::LOCK_NOT_AVAILABLE].contains(code) {
            tracing::warn!(code = code.code(), why = database.message(), "a statement was too slow");
            return Error::slow();
        }
        if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
            return Error::unavailable("The database").again(0);
        }
        // Failed connections and resources, operator intervention, a transaction left idle.
        let unavailable = ["08", "53", "57", "58"].contains(&&code.code()[..2])
            || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            || (*code == SqlState::INTERNAL_ERROR && has_lost_shard(database.message()));
        if unavailable {
            tracing::warn!(code = code.code(), why = database.message(), "postgres could not serve");
            return Error::unavailable("The database");
        }
        let why = format_args!("{} {}", code.code(), database.message());
        match database.constraint() {
            Some(constraint) if is_refusal(code) => Error::violation(constraint, &why),
            None if is_refusal(code) => Error::refused("postgres", &why),
            _ => Error::internal("postgres", &why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn problems_carry_the_requests_id() {
        let error = Error::invalid("body", "must not be empty");
        let response = REQUEST_ID.scope("r-1".to_owned(), async { error.into_response() }).await;
        assert_eq!(response.status(), 422);
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["request_id"], "r-1");
        assert_eq!(json["errors"][0]["field"], "body");
    }

    #[test]
    fn a_refusal_is_about_values_not_statements() {
        for code in ["22001", "22P02", "23502", "23505", "23514", "44000", "54000", "P0001"] {
            assert!(is_refusal(&SqlState::from_code(code)), "{code}");
        }
        for code in ["42703", "42501", "54001", "54011", "54023", "P0000", "P0002", "P0003", "P0004", "XX000"]
        {
            assert!(!is_refusal(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn a_violation_is_refused_and_names_its_constraint() {
        let error = Error::violation("users_email_key", &"23505");
        assert!(error.is_refused() && error.violates("users_email_key") && !error.violates("users_pkey"));
        assert_eq!(error.code, ErrorCode::Internal);
        assert!(!Error::refused("postgres", &"22001").violates("users_email_key"));
    }
}
