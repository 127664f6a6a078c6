//! Sources of AWS credentials other than environment variables.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::{fs, thread};

use test_support::{RuntimeApi, SqsServer, WebhookRequest};

use crate::function_process;

const SECRET: &str = "credentials-secret";
const EVENT: &str = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":7}"#;

/// Returns the status of a delivery to a function with these variables and no credentials in the usual ones.
async fn status(variables: &[(&str, String)]) -> u64 {
    let (lambda, sqs) = (RuntimeApi::start().await, SqsServer::start_tls().await);
    let _function = function_process(&lambda, &sqs)
        .envs(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map(|name| (name, "")))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
        .env("QUEUE_URL", sqs.queue_url("events"))
        .envs(variables.iter().cloned())
        .start();
    lambda.invoke(WebhookRequest::signed(EVENT, SECRET).http_api()).await.response().status
}

#[tokio::test]
async fn credentials_of_a_profile_are_used() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("credentials");
    fs::write(&file, "[crm]\naws_access_key_id = a\naws_secret_access_key = b\n").unwrap();
    let variables = [("AWS_PROFILE", "crm".to_owned()), ("AWS_SHARED_CREDENTIALS_FILE", file.display().to_string())];
    assert_eq!(status(&variables).await, 200);
}

/// Lambda SnapStart and containers provide credentials this way.
#[tokio::test]
async fn credentials_of_a_container_endpoint_are_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/credentials", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let body = r#"{"AccessKeyId":"a","SecretAccessKey":"b","Token":"c","Expiration":"2100-01-01T00:00:00Z"}"#;
            let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.get_mut().write_all(response.as_bytes()).unwrap();
        }
    });
    assert_eq!(status(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint)]).await, 200);
}

#[tokio::test]
async fn missing_credentials_return_503() {
    assert_eq!(status(&[]).await, 503);
}
