//! Prints a contact as SuperOffice sends it. The connection comes from environment variables, for example
//! `SUPEROFFICE_URL` and `SUPEROFFICE_ACCESS_TOKEN`:
//!
//! ```sh
//! cargo run -p superoffice-client --example read_contact 21
//! ```

use superoffice_client::{Client, settings};
use superoffice_webhook::env::Environment;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let id = std::env::args().nth(1).ok_or("the id of a contact is missing")?.parse()?;
    let lookup = |name: &str| std::env::var(name).ok();
    let mut environment = Environment::new(&lookup);
    let connection = settings::connection(&mut environment);
    let client = Client::new(environment.finish(connection)?)?;
    match client.contact(id).await? {
        Some(json) => println!("{json}"),
        None => eprintln!("there is no contact {id}"),
    }
    Ok(())
}
