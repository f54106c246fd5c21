//! Pages of sealed texts: bounded in bytes as well as in items, so that no account decides how much one request reads, opens
//! and sends.

use optimist_shared::envelope::LIST_BYTES;
use tokio_postgres::Row;

/// Sealed bytes of a page: about as many as the answer has. A text that alone has more is a page of its own.
pub const PAGE_BYTES: i64 = LIST_BYTES as i64;

/// How the API describes such lists.
pub const PAGE_NOTE: &str =
    "A page ends after `limit` items or 256 KiB, whichever comes first: follow `next` until it is null.";

/// The rows of a page, and whether more follow. The statement returns a column `found` beside each row: how many there are
/// within one more than `limit`.
pub fn page_of(rows: &[Row], limit: usize) -> (&[Row], bool) {
    let shown = &rows[..rows.len().min(limit)];
    let found: i64 = rows.first().map_or(0, |row| row.get("found"));
    (shown, found > shown.len() as i64)
}
