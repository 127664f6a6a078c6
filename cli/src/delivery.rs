//! A delivery to the function, as SuperOffice sends it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use superoffice_client::with_causes;
use superoffice_webhook::Signature;

/// The limit for a delivery. API Gateway responds within 30 s.
const TIMEOUT: Duration = Duration::from_secs(40);

/// The response to a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    /// With invalid UTF-8 replaced.
    pub(crate) body: String,
}

/// No response to a delivery.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DeliveryError(String);

/// Posts a body, with the signature if there is one. Like SuperOffice, it does not follow redirects; unlike
/// SuperOffice, it makes one attempt.
///
/// # Errors
///
/// [`DeliveryError`] if the URL is invalid, or if there is no complete response within 40 s.
pub(crate) async fn deliver(
    url: &str,
    body: Vec<u8>,
    signature: Option<&Signature>,
) -> Result<Response, DeliveryError> {
    let error = |error: reqwest::Error| DeliveryError(with_causes(&error));
    // Fails only if the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none());
    // Not every resolver maps these names to this machine, although RFC 6761 demands it.
    if let Some(host) =
        Url::parse(url).ok().as_ref().and_then(Url::host_str).filter(|host| host.ends_with(".localhost"))
    {
        builder = builder.resolve(host, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    }
    let mut request = builder.build().map_err(error)?.post(url);
    for (name, value) in delivery_headers(&body, signature.map(Signature::to_string)) {
        request = request.header(name, value);
    }
    let response = request.body(body).send().await.map_err(error)?;
    Ok(Response { status: response.status(), body: response.text().await.map_err(error)? })
}

/// Returns the headers that SuperOffice sends with a body, in SuperOffice's spelling.
///
/// Fields of the body that cannot be header values are left out.
fn delivery_headers(body: &[u8], signature: Option<String>) -> Vec<(&'static str, String)> {
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    let field = |name: &str| event[name].as_str();
    let is_test = field("Event") == Some("test");
    let headers = [
        ("Content-Type", Some("application/json; charset=utf-8")),
        ("User-Agent", Some("NetServer-Webhook/10.5")),
        ("X-SuperOffice-Event", field("Event")),
        ("X-SuperOffice-EventId", field("EventId")),
        ("X-Hook-Test", is_test.then_some("true")),
        ("X-SuperOffice-Signature", signature.as_deref()),
    ];
    let is_valid = |value: &&str| !value.is_empty() && !value.chars().any(char::is_control);
    headers.into_iter().filter_map(|(name, value)| Some((name, value.filter(is_valid)?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use superoffice_webhook::Secret;
    use test_support::ClosedPort;

    use super::*;

    const BODY: &[u8] = br#"{"Event": "contact.changed", "EventId": "1"}"#;

    struct Received {
        head: Vec<String>,
        body: Vec<u8>,
    }

    /// Starts a server that handles one request. Returns its URL and, later, the request.
    fn serve(response: &'static str) -> (String, JoinHandle<Received>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let head: Vec<String> = stream.by_ref().lines().map(Result::unwrap).take_while(|l| !l.is_empty()).collect();
            let mut body = vec![0; BODY.len()];
            stream.read_exact(&mut body).unwrap();
            stream.get_mut().write_all(response.as_bytes()).unwrap();
            Received { head, body }
        });
        (url, server)
    }

    fn signature() -> Signature {
        Secret::new("secret").unwrap().sign(BODY)
    }

    #[tokio::test]
    async fn post_sends_signed_body_with_superoffice_headers() {
        let (url, server) = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let response = deliver(&url, BODY.to_vec(), Some(&signature())).await.unwrap();
        assert_eq!(response, Response { status: StatusCode::OK, body: "ok".into() });
        let Received { head, body } = server.join().unwrap();
        assert_eq!((head[0].as_str(), body.as_slice()), ("POST /webhook HTTP/1.1", BODY));
        for header in [
            "content-type: application/json; charset=utf-8",
            "content-length: 44",
            "x-superoffice-event: contact.changed",
            "x-superoffice-eventid: 1",
            &format!("x-superoffice-signature: {}", signature()),
        ] {
            assert!(head.iter().any(|line| line.eq_ignore_ascii_case(header)), "{header} is not in {head:?}");
        }
    }

    #[tokio::test]
    async fn error_and_redirect_are_returned_as_responses() {
        for (response, status) in [
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", 401),
            ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n", 302),
        ] {
            let (url, server) = serve(response);
            assert_eq!(deliver(&url, BODY.to_vec(), Some(&signature())).await.unwrap().status.as_u16(), status);
            server.join().unwrap();
        }
    }

    #[tokio::test]
    async fn invalid_url_and_closed_port_are_errors_with_url_and_cause() {
        let port = ClosedPort::bind();
        let url = format!("{}/", port.url());
        let error = deliver(&url, BODY.to_vec(), Some(&signature())).await.unwrap_err().to_string();
        assert!(error.contains(&url) && error.contains("refused"), "{error}");
        assert!(deliver("no url", BODY.to_vec(), Some(&signature())).await.is_err());
    }

    #[test]
    fn event_has_identifying_headers() {
        let headers = delivery_headers(br#"{"Event": "contact.changed", "EventId": "1"}"#, Some("c2ln".into()));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(
            headers,
            [
                ("Content-Type", "application/json; charset=utf-8"),
                ("User-Agent", "NetServer-Webhook/10.5"),
                ("X-SuperOffice-Event", "contact.changed"),
                ("X-SuperOffice-EventId", "1"),
                ("X-SuperOffice-Signature", "c2ln"),
            ]
        );
    }

    #[test]
    fn test_event_has_test_header() {
        let headers = delivery_headers(br#"{"Event": "test"}"#, Some("c2ln".into()));
        assert!(headers.contains(&("X-Hook-Test", "true".to_owned())));
    }

    #[test]
    fn unusable_fields_are_left_out() {
        for body in
            [&b"not JSON"[..], b"{}", br#"{"Event": 1, "EventId": "a\nb"}"#, br#"{"Event": "", "EventId": null}"#]
        {
            let names: Vec<_> = delivery_headers(body, Some("c2ln".into())).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["Content-Type", "User-Agent", "X-SuperOffice-Signature"], "{}", body.escape_ascii());
        }
    }
}
