//! SHA-256 as S3 writes it: base64, and for an object made of parts the hash of the parts' hashes with their number
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>, checked 2026-11-21).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// The checksum of one body.
pub(super) fn of(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}

/// Whether `body` has the checksum that the server gives; `None` when that cannot be told: it is made of parts that were
/// cut otherwise than ours.
pub(super) fn agrees(given: &str, body: &[u8], part: usize) -> Option<bool> {
    let Some((of_parts, count)) = given.split_once('-') else { return Some(given == of(body)) };
    let parts = body.chunks(part);
    if count.parse() != Ok(parts.len()) {
        return None;
    }
    let mut whole = Sha256::new();
    parts.for_each(|part| whole.update(Sha256::digest(part)));
    // A server may cut the same number of parts elsewhere, so a difference proves nothing.
    (STANDARD.encode(whole.finalize()) == of_parts).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_told_from_a_damaged_one() {
        // sha256sum of nothing, in base64.
        assert_eq!(of(b""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(agrees(&of(b"body"), b"body", 3), Some(true));
        assert_eq!(agrees(&of(b"body"), b"bodx", 3), Some(false));
        let mut whole = Sha256::new();
        whole.update(Sha256::digest(b"bod"));
        whole.update(Sha256::digest(b"y"));
        let parts = format!("{}-2", STANDARD.encode(whole.finalize()));
        assert_eq!(agrees(&parts, b"body", 3), Some(true));
        assert_eq!(agrees(&parts, b"bodx", 3), None);
        assert_eq!(agrees(&parts, b"body", 1), None);
    }
}
