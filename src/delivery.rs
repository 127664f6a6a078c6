//! Reads what the function has put into a queue.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Why a queue message is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The quarantine message's `Encoding` attribute is missing, or neither `utf-8` nor `base64`.
    #[error("the Encoding attribute is neither utf-8 nor base64")]
    UnknownEncoding,
    /// The quarantine message's body is not the base64 that its `Encoding` says.
    #[error("the body is not base64")]
    NotBase64,
}

/// The body that SuperOffice sent, byte for byte, from a quarantine message's body and its `Encoding` attribute.
///
/// # Errors
///
/// [`Unreadable::UnknownEncoding`] and [`Unreadable::NotBase64`].
///
/// ```
/// use superoffice_webhook::delivery::quarantined_body;
///
/// assert_eq!(quarantined_body("{", Some("utf-8"))?, b"{");
/// assert_eq!(quarantined_body("//4=", Some("base64"))?, b"\xff\xfe");
/// # Ok::<(), superoffice_webhook::delivery::Unreadable>(())
/// ```
pub fn quarantined_body(body: &str, encoding: Option<&str>) -> Result<Vec<u8>, Unreadable> {
    match encoding {
        Some("utf-8") => Ok(body.as_bytes().to_vec()),
        Some("base64") => STANDARD.decode(body).map_err(|_| Unreadable::NotBase64),
        _ => Err(Unreadable::UnknownEncoding),
    }
}
