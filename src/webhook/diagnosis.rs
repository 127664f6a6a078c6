//! The diagnosis of a signature that no configured secret made, for the operator's log.

use crate::webhook::signature::{Secret, Signature, any_verifies};

/// The largest body that is diagnosed, in bytes. An unsigned request must not cost much more than a signed one.
const MAX_BYTES: usize = 64 * 1024;

/// Returns `true` if one of the secrets, with other whitespace around it, signed the body. This is the usual
/// copy-and-paste mistake, here or in SuperOffice. The same work is done for every result.
pub(crate) fn has_stray_whitespace(secrets: &[&Secret], body: &[u8], signature: &Signature) -> bool {
    if body.len() > MAX_BYTES {
        return false;
    }
    let variants: Vec<Secret> = secrets.iter().flat_map(|secret| whitespace_variants(secret)).collect();
    any_verifies(&variants, body, signature)
}

fn whitespace_variants(secret: &Secret) -> impl Iterator<Item = Secret> {
    let trimmed = secret.key().trim_ascii();
    [
        trimmed.to_vec(),
        [trimmed, b"\n"].concat(),
        [trimmed, b"\r\n"].concat(),
        [trimmed, b" "].concat(),
        [b" ", trimmed].concat(),
    ]
    .into_iter()
    .filter_map(|key| Secret::new(key).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stray(configured: &str, used: &str, body: &[u8]) -> bool {
        let secret = |key: &str| Secret::new(key).unwrap();
        has_stray_whitespace(&[&secret("another"), &secret(configured)], body, &secret(used).sign(body))
    }

    #[test]
    fn stray_whitespace_is_found_on_either_side() {
        for (configured, used) in
            [("right", "right "), ("right", " right"), ("right\r\n", "right"), (" right", "right\n"), ("a", "a\r\n")]
        {
            assert!(stray(configured, used, b"body"), "{configured:?} {used:?}");
        }
        assert!(!stray("right", "wrong", b"body"));
        assert!(!stray("right", "ri ght", b"body"));
    }

    #[test]
    fn large_body_is_not_diagnosed() {
        assert!(stray("right", "right ", &[b'x'; 65_536]));
        assert!(!stray("right", "right ", &[b'x'; 65_537]));
    }
}
