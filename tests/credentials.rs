//! Where the function's credentials for SQS may come from, beside the variables that every other test gives it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use harness::{Envelope, Lambda, Process, Sqs};

const SECRET: &str = "credentials-secret";
const EVENT: &str = r#"{"EventId":"e1","Event":"contact.changed","PrimaryKey":7}"#;

/// The status of a delivery to a function that has these variables and no credentials in any other.
async fn status(variables: &[(&str, String)]) -> u64 {
    let lambda = Lambda::start().await;
    let sqs = Sqs::tls().await;
    let _function = Process::new(env!("CARGO_BIN_EXE_superoffice-webhook"))
        .envs(lambda.environment())
        .envs(sqs.environment())
        .envs(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"].map(|name| (name, "")))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("SUPEROFFICE_WEBHOOK_SECRET", SECRET)
        .env("QUEUE_URL", sqs.queue_url("events"))
        .envs(variables.iter().cloned())
        .start();
    lambda.invoke(Envelope::signed(EVENT, SECRET).v2()).await.response().status
}

#[tokio::test]
async fn a_profile_has_them() {
    let home = tempfile::tempdir().expect("there is room for a folder");
    let file = home.path().join("credentials");
    fs::write(&file, "[crm]\naws_access_key_id = a\naws_secret_access_key = b\n").expect("a file can be written");
    let variables = [("AWS_PROFILE", "crm".to_owned()), ("AWS_SHARED_CREDENTIALS_FILE", file.display().to_string())];
    assert_eq!(status(&variables).await, 200);
}

/// As with SnapStart and in containers.
#[tokio::test]
async fn an_endpoint_gives_them() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream?);
            let mut line = String::new();
            while stream.read_line(&mut line)? > 2 {
                line.clear();
            }
            let body = r#"{"AccessKeyId":"a","SecretAccessKey":"b","Token":"c","Expiration":"2100-01-01T00:00:00Z"}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        }
        Ok::<_, std::io::Error>(())
    });
    let endpoint = format!("http://{address}/credentials");
    assert_eq!(status(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint)]).await, 200);
}

#[tokio::test]
async fn without_any_the_sender_is_told_to_try_again() {
    assert_eq!(status(&[]).await, 503);
}
