//! The layers of the workspace: programs use libraries, and no Lambda function links what only another program needs.

use std::process::Command;

/// Returns the names of all packages that a package is built from, itself included.
fn packages(package: &str) -> Vec<String> {
    let arguments = ["tree", "--locked", "--offline", "--edges=normal,build", "--prefix=none", "--format={p}"];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--package", package])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

const PROGRAMS: &[&str] = &["so-webhook", "watchdog", "consumer", "clap"];
const SQS: &[&str] = &["aws-sdk-sqs", "lambda_http"];
const AWS: &[&str] = &["aws-config", "aws-sdk-cloudwatchlogs", "aws-smithy-runtime"];

/// Each member, and the packages that it must not be built from.
const RULES: [(&str, &[&[&str]]); 9] = [
    ("superoffice-webhook", &[PROGRAMS, &["reqwest", "superoffice-client", "superoffice-consumer", "recovery"]]),
    ("superoffice-client", &[PROGRAMS, SQS, AWS, &["lambda_runtime"]]),
    ("superoffice-consumer", &[PROGRAMS, SQS, AWS, &["lambda_runtime", "reqwest"]]),
    ("aws-setup", &[PROGRAMS, SQS, &["lambda_runtime", "reqwest", "superoffice-webhook"]]),
    ("recovery", &[PROGRAMS, SQS, &["lambda_runtime", "tenants"]]),
    ("tenants", &[PROGRAMS, SQS, &["lambda_runtime", "recovery"]]),
    ("consumer", &[&["so-webhook", "watchdog", "clap", "aws-sdk-cloudwatchlogs"], SQS]),
    ("watchdog", &[&["so-webhook", "consumer", "clap"], SQS]),
    ("mirror", &[&["so-webhook", "watchdog", "consumer", "recovery", "clap"], SQS]),
];

#[test]
fn each_member_links_only_what_its_layer_needs() {
    for (member, excluded) in RULES {
        let packages = packages(member);
        assert!(packages.iter().any(|name| name == member), "{member}");
        for name in excluded.iter().copied().flatten() {
            assert!(!packages.iter().any(|package| package == name), "{member} links {name}");
        }
    }
}
