//! Failed calls.

use crate::system_user::TicketError;

/// A failed call. No message contains a credential.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {kind}")]
pub struct ApiError {
    call: String,
    kind: ErrorKind,
}

/// The reason of a failed call.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no connection, or it broke.
    #[error("{host} is unreachable: {reason}")]
    Unreachable {
        /// The host's name or address.
        host: String,
        /// The innermost cause.
        reason: String,
    },
    /// There was no response within this number of seconds.
    #[error("no response within {0} s")]
    Timeout(u64),
    /// SuperOffice rejected the credentials.
    #[error("the credentials are invalid or expired (401)")]
    Unauthorized,
    /// SuperOffice denied access, with this text (empty, or `: ` and a message).
    #[error(
        "access denied (403). An Online app must be granted the webhook API when it is registered, and the user must \
         be allowed to make this call{0}"
    )]
    Forbidden(String),
    /// The tenant is on another host.
    #[error("wrong host for this tenant (421). Set SUPEROFFICE_TENANT to look the host up")]
    WrongHost,
    /// SuperOffice responded with 429 or 503 to every attempt, or with a `Retry-After` that is too long.
    #[error("throttled or unavailable ({status}){message}")]
    Unavailable {
        /// 429 or 503.
        status: u16,
        /// Empty, or `: ` and the response's message.
        message: String,
    },
    /// SuperOffice responded with another status that is not a success.
    #[error("status {status}{message}")]
    Status {
        /// The status of the last response.
        status: u16,
        /// Empty, or `: ` and the response's message.
        message: String,
    },
    /// The body of a success is not as documented.
    #[error("unexpected response: {0}")]
    Unexpected(String),
    /// The ids of a list do not ascend, so the list cannot be continued after its last id.
    #[error("unexpected response: the ids of the list do not ascend")]
    NotAscending,
    /// The webhook differs from the one that was read, so it was not changed.
    #[error("the webhook was changed in the meantime")]
    Changed,
    /// The server hides the webhook's secret, and no secret is configured. Writing the webhook would lose its secret.
    #[error(
        "SuperOffice does not return the webhook's secret, and writing the webhook would lose it; set \
         SUPEROFFICE_WEBHOOK_SECRET"
    )]
    HiddenSecret,
    /// The system user did not get a ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The environment has no base URL for the tenant that may receive the credentials.
    #[error("the tenant {tenant} has no usable base URL at {url}")]
    NoBaseUrl {
        /// `SUPEROFFICE_TENANT`.
        tenant: String,
        /// `SUPEROFFICE_ENVIRONMENT_URL`.
        url: String,
    },
    /// A credential cannot be sent in a header.
    #[error("a credential contains characters that HTTP does not allow")]
    InvalidCredential,
}

impl ApiError {
    pub(crate) fn new(call: impl Into<String>, kind: impl Into<ErrorKind>) -> Self {
        Self { call: call.into(), kind: kind.into() }
    }

    /// Returns the error for a success whose body is not as documented.
    pub(crate) fn unexpected(call: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::new(call, ErrorKind::Unexpected(problem.to_string()))
    }

    /// Returns the reason.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Returns the status of the response that made the call fail.
    pub fn status(&self) -> Option<u16> {
        match &self.kind {
            ErrorKind::Unauthorized => Some(401),
            ErrorKind::Forbidden(_) => Some(403),
            ErrorKind::WrongHost => Some(421),
            ErrorKind::Status { status, .. } | ErrorKind::Unavailable { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns `true` if the error concerns this call only, so that the next call may succeed.
    pub fn is_specific(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Status { .. } | ErrorKind::Unexpected(_) | ErrorKind::Changed | ErrorKind::HiddenSecret
        )
    }

    /// Returns `true` if SuperOffice rejected the credentials, so that every call fails until they are replaced.
    pub fn is_credentials_refused(&self) -> bool {
        matches!(self.kind, ErrorKind::Unauthorized | ErrorKind::Ticket(TicketError::Rejected(_)))
    }

    /// Returns `true` if SuperOffice has refused the call, or the call was not made, so that it had no effect.
    pub fn is_refusal(&self) -> bool {
        match &self.kind {
            ErrorKind::Unauthorized | ErrorKind::Forbidden(_) | ErrorKind::WrongHost => true,
            ErrorKind::Status { status, .. } => (400..500).contains(status),
            ErrorKind::Changed | ErrorKind::HiddenSecret => true,
            _ => false,
        }
    }
}

/// The HTTP client cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up: {0}")]
pub struct SetupError(pub(crate) String);

/// Returns the text of an error and of its causes.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    causes(error).collect::<Vec<_>>().join(": ")
}

/// Returns the text of the innermost cause.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    causes(error).last().unwrap_or_default()
}

fn causes<'a>(error: &'a dyn std::error::Error) -> impl Iterator<Item = String> + 'a {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_one_call_and_refusals_are_recognized() {
        let status = |status| ErrorKind::Status { status, message: String::new() };
        for (kind, is_specific, is_refusal) in [
            (status(400), true, true),
            (status(499), true, true),
            (status(500), true, false),
            (status(302), true, false),
            (ErrorKind::Changed, true, true),
            (ErrorKind::HiddenSecret, true, true),
            (ErrorKind::Unexpected(String::new()), true, false),
            (ErrorKind::Unauthorized, false, true),
            (ErrorKind::Forbidden(String::new()), false, true),
            (ErrorKind::WrongHost, false, true),
            (ErrorKind::Unavailable { status: 429, message: String::new() }, false, false),
            (ErrorKind::Timeout(60), false, false),
        ] {
            let error = ApiError::new("GET Webhook", kind);
            assert_eq!((error.is_specific(), error.is_refusal()), (is_specific, is_refusal), "{error}");
        }
    }

    #[test]
    fn refused_credentials_are_recognized() {
        for (kind, is_refused) in [
            (ErrorKind::Unauthorized, true),
            (TicketError::Rejected("unknown".into()).into(), true),
            (TicketError::NoTicket.into(), false),
            (ErrorKind::Forbidden(String::new()), false),
        ] {
            let error = ApiError::new("GET Webhook", kind);
            assert_eq!(error.is_credentials_refused(), is_refused, "{error}");
        }
    }

    #[test]
    fn causes_follow_the_error() {
        let error = ApiError::new("GET Webhook", TicketError::NoTicket);
        let expected = "GET Webhook: the authentication response contains no ticket";
        assert_eq!((with_causes(&error), innermost(&error)), (expected.into(), expected.into()));
        let error = std::io::Error::other(error);
        assert_eq!(with_causes(&error), expected);
    }
}
