//! The program as a process.

use std::process::Stdio;

use tokio::process::Command;

#[tokio::test]
async fn invalid_configuration_ends_the_process_before_any_invocation() {
    let output = Command::new(env!("CARGO_BIN_EXE_watchdog"))
        .env_clear()
        .env("SUPEROFFICE_ACCESS_TOKEN", "hunter2")
        .env("WATCHDOG_MODE", "attack")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "invalid configuration:\
         \n  SUPEROFFICE_URL is not set, nor is SUPEROFFICE_TENANT\
         \n  WEBHOOK_URL is not set\
         \n  LOG_GROUP_NAME is not set\
         \n  AWS_LAMBDA_LOG_GROUP_NAME is not set\
         \n  WATCHDOG_MODE is neither `report` nor `act`\n"
    );
}
