//! A tenant whose deliveries are kept, and calls of its API.

use std::sync::{Arc, Mutex};

use fake_superoffice::{Clock, Delivery, Reply, START, SuperOffice, TOKEN};
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) struct TestBed {
    pub(crate) superoffice: SuperOffice,
    pub(crate) clock: Clock,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl TestBed {
    pub(crate) async fn start() -> Self {
        // Fails only if another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::fixed(START.parse().unwrap());
        let deliveries: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let kept = Arc::clone(&deliveries);
        let transport = move |delivery| -> futures_util::future::BoxFuture<'static, Result<Reply, String>> {
            kept.lock().unwrap().push(delivery);
            Box::pin(async { Ok(Reply::status(200)) })
        };
        let superoffice = SuperOffice::start_at("127.0.0.1:0", clock.clone(), Arc::new(transport), 0.0).await;
        superoffice.accept_token(TOKEN);
        Self { superoffice, clock, deliveries }
    }

    /// Makes a call with the path after the tenant's base URL. Returns status and body.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut request =
            reqwest::Client::new().request(method, format!("{}{path}", self.superoffice.url())).bearer_auth(TOKEN);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Makes a successful `GET`.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None, &[]).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Makes a successful call with a body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, Some(&body), &[]).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// Creates a webhook for an event, and returns its id.
    pub(crate) async fn webhook(&self, event: &str) -> i64 {
        let carrier = json!({
            "Name": "first", "Events": [event], "TargetUrl": "https://hooks.example.com", "Secret": "secret",
        });
        self.send(Method::POST, "/api/v1/Webhook", carrier).await["WebhookId"].as_i64().unwrap()
    }

    /// Delivers every event, and returns the deliveries since the last call.
    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        self.superoffice.idle().await;
        std::mem::take(&mut *self.deliveries.lock().unwrap())
    }
}
