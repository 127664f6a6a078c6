//! The hosts that the function contacts: queue URLs, endpoint variables, proxy and root certificates.

use std::fs;
use std::sync::{Arc, Mutex};

use test_support::{Fault, Process, RuntimeApi, SqsServer, WebhookRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "endpoints-secret";
const EVENT: &str = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":7}"#;

/// The status of a delivery and the diagnostics of the function.
struct Delivered {
    status: u64,
    diagnostics: Vec<String>,
}

/// Delivers an event to a function that has only these variables besides those that Lambda sets.
async fn deliver(variables: &[(&str, &str)]) -> Delivered {
    let lambda = RuntimeApi::start().await;
    let mut function = Process::new(env!("CARGO_BIN_EXE_superoffice-webhook"))
        .envs(lambda.environment())
        .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
        .envs(variables.iter().copied())
        .start();
    let status = lambda.invoke(WebhookRequest::signed(EVENT, SECRET).http_api()).await.response().status;
    drop(lambda);
    function.wait().await;
    Delivered { status, diagnostics: function.stderr_lines() }
}

/// A proxy that records the destination of each tunnel, and tunnels to `localhost` only.
struct Proxy {
    url: String,
    tunnels: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let tunnels = Arc::new(Mutex::new(Vec::new()));
        let recorded = Arc::clone(&tunnels);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, Arc::clone(&recorded)));
            }
        });
        Self { url, tunnels }
    }

    /// Returns the destinations, without repetitions.
    fn destinations(&self) -> Vec<String> {
        let mut tunnels = self.tunnels.lock().unwrap().clone();
        tunnels.dedup();
        tunnels
    }
}

async fn tunnel(mut client: TcpStream, tunnels: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(client.read_u8().await.unwrap());
    }
    let request = String::from_utf8(request).unwrap();
    let destination = request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    tunnels.lock().unwrap().push(destination.clone());
    if destination.starts_with("localhost:") {
        let mut server = TcpStream::connect(destination.replace("localhost", "127.0.0.1")).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut client, &mut server).await;
    } else {
        let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
    }
}

/// The proxy observes the destinations, which do not exist here.
#[tokio::test]
async fn queue_is_reached_at_the_host_of_its_url() {
    for host in [
        "vpce-0a1-b2c.sqs.us-east-2.vpce.amazonaws.com",
        "sqs-fips.us-east-1.amazonaws.com",
        "sqs.eu-west-3.api.aws",
        "eu-west-1.queue.amazonaws.com",
        "queue.amazonaws.com",
        "sqs.internal.example.com:8443",
    ] {
        let proxy = Proxy::start().await;
        let queue = format!("https://{host}/123456789012/events.fifo");
        let variables = [("QUEUE_URL", queue.as_str()), ("HTTPS_PROXY", &proxy.url), ("AWS_USE_FIPS_ENDPOINT", "true")];
        assert_eq!(deliver(&variables).await.status, 503);
        let destination = if host.contains(':') { host.to_owned() } else { format!("{host}:443") };
        assert_eq!(proxy.destinations(), [destination]);
    }
}

#[tokio::test]
async fn each_queue_is_reached_at_its_own_host() {
    let (primary, fallback) = (SqsServer::start().await, SqsServer::start().await);
    let (events, other_events) = (primary.queue_url("events.fifo"), fallback.queue_url("events.fifo"));
    primary.script(&events, [Fault::AccessDenied]);
    let variables = [("QUEUE_URL", events.as_str()), ("FALLBACK_QUEUE_URL", &other_events), ("AWS_ENDPOINT_URL", "")];
    assert_eq!(deliver(&variables).await.status, 200);
    assert_eq!((primary.counts(&events).received, fallback.counts(&other_events).accepted), (1, 1));
}

#[tokio::test]
async fn endpoint_setting_overrides_the_hosts_of_all_queues() {
    let sqs = SqsServer::start().await;
    let profile = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        &profile,
        format!("[default]\nservices = local\n[services local]\nsqs =\n  endpoint_url = {}\n", sqs.endpoint()),
    )
    .unwrap();
    let (endpoint, profile) = (sqs.endpoint(), profile.path().display().to_string());
    let queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo";
    for settings in [
        [("AWS_ENDPOINT_URL_SQS", endpoint.as_str()), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")],
        [("AWS_ENDPOINT_URL", endpoint.as_str()), ("AWS_ENDPOINT_URL_SQS", "")],
        [("AWS_CONFIG_FILE", profile.as_str()), ("AWS_PROFILE", "default")],
    ] {
        let variables = [settings.as_slice(), &[("QUEUE_URL", queue)]].concat();
        assert_eq!(deliver(&variables).await.status, 200, "{settings:?}");
    }
    assert_eq!(sqs.counts(queue).received, 3);
    assert!(sqs.requests().iter().all(|request| request.region.as_deref() == Some("eu-west-1")));
}

#[tokio::test]
async fn proxy_is_used_except_for_the_hosts_of_no_proxy() {
    let sqs = SqsServer::start_tls().await;
    let (queue, roots) = (sqs.queue_url("events"), sqs.roots_file().unwrap());
    for (name, no_proxy, is_used) in [
        ("HTTPS_PROXY", "example.com", true),
        ("https_proxy", "", true),
        ("HTTPS_PROXY", "example.com,localhost", false),
        ("HTTP_PROXY", "", false),
    ] {
        let proxy = Proxy::start().await;
        let variables =
            [("QUEUE_URL", queue.as_str()), ("SSL_CERT_FILE", &roots), (name, &proxy.url), ("NO_PROXY", no_proxy)];
        assert_eq!(deliver(&variables).await.status, 200);
        let destination = queue.split('/').nth(2).unwrap().to_owned();
        assert_eq!(proxy.destinations(), if is_used { vec![destination] } else { vec![] }, "{name} {no_proxy}");
    }
}

#[tokio::test]
async fn root_certificates_of_aws_ca_bundle_replace_those_of_the_system() {
    let sqs = SqsServer::start_tls().await;
    let (queue, roots) = (sqs.queue_url("events"), sqs.roots_file().unwrap());
    assert_eq!(deliver(&[("QUEUE_URL", &queue), ("AWS_CA_BUNDLE", &roots)]).await.status, 200);
    let other_roots = SqsServer::start_tls().await;
    let variables = [
        ("QUEUE_URL", queue.as_str()),
        ("SSL_CERT_FILE", &roots),
        ("AWS_CA_BUNDLE", &other_roots.roots_file().unwrap()),
    ];
    assert_eq!(deliver(&variables).await.status, 503);
}

#[tokio::test]
async fn setting_without_effect_is_logged() {
    let sqs = SqsServer::start().await;
    let queue = sqs.queue_url("events");
    let delivered = deliver(&[
        ("QUEUE_URL", &queue),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("AWS_RETRY_MODE", "adaptive"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "false"),
    ])
    .await;
    assert_eq!(delivered.status, 200);
    let warnings = delivered.diagnostics.iter().filter_map(|line| Some(line.split_once(" WARN ")?.1));
    let warnings: Vec<_> = warnings.filter(|text| text.contains("no effect")).collect();
    assert_eq!(
        warnings,
        [
            "AWS_MAX_ATTEMPTS has no effect: the function's time limits decide",
            "AWS_RETRY_MODE has no effect: the function's time limits decide",
            "AWS_USE_FIPS_ENDPOINT has no effect: each queue is reached at the host of its URL",
        ]
    );
}
