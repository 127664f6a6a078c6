//! SuperOffice's part: signs bodies, posts them, and writes the sample events.
//!
//! ```sh
//! cargo run --example sign -- signature --secret 'the secret' body.json
//! cargo run --example sign -- post --secret 'the secret' https://… body.json
//! cargo run --example sign -- envelopes
//! ```

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Parser;
use superoffice_webhook::signature::Secret;

#[path = "../tests/support/envelope.rs"]
mod envelope;

/// Signs bodies as SuperOffice does, posts them, and writes the sample events.
#[derive(Parser)]
enum Command {
    /// Print the signature of a body: the value of X-SuperOffice-Signature
    Signature {
        #[command(flatten)]
        secret: SecretOption,
        /// The body, byte for byte; `-` for standard input
        file: PathBuf,
    },
    /// Post a body to a URL as SuperOffice does, and print the answer; fails unless it is 200
    Post {
        #[command(flatten)]
        secret: SecretOption,
        /// The webhook's URL
        url: String,
        /// The body, byte for byte; `-` for standard input
        file: PathBuf,
    },
    /// Rewrite events/*.json from events/payloads, signed with the sample secret
    Envelopes,
}

#[derive(clap::Args)]
struct SecretOption {
    /// The webhook's secret
    #[arg(long, env = "SUPEROFFICE_WEBHOOK_SECRET", hide_env_values = true)]
    secret: String,
}

impl SecretOption {
    fn sign(&self, body: &[u8]) -> Result<String, Box<dyn Error>> {
        Ok(Secret::new(&self.secret)?.sign(body).to_string())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    match Command::parse() {
        Command::Signature { secret, file } => println!("{}", secret.sign(&read(&file)?)?),
        Command::Post { secret, url, file } => post(&secret, &url, &read(&file)?)?,
        Command::Envelopes => {
            for (path, text) in envelope::envelopes(Path::new(env!("CARGO_MANIFEST_DIR")))? {
                fs::write(&path, text)?;
                println!("{}", path.display());
            }
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    if file == Path::new("-") {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body)?;
        return Ok(body);
    }
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn post(secret: &SecretOption, url: &str, body: &[u8]) -> Result<(), Box<dyn Error>> {
    let signature = secret.sign(body)?;
    // SuperOffice takes nothing but 200 for an answer, and follows no redirect.
    let agent = ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().new_agent();
    let mut request = agent.post(url);
    for (name, value) in envelope::superoffice_headers(body, Some(&signature), None) {
        request = request.header(name, value);
    }
    let mut response = request.send(body)?;
    println!("{}\n{}", response.status(), response.body_mut().read_to_string()?);
    if response.status() == 200 { Ok(()) } else { Err("the answer is not 200".into()) }
}
