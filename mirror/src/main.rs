//! The program of the Lambda function.

// The SDK's futures are nested deeper than the compiler's default limit of 128 queries.
#![recursion_limit = "256"]

use std::process::ExitCode;
use std::time::Duration;

use superoffice_webhook::log_line;
use superoffice_webhook_mirror::config::Config;
use superoffice_webhook_mirror::dynamodb::DynamoTable;
use superoffice_webhook_mirror::function::Mirror;

/// The limits of a call of AWS, within the time of a batch.
const AWS_LIMITS: aws_setup::Limits = aws_setup::Limits {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(3),
    call: Duration::from_secs(8),
    attempts: 3,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match start().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log_line::write_start_error(&error, std::env::var("AWS_LAMBDA_LOG_FORMAT").ok().as_deref());
            ExitCode::FAILURE
        }
    }
}

async fn start() -> Result<(), lambda_runtime::Error> {
    let config = Config::from_lookup(&|name| std::env::var(name).ok())?;
    let table = DynamoTable::connect(&aws_setup::load_with(AWS_LIMITS).await?, &config.table);
    Mirror::new(config, table).run().await
}
