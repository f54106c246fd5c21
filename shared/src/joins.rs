//! Requests to join circles: their bounds. Redis alone holds them.

/// Milliseconds after which a request is forgotten.
pub const REQUEST_MS: u64 = 7 * 24 * 3_600_000;
/// The longest text of one, in characters.
pub const REQUEST_LENGTH: usize = 280;
