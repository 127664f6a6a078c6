//! A server with TLS for services without state: each answer depends on its request only.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderName};

use crate::http::{Handler, Server};
use crate::tls::Certificate;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");

/// A server whose answers are JSON documents.
pub struct AnswerServer {
    server: Server,
    certificate: Certificate,
}

impl AnswerServer {
    /// Starts a server. `answer` returns the JSON for a path, and for the action of a request to AWS. A client loads the
    /// server's root certificate together with `roots` (PEM).
    pub async fn start(roots: &str, answer: impl Fn(&str, Option<&str>) -> String + Send + Sync + 'static) -> Self {
        let certificate = Certificate::generate(roots);
        let answer = Arc::new(answer);
        let handler: Handler = Arc::new(move |_, request| {
            let answer = Arc::clone(&answer);
            async move {
                let target = request.headers().get(TARGET).and_then(|target| target.to_str().ok());
                let action = target.and_then(|target| target.split('.').nth(1));
                let json = answer(request.uri().path(), action);
                // A client that still sends its request would see a closed connection.
                let _ = request.into_body().collect().await;
                let body = Full::new(Bytes::from(json));
                Ok(Response::builder().header(CONTENT_TYPE, "application/json").body(body).unwrap())
            }
            .boxed()
        });
        let server = Server::start(Some(certificate.acceptor()), handler).await;
        Self { server, certificate }
    }

    /// The URL of the server, without a path.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.server.address().port())
    }

    /// The PEM file with all root certificates.
    pub fn roots_file(&self) -> String {
        self.certificate.roots_file().display().to_string()
    }
}
