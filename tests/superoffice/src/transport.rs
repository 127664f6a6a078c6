//! The way of a delivery to the webhook's URL.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// An HTTP request of the sender.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The webhook's URL.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The response to a delivery.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// A response with an empty body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// Returns headers and body as SuperOffice stores them.
    pub(crate) fn text(&self) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        format!("HTTP {}\n{headers}\n{}", self.status, self.body)
    }
}

/// Makes a request; an error is a connection that failed.
pub type Transport = Arc<dyn Fn(Delivery) -> BoxFuture<'static, Result<Reply, String>> + Send + Sync>;

/// Resolves every name under `localhost` to the loopback address, as browsers do. Local gateways use such names.
struct LoopbackNames;

impl Resolve for LoopbackNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            if name.as_str().ends_with(".localhost") {
                let loopback: Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
                return Ok(loopback);
            }
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Delivers over HTTP; `certificates` are PEM texts to trust besides the system's.
pub fn http_transport(certificates: &[String]) -> Transport {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = certificates
        .iter()
        .flat_map(|pem| reqwest::Certificate::from_pem_bundle(pem.as_bytes()).expect("certificates in PEM"));
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_merge(certificates)
        .dns_resolver(LoopbackNames)
        .build()
        .expect("a client with these certificates");
    Arc::new(move |delivery| {
        let client = client.clone();
        Box::pin(async move {
            let mut request = client.post(&delivery.url).body(delivery.body);
            for (name, value) in delivery.headers {
                request = request.header(name, value);
            }
            let response = request.send().await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            let headers = response.headers().iter().map(header).collect();
            let body = response.text().await.map_err(|error| error.to_string())?;
            Ok(Reply { status, headers, body })
        })
    })
}
