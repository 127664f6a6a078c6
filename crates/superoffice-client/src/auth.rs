//! The ways to authenticate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::system_user::SystemUser;

/// The way to authenticate.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// An access token, valid for about an hour.
    Bearer(SecretString),
    /// A user and a password, on-site only.
    Basic {
        /// The name with which the user signs in.
        user: String,
        /// The password with which the user signs in.
        password: SecretString,
    },
    /// The system user of an Online app, which obtains a ticket for itself.
    SystemUser(SystemUser),
}

impl Credentials {
    /// Returns the values that no message may contain.
    pub(crate) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Bearer(token) => vec![token.expose_secret().to_owned()],
            Self::Basic { user, password } => vec![password.expose_secret().to_owned(), basic(user, password)],
            Self::SystemUser(user) => user.secrets().map(str::to_owned).into(),
        }
    }
}

/// Returns the credentials in a header of Basic authentication (RFC 7617).
pub(crate) fn basic(user: &str, password: &SecretString) -> String {
    STANDARD.encode(format!("{user}:{}", password.expose_secret()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_secret_in_every_form() {
        // printf admin:hunter2 | base64
        let credentials = Credentials::Basic { user: "admin".into(), password: "hunter2".into() };
        assert_eq!(credentials.secrets(), ["hunter2", "YWRtaW46aHVudGVyMg=="]);
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
