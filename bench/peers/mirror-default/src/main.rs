//! The mirror, connected as in the documentation of the SDK.

#![recursion_limit = "256"]

use std::env;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
use lambda_runtime::Error;
use superoffice_webhook_mirror::config::Config;
use superoffice_webhook_mirror::dynamodb::DynamoTable;
use superoffice_webhook_mirror::function::Mirror;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::from_lookup(&|name| env::var(name).ok())?;
    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let table = DynamoTable::new(Client::new(&aws), config.table.clone());
    Mirror::new(config, table).run().await
}
