//! Errors as clients see them: `application/problem+json` (RFC 9457), with a stable code for programs.

use serde::Serialize;

pub const PROBLEM_JSON: &str = "application/problem+json";

/// The cause of an error. Its code is part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request itself is malformed: JSON that does not parse, a bad cursor, a bad header.
    BadRequest,
    /// A field's value is not acceptable; `errors` names it.
    Invalid,
    /// No session, or no valid one.
    Unauthenticated,
    /// E-mail or password is wrong.
    BadCredentials,
    Forbidden,
    /// The account is suspended: `detail` says until when, and why.
    Suspended,
    NotFound,
    /// It has gone to the archive, where no request reaches it.
    Archived,
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The request conflicts with existing state: a taken e-mail, a member who joins again.
    Conflict,
    /// `If-Match` names another version than the current one.
    VersionMismatch,
    TooLarge,
    /// No edge of this region has signed the request: the origin's answer to others, and to an edge whose key it does not know. The
    /// edge answers 502 instead.
    Misdirected,
    /// The body is not JSON.
    UnsupportedMediaType,
    /// WebSockets alone are served there, and the edge carries none.
    UpgradeRequired,
    /// An `Idempotency-Key` was used before with another request.
    KeyReused,
    /// A person's quota is used up, or a circle's; `limit` names it.
    QuotaExceeded,
    /// A limit is used up; `limit` names it.
    RateLimited,
    Internal,
    /// The origin did not answer.
    BadGateway,
    /// A store is unavailable; try again after `Retry-After`.
    Unavailable,
    /// The origin's answer took too long.
    GatewayTimeout,
}

impl ErrorCode {
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::BadRequest => 400,
            ErrorCode::Unauthenticated | ErrorCode::BadCredentials => 401,
            ErrorCode::Forbidden | ErrorCode::Suspended => 403,
            ErrorCode::NotFound => 404,
            ErrorCode::Archived => 410,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::RequestTimeout => 408,
            ErrorCode::Conflict => 409,
            ErrorCode::VersionMismatch => 412,
            ErrorCode::TooLarge => 413,
            ErrorCode::UnsupportedMediaType => 415,
            ErrorCode::Misdirected => 421,
            ErrorCode::Invalid | ErrorCode::KeyReused | ErrorCode::QuotaExceeded => 422,
            ErrorCode::UpgradeRequired => 426,
            ErrorCode::RateLimited => 429,
            ErrorCode::Internal => 500,
            ErrorCode::BadGateway => 502,
            ErrorCode::Unavailable => 503,
            ErrorCode::GatewayTimeout => 504,
        }
    }

    /// The stable name, which is `code` and the end of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad-request",
            ErrorCode::Invalid => "invalid",
            ErrorCode::Unauthenticated => "unauthenticated",
            ErrorCode::BadCredentials => "bad-credentials",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::Suspended => "suspended",
            ErrorCode::NotFound => "not-found",
            ErrorCode::Archived => "archived",
            ErrorCode::MethodNotAllowed => "method-not-allowed",
            ErrorCode::RequestTimeout => "request-timeout",
            ErrorCode::Conflict => "conflict",
            ErrorCode::VersionMismatch => "version-mismatch",
            ErrorCode::TooLarge => "too-large",
            ErrorCode::UnsupportedMediaType => "unsupported-media-type",
            ErrorCode::UpgradeRequired => "upgrade-required",
            ErrorCode::Misdirected => "misdirected",
            ErrorCode::KeyReused => "idempotency-key-reused",
            ErrorCode::QuotaExceeded => "quota-exceeded",
            ErrorCode::RateLimited => "rate-limited",
            ErrorCode::Internal => "internal",
            ErrorCode::BadGateway => "bad-gateway",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::GatewayTimeout => "gateway-timeout",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "The request is malformed",
            ErrorCode::Invalid => "A value is not acceptable",
            ErrorCode::Unauthenticated => "A valid session is required",
            ErrorCode::BadCredentials => "E-mail or password is wrong",
            ErrorCode::Forbidden => "Not allowed",
            ErrorCode::Suspended => "The account is suspended",
            ErrorCode::NotFound => "Not found",
            ErrorCode::Archived => "In the archive",
            ErrorCode::MethodNotAllowed => "Method not allowed",
            ErrorCode::RequestTimeout => "The body took too long to arrive",
            ErrorCode::Conflict => "In conflict with what exists",
            ErrorCode::VersionMismatch => "Changed since it was read",
            ErrorCode::TooLarge => "The body is too large",
            ErrorCode::UnsupportedMediaType => "The body must be JSON",
            ErrorCode::UpgradeRequired => "Only WebSockets are served here",
            ErrorCode::Misdirected => "Not signed by an edge of this region",
            ErrorCode::KeyReused => "The idempotency key was used for another request",
            ErrorCode::QuotaExceeded => "More than one may keep",
            ErrorCode::RateLimited => "Too many requests",
            ErrorCode::Internal => "Internal error",
            ErrorCode::BadGateway => "The origin did not answer",
            ErrorCode::Unavailable => "Temporarily unavailable",
            ErrorCode::GatewayTimeout => "The origin took too long",
        }
    }
}

/// The body of an error.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: &'static str,
    pub status: u16,
    pub code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Each field that was refused, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The limit that refused, by its policy's name; or the quota.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    pub request_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// A body's field (`body`, `title`), a query or path parameter, or a header.
    pub field: String,
    pub reason: String,
}

impl Problem {
    pub fn new(code: ErrorCode, request_id: &str) -> Problem {
        Problem {
            kind: format!("urn:optimist:problem:{}", code.as_str()),
            title: code.title(),
            status: code.status(),
            code: code.as_str(),
            detail: None,
            errors: Vec::new(),
            limit: None,
            request_id: request_id.to_owned(),
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.detail = Some(detail.into());
        self
    }

    pub fn field(mut self, field: impl Into<String>, reason: impl Into<String>) -> Problem {
        self.errors.push(FieldError { field: field.into(), reason: reason.into() });
        self
    }

    pub fn to_json(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
