//! Hashes: keyed ones for derived secrets, and short digests as versions of values that no row has a version of.

use hmac::{Hmac, KeyInit, Mac};
use optimist_shared::session::hex;
use sha2::{Digest, Sha256};

/// HMAC-SHA-256 over parts.
pub fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length.
    #[allow(clippy::expect_used)]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts any key length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// The version of a value that no row has a version of: 16 hex digits of a digest over its shown parts.
pub fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hex(&hash.finalize()[..8])
}
