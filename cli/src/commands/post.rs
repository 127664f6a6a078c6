//! `post`: one delivery, as SuperOffice makes it.

use std::process::ExitCode;

use crate::delivery;

use super::sign::{BodyFile, Signer};
use super::{CommandResult, print};

/// Sign a body, post it as SuperOffice does, and print the response
///
/// Fails unless the status is 200.
#[derive(Debug, clap::Args)]
pub(crate) struct Post {
    #[command(flatten)]
    signer: Signer,
    /// The webhook's URL
    url: String,
    #[command(flatten)]
    body: BodyFile,
}

impl Post {
    /// Runs the command.
    pub(crate) async fn run(self) -> CommandResult {
        let body = self.body.read()?;
        let signature = self.signer.sign(&body)?;
        let response = delivery::post(&self.url, body, &signature).await?;
        print(format_args!("{}\n{}", response.status, response.body))?;
        match response.status.as_u16() {
            200 => Ok(ExitCode::SUCCESS),
            status => Err(format!("the response status is {status}, expected 200").into()),
        }
    }
}
