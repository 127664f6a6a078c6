//! One entry of the list: the value of a parameter.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde::Deserialize;
use superoffice_client::{Connection, Credentials, SystemApp, Url, settings, tenant_identifiers};

/// The reason why an entry of the list cannot be used. The texts are fixed: none contains a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The parameter has another type.
    #[error("not a SecureString")]
    NotSecure,
    /// AWS refuses to decrypt the value: another key, a key that is disabled, or a key that the caller may not use.
    #[error("its value cannot be decrypted")]
    NotDecrypted,
    /// The value has another form.
    #[error("its value is not a JSON object with systemToken, or with url and accessToken or user and password")]
    NotAnEntry,
    /// A token contains whitespace, control characters, or characters beyond ASCII.
    #[error("its token contains characters that a token does not have")]
    Token,
    /// The application's own values are missing.
    #[error("it has a systemToken, but SUPEROFFICE_CLIENT_SECRET and SUPEROFFICE_PRIVATE_KEY are not set")]
    NoApp,
    /// Credentials are not sent to the URL.
    #[error("its url is not a base URL that begins with https:// (http:// is accepted for localhost only)")]
    Url,
    /// The URL contains the identifier of another tenant.
    #[error("its url names another tenant")]
    OtherTenant,
    /// Another name is equal, except for letter case.
    #[error("its name differs from another name in letter case only")]
    SimilarName,
}

/// The parts of a connection that all tenants share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) environment_url: Url,
    pub(crate) certificates: Vec<superoffice_client::Certificate>,
    pub(crate) app: Option<SystemApp>,
}

/// The value of a parameter, a JSON object. Other keys are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    system_token: Option<String>,
    url: Option<String>,
    access_token: Option<String>,
    user: Option<String>,
    password: Option<String>,
    #[serde(default)]
    paused: bool,
}

/// Reads the connection of a tenant, and `true` if the tenant is paused.
pub(crate) fn parse(name: &str, value: &str, shared: &Shared) -> Result<(Connection, bool), Reason> {
    // Serde would read an array as the fields in their order.
    if !value.trim_start().starts_with('{') {
        return Err(Reason::NotAnEntry);
    }
    // An error of the parser quotes the value.
    let value: Value = serde_json::from_str(value).map_err(|_| Reason::NotAnEntry)?;
    let set = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (url, password) = (set(value.url), set(value.password));
    if url.as_deref().is_some_and(|url| names_another_tenant(url, name)) {
        return Err(Reason::OtherTenant);
    }
    let url = url.map(|url| settings::parse_base_url(&url).map_err(|_| Reason::Url)).transpose()?;
    let credentials = match (set(value.system_token), set(value.access_token), set(value.user).zip(password)) {
        (Some(token), _, _) => {
            let app = shared.app.as_ref().ok_or(Reason::NoApp)?;
            Credentials::SystemUser(app.system_user(checked_token(&token)?))
        }
        (None, Some(token), _) if url.is_some() => Credentials::Bearer(checked_token(&token)?.into()),
        (None, None, Some((user, password))) if url.is_some() => {
            Credentials::Basic { user, password: SecretString::from(password) }
        }
        _ => return Err(Reason::NotAnEntry),
    };
    let connection = Connection {
        url,
        tenant: Some(name.to_owned()),
        environment_url: shared.environment_url.clone(),
        credentials,
        certificates: shared.certificates.clone(),
    };
    Ok((connection, value.paused))
}

/// Returns a token without the whitespace around it.
fn checked_token(token: &str) -> Result<&str, Reason> {
    let token = token.trim();
    let is_valid = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_valid { Ok(token) } else { Err(Reason::Token) }
}

