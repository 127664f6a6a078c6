use std::io::Write;

use reqwest::StatusCode;

use super::sign::SignedBody;
use crate::delivery::{Response, deliver};
use crate::environment::{self, SIGNING};
use crate::exit::{CommandResult, Status};
use crate::output::{Output, message};

/// Post a signed body as SuperOffice does, and print the response
///
/// The exit status is 0 if the response was 200.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SIGNING]))]
pub(crate) struct Post {
    /// The webhook's URL
    url: String,
    #[command(flatten)]
    body: SignedBody,
}

impl Post {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let (body, signature) = self.body.read()?;
        let Response { status, body } = deliver(&self.url, body, Some(&signature)).await?;
        output.line(format_args!("{status}\n{body}"));
        if status != StatusCode::OK {
            message(format_args!("the response status is {}, expected 200", status.as_u16()));
        }
        Ok(Status::well_if(status == StatusCode::OK))
    }
}
