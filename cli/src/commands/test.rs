//! `test`: a signed test that SuperOffice posts.

use super::{CommandResult, Context, exit_code, report, report_test};

/// Make SuperOffice post its signed test to the webhook's URL; succeeds if the response is 200
#[derive(Debug, clap::Args)]
pub(crate) struct Test {}

impl Test {
    pub(crate) async fn run(self) -> CommandResult {
        let context = Context::load()?;
        let managed = context.managed().await?;
        let Some(result) = context.test(&managed).await? else {
            report(&managed, &context.url);
            return Ok(exit_code(false));
        };
        report_test(&result);
        Ok(exit_code(result.success))
    }
}
