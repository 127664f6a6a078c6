//! A SuperOffice tenant as a program, for demonstrations: one host, and a sender with its real waits.

use std::path::PathBuf;

use clap::Parser;
use fake_superoffice::{Clock, Kind, SuperOffice, TENANT, http_transport};
use jiff::SignedDuration;

/// Plays a SuperOffice tenant until it is interrupted. The first line of its output is the tenant's base URL.
#[derive(Parser)]
struct Options {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    address: String,
    /// The tenant's name
    #[arg(long, default_value = TENANT)]
    tenant: String,
    /// An access token to accept
    #[arg(long)]
    token: Option<String>,
    /// A user and password to accept, separated by a colon
    #[arg(long)]
    user: Option<String>,
    /// Certificates to trust for deliveries, in PEM, besides the system's
    #[arg(long)]
    certificates: Vec<PathBuf>,
    /// The length of the sender's waits between attempts: 1 for 1 s and 4 s
    #[arg(long, default_value_t = 1.0)]
    pace: f64,
    /// The number of seconds by which the tenant's clock is slow
    #[arg(long, default_value_t = 0)]
    slow_clock: i64,
    /// The number of contacts that are a year old
    #[arg(long, default_value_t = 0)]
    contacts: i64,
    /// The number of persons that are a year old
    #[arg(long, default_value_t = 0)]
    persons: i64,
}

/// The age of the first contacts and persons.
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let certificates = options.certificates.iter().map(std::fs::read_to_string).collect::<Result<Vec<_>, _>>()?;
    let clock = Clock::system().slowed(options.slow_clock);
    let (address, transport) = (&options.address, http_transport(&certificates));
    let registered = clock.now() - YEAR;
    let superoffice = SuperOffice::start_named(&options.tenant, address, clock, transport, options.pace).await;
    superoffice.import(Kind::Contact, options.contacts, registered);
    superoffice.import(Kind::Person, options.persons, registered);
    if let Some(token) = &options.token {
        superoffice.accept_token(token);
    }
    if let Some((user, password)) = options.user.as_deref().and_then(|user| user.split_once(':')) {
        superoffice.accept_user(user, password);
    }
    println!("{}", superoffice.url());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