/// Returns `true` if a URL contains an identifier of a tenant, `Cust` and digits, that is not `name`.
fn names_another_tenant(url: &str, name: &str) -> bool {
    let url = percent_decode_str(url).decode_utf8_lossy();
    tenant_identifiers(&url).any(|identifier| !identifier.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use superoffice_client::ExposeSecret;

    use super::*;

    const KEY: &str = include_str!("../../superoffice-client/tests/keys/system-user.pkcs8.pem");

    fn shared(has_app: bool) -> Shared {
        let environment_url = "https://online.superoffice.com".parse().unwrap();
        let app = has_app.then(|| SystemApp::new("client secret", KEY).unwrap());
        Shared { environment_url, certificates: Vec::new(), app }
    }

    fn read(name: &str, value: &str) -> Result<(Connection, bool), Reason> {
        parse(name, value, &shared(true))
    }

    #[test]
    fn each_form_of_credentials_is_read() {
        let (connection, is_paused) = read("Cust1", "\n{\"systemToken\": \" App-1 \", \"since\": 2024}\n").unwrap();
        assert!(matches!(connection.credentials, Credentials::SystemUser(_)) && !is_paused);
        assert_eq!((connection.url, connection.tenant.as_deref()), (None, Some("Cust1")));
        assert_eq!(connection.environment_url.as_str(), "https://online.superoffice.com/");

        let value = r#"{"url": "https://online3.superoffice.com/cust1/api", "accessToken": "8A:t", "paused": true}"#;
        let (connection, is_paused) = read("Cust1", value).unwrap();
        assert_eq!(connection.url.unwrap().as_str(), "https://online3.superoffice.com/cust1");
        assert!(is_paused);
        assert!(matches!(connection.credentials, Credentials::Bearer(token) if token.expose_secret() == "8A:t"));

        let value = r#"{"url": "https://server/SuperOffice", "user": "admin", "password": " p ", "paused": false}"#;
        let (connection, _) = read("Default", value).unwrap();
        let Credentials::Basic { user, password } = connection.credentials else { panic!("no basic credentials") };
        assert_eq!((user.as_str(), password.expose_secret()), ("admin", " p "));
    }

    #[test]
    fn other_values_have_a_reason() {
        for value in [
            "hunter2",
            "[]",
            r#"["t", null, null, null, null, false]"#,
            "{}",
            r#"{"systemToken": ""}"#,
            r#"{"systemToken": 7}"#,
            r#"{"accessToken": "t"}"#,
            r#"{"user": "admin", "password": "hunter2"}"#,
            r#"{"url": "https://server/SuperOffice"}"#,
            r#"{"url": "https://server/SuperOffice", "user": "admin"}"#,
            r#"{"url": "https://server/SuperOffice", "password": "hunter2"}"#,
            r#"{"systemToken": "t", "paused": "true"}"#,
            r#"{"systemToken": "t", "systemToken": "u"}"#,
            r#"{"systemToken": "t"} x"#,
        ] {
            assert_eq!(read("Cust1", value).unwrap_err(), Reason::NotAnEntry, "{value}");
        }
        for token in ["a b", "\u{e6}", " "] {
            let value = serde_json::json!({ "systemToken": token }).to_string();
            assert_eq!(read("Cust1", &value).unwrap_err(), Reason::Token, "{token}");
        }
        let value = r#"{"systemToken": "t"}"#;
        assert_eq!(parse("Cust1", value, &shared(false)).unwrap_err(), Reason::NoApp);
        for url in ["http://server/Cust1", "server/Cust1", "https://user:hunter2@server/Cust1"] {
            let value = serde_json::json!({"url": url, "accessToken": "t"}).to_string();
            assert_eq!(read("Cust1", &value).unwrap_err(), Reason::Url, "{url}");
        }
    }

    #[test]
    fn url_may_only_name_its_own_tenant() {
        for (url, name, expected) in [
            ("https://online3.superoffice.com/Cust1", "Cust1", false),
            ("https://online3.superoffice.com/CUST1/", "cust1", false),
            ("https://server/SuperOffice", "Cust1", false),
            ("https://customers.example.com/Customer", "Default", false),
            ("https://online3.superoffice.com/Cust12", "Cust1", true),
            ("https://online3.superoffice.com/Cust1", "Cust12", true),
            ("https://online3.superoffice.com/%43ust2", "Cust1", true),
            ("https://cust2.example.com/Cust1", "Cust1", true),
            ("https://online3.superoffice.com/Cust2", "Default", true),
        ] {
            assert_eq!(names_another_tenant(url, name), expected, "{url} {name}");
        }
        let value = r#"{"url": "https://online3.superoffice.com/Cust2", "accessToken": "t"}"#;
        assert_eq!(read("Cust1", value).unwrap_err(), Reason::OtherTenant);
    }
}
