//! The HTTPS client for AWS: one connector for all clients and for credentials.

use std::time::Duration;
use std::{fmt, fs};

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The proxy and the root certificates that the environment sets.
#[derive(Clone, Default)]
pub struct HttpsSettings {
    proxy: Option<ProxyConfig>,
    tls: Option<TlsContext>,
}

impl fmt::Debug for HttpsSettings {
    /// Hides the proxy's password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsSettings").finish_non_exhaustive()
    }
}

impl HttpsSettings {
    /// Reads `HTTPS_PROXY` and `NO_PROXY`, in upper or lower case, and `AWS_CA_BUNDLE`. An empty value counts as unset.
    ///
    /// # Errors
    ///
    /// [`InvalidSettings`] with all problems.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidSettings> {
        let get = |name: &'static str| lookup(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        let mut problems = Vec::new();
        let (_, no_proxy) = get("NO_PROXY").or_else(|| get("no_proxy")).unwrap_or_default();
        let proxy = get("HTTPS_PROXY")
            .or_else(|| get("https_proxy"))
            .and_then(|(name, url)| proxy(&url).map_err(|problem| problems.push((name, problem.to_owned()))).ok());
        let tls = get("AWS_CA_BUNDLE")
            .and_then(|(name, path)| tls_context(&path).map_err(|problem| problems.push((name, problem))).ok());
        let proxy = proxy.map(|proxy| proxy.no_proxy(no_proxy));
        if problems.is_empty() { Ok(Self { proxy, tls }) } else { Err(InvalidSettings(problems)) }
    }

    /// Returns a client with one HTTPS connector. By default, the SDK creates a connector for each client and each set
    /// of timeouts, and each of them reads all root certificates. `connect` limits the time to open a connection,
    /// including name lookup and TLS; the connect timeout of a client's own configuration has no effect.
    pub fn client(&self, connect: Duration) -> SharedHttpClient {
        let settings = HttpConnectorSettings::builder().connect_timeout(connect).build();
        let mut builder = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring));
        builder.set_connector_settings(Some(settings)).set_proxy_config(self.proxy.clone());
        if let Some(tls) = &self.tls {
            builder.set_tls_context(tls.clone());
        }
        let connector = SharedHttpConnector::new(builder.build());
        http_client_fn(move |_, _| connector.clone())
    }
}

/// Settings that cannot be used: each variable with its problem. No text contains a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSettings(Vec<(&'static str, String)>);

impl InvalidSettings {
    /// Returns each variable with its problem.
    pub fn into_problems(self) -> Vec<(&'static str, String)> {
        self.0
    }
}

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration:")?;
        self.0.iter().try_for_each(|(variable, problem)| write!(f, "\n  {variable}: {problem}"))
    }
}

impl std::error::Error for InvalidSettings {}

/// Parses the URL of a proxy. Other programs accept a URL without `http://`, too.
fn proxy(url: &str) -> Result<ProxyConfig, &'static str> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    ProxyConfig::https(url).map_err(|_| "expected http://host:port or https://host:port")
}

/// Reads a file of root certificates in PEM, which replace those of the system. The SDK panics at an invalid one, so
/// each certificate is checked here.
fn tls_context(path: &str) -> Result<TlsContext, String> {
    let pem = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut roots = RootCertStore::empty();
    let is_valid = CertificateDer::pem_slice_iter(&pem)
        .all(|certificate| certificate.is_ok_and(|certificate| roots.add(certificate).is_ok()));
    if roots.is_empty() || !is_valid {
        return Err("expected a file of certificates in PEM".into());
    }
    let trust_store = TrustStore::empty().with_pem_certificate(pem);
    TlsContext::builder().with_trust_store(trust_store).build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<HttpsSettings, String> {
        let lookup = |variable: &str| (variable == name).then(|| value.to_owned());
        HttpsSettings::from_lookup(lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn invalid_proxy_is_a_problem_that_shows_no_password() {
        for name in ["HTTPS_PROXY", "https_proxy"] {
            for url in ["http://user:hunter2@proxy.example.com:3128", "proxy:3128", "https://proxy"] {
                let settings = read(name, url).unwrap();
                assert!(settings.proxy.is_some());
                assert_eq!(format!("{settings:?}"), "HttpsSettings { .. }");
            }
            for url in ["socks5://user:hunter2@proxy:1080", "http://", "http://user:hunter2@a b"] {
                let problem = "expected http://host:port or https://host:port";
                assert_eq!(read(name, url).unwrap_err(), format!("invalid configuration:\n  {name}: {problem}"));
            }
        }
        assert!(read("HTTP_PROXY", "http://proxy:3128").unwrap().proxy.is_none());
    }

    #[test]
    fn invalid_root_certificates_are_a_problem() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for content in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            fs::write(path, content).unwrap();
            assert_eq!(
                read("AWS_CA_BUNDLE", path).unwrap_err(),
                "invalid configuration:\n  AWS_CA_BUNDLE: expected a file of certificates in PEM"
            );
        }
        assert_eq!(
            read("AWS_CA_BUNDLE", "/missing.pem").unwrap_err(),
            "invalid configuration:\n  AWS_CA_BUNDLE: cannot be read: No such file or directory (os error 2)"
        );
    }
}
