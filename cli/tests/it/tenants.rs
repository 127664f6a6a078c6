//! Commands for a list of tenants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fake_superoffice::{Clock, Fault, LOG_GROUP, Logs, Reply, SECRET, START, SuperOffice, TOKEN, Transport};
use serde_json::{Value, json};
use superoffice_webhook::MasterSecret;
use test_support::ssm::{KEY_DENIED, ParameterStore};
use test_support::{ClosedPort, Process};

use crate::{Run, command, run_command, run_with};

const PATH: &str = "/superoffice/my-app";
const MASTER: &str = "0123456789abcdef0123456789abcdef";

/// Some tenants, and their list.
struct TestBed {
    store: ParameterStore,
    logs: Arc<Logs>,
    tenants: Vec<SuperOffice>,
}

impl TestBed {
    async fn start(names: &[&str]) -> Self {
        let store = ParameterStore::start().await;
        let logs = Arc::new(Logs::start().await);
        logs.create(LOG_GROUP);
        let mut tenants = Vec::new();
        for name in names {
            let clock = Clock::fixed(START.parse().unwrap());
            let log = Arc::clone(&logs);
            let transport: Transport = Arc::new(move |delivery| {
                let body: Value = serde_json::from_slice(&delivery.body).unwrap();
                if body["Event"] != "test" {
                    write_line(&log, &body["Event"], &body["ContextIdentifier"], &body["PrimaryKey"]);
                }
                Box::pin(async { Ok(Reply::status(200)) })
            });
            let tenant = SuperOffice::start_named(name, "127.0.0.1:0", clock, transport, 0.0).await;
            tenant.accept_token(TOKEN);
            store.put(&parameter(name), json!({"url": tenant.url(), "accessToken": TOKEN}));
            tenants.push(tenant);
        }
        Self { store, logs, tenants }
    }

    fn variables(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("SUPEROFFICE_TENANTS_PARAMETER", PATH.to_owned()),
            ("SUPEROFFICE_TENANT_MASTER_SECRET", MASTER.to_owned()),
            ("WEBHOOK_URL", "https://hooks.example.com/webhook/{tenant}".to_owned()),
            ("LOG_GROUP_NAME", LOG_GROUP.to_owned()),
            ("AWS_ENDPOINT_URL_SSM", self.store.url()),
            ("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", self.logs.url()),
            ("AWS_REGION", "eu-north-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "key".to_owned()),
        ])
    }

    /// Writes the line of an event of a contact that was forwarded now.
    fn forward(&self, tenant: &str, contact: i64) {
        write_line(&self.logs, &json!("contact.created"), &json!(tenant), &json!(contact));
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        let run = run_with(self.variables(), arguments).await;
        for text in [&run.stdout, &run.stderr] {
            assert!(!text.contains(MASTER), "{text}");
        }
        run
    }

    fn requests(&self) -> Vec<usize> {
        self.tenants.iter().map(|tenant| tenant.requests().len()).collect()
    }
}

fn write_line(logs: &Logs, event: &Value, tenant: &Value, key: &Value) {
    let line = json!({"outcome": "forwarded", "event": event, "contextIdentifier": tenant, "primaryKey": key});
    logs.write(LOG_GROUP, START.parse().unwrap(), line.to_string());
}

fn parameter(name: &str) -> String {
    format!("{PATH}/{name}")
}

#[tokio::test]
async fn secrets_of_all_tenants_are_rotated_and_a_failing_tenant_affects_no_other() {
    let bed = TestBed::start(&["Cust1", "Cust2", "Cust3"]).await;
    bed.store.put(&parameter("Cust4"), "{}");
    bed.store.lock(&parameter("Cust4"), KEY_DENIED);
    bed.tenants[1].revoke_token(TOKEN);
    let first = bed.run(&["register", "--all", "--name", "Events", "--json"]).await;
    assert_eq!(first.status, 2, "{}", first.stderr);
    let names: Vec<_> = first.lines().iter().map(|line| (line["tenant"].clone(), line["name"].clone())).collect();
    let states = "Events (state)";
    let row = |tenant: &str, name: &str| (json!(tenant), if name.is_empty() { Value::Null } else { json!(name) });
    assert_eq!(
        names,
        [
            row("Cust1", "Events"),
            row("Cust1", states),
            row("Cust2", ""),
            row("Cust3", "Events"),
            row("Cust3", states),
            row("Cust4", ""),
        ]
    );
    let refused = "GET Webhook: the credentials are invalid or expired (401)";
    let locked = "tenant Cust4: the parameter cannot be used: its value cannot be decrypted";
    assert_eq!(first.lines()[2], json!({"tenant": "Cust2", "error": refused}));
    assert_eq!(first.lines()[5], json!({"tenant": "Cust4", "error": locked}));
    let created =
        |name| format!("{name}: webhook for contacts: created\n{name}: webhook for webhook states: created\n");
    let summary = "4 tenants: 2 well, 0 need attention, 2 failed\n";
    let (one, three) = (created("Cust1"), created("Cust3"));
    assert_eq!(first.stderr, format!("{one}Cust2: {refused}\n{three}Cust4: {locked}\n{summary}"));
    for (index, name) in [(0, "Cust1"), (2, "Cust3")] {
        let webhooks = bed.tenants[index].webhooks();
        let secret = MASTER.parse::<MasterSecret>().unwrap().derive_text(name);
        assert_eq!(webhooks.len(), 2);
        for webhook in &webhooks {
            assert_eq!(webhook.properties["Secret"], json!(secret));
            assert_eq!(webhook.properties["TargetUrl"], json!(format!("https://hooks.example.com/webhook/{name}")));
        }
    }

    // The events of one tenant's webhook are its own.
    let id = bed.tenants[0].webhooks()[0].id;
    let events = json!(["contact.created", "contact.resync", "person.changed"]);
    bed.tenants[0].set_property(id, "Events", events.clone());
    bed.store.delete(&parameter("Cust2"));
    bed.store.delete(&parameter("Cust4"));
    let mut variables = bed.variables();
    variables.insert("SUPEROFFICE_TENANT_MASTER_SECRET", MASTER.replace("0123", "3210"));
    let rotated = run_with(variables, &["register", "--all"]).await;
    let changed = |name| {
        format!(
            "{name}: webhook for contacts: changed\n  Secret: replaced\n{name}: webhook for webhook states: changed\n  Secret: replaced\n"
        )
    };
    let summary = "2 tenants: 2 well, 0 need attention, 0 failed\n";
    assert_eq!((rotated.status, rotated.stderr), (0, format!("{}{}{summary}", changed("Cust1"), changed("Cust3"))));
    let secret = MASTER.replace("0123", "3210").parse::<MasterSecret>().unwrap().derive_text("Cust1");
    let webhook = &bed.tenants[0].webhooks()[0];
    assert_eq!((&webhook.properties["Secret"], &webhook.properties["Events"]), (&json!(secret), &events));
}

#[tokio::test]
async fn one_tenant_is_selected_without_regard_to_case() {
    let bed = TestBed::start(&["Cust1", "Cust2"]).await;
    let registered = bed.run(&["register", "--tenant", "cust2"]).await;
    let created = "webhook for contacts: created\nwebhook for webhook states: created\n";
    assert_eq!((registered.status, registered.stderr.as_str()), (0, created));
    assert_eq!(bed.requests()[0], 0);
    let id = bed.tenants[1].webhooks()[0].id;
    let status = bed.run(&["status", "--tenant", "CUST2", "--json"]).await;
    assert_eq!(
        (status.status, &status.lines()[0]["tenant"], &status.lines()[0]["webhookId"]),
        (0, &json!("Cust2"), &json!(id))
    );

    bed.tenants[1].clear_requests();
    let none = "the list has 2 tenants; --tenant selects one, --all selects all\n";
    for command in ["register", "status", "test"] {
        let run = bed.run(&[command]).await;
        assert_eq!((run.status, run.stderr.as_str()), (2, none), "{command}");
        let run = bed.run(&[command, "--tenant", "Cust9"]).await;
        assert_eq!((run.status, run.stderr.as_str()), (2, "the tenant Cust9 is not in the list of tenants\n"));
    }
    for arguments in [&["activate"][..], &["deactivate"], &["unregister", "--yes"]] {
        let run = bed.run(arguments).await;
        assert_eq!((run.status, run.stderr.as_str()), (2, "the list has 2 tenants; --tenant selects one\n"));
    }
    assert_eq!(bed.requests(), [0, 0]);
    assert_eq!(bed.run(&["unregister", "--yes", "--tenant", "Cust2"]).await.status, 0);
    assert_eq!(bed.tenants[1].webhooks().len(), 0);

    bed.store.delete(&parameter("Cust1"));
    assert_eq!(bed.run(&["register"]).await.status, 0);
}

#[tokio::test]
async fn status_names_each_tenant_and_shows_which_is_paused() {
    let bed = TestBed::start(&["Cust1", "Cust2"]).await;
    assert_eq!(bed.run(&["register", "--all"]).await.status, 0);
    let entry = json!({"url": bed.tenants[1].url(), "accessToken": TOKEN, "paused": true});
    bed.store.put(&parameter("Cust2"), entry);
    let status = bed.run(&["status", "--all"]).await;
    let ids: Vec<_> = bed.tenants.iter().flat_map(|tenant| tenant.webhooks()).map(|webhook| webhook.id).collect();
    let active = |tenant, id, name| format!("{tenant}: {id} superoffice-webhook{name}: Active, 0 consecutive errors\n");
    let expected = [
        active("Cust1", ids[0], ""),
        active("Cust1", ids[1], " (state)"),
        "Cust2: paused: the watchdog and audits leave this tenant out\n".to_owned(),
        active("Cust2", ids[2], ""),
        active("Cust2", ids[3], " (state)"),
    ];
    assert_eq!((status.status, status.stdout), (0, expected.concat()));
    assert_eq!(status.stderr, "2 tenants: 2 well, 0 need attention, 0 failed\n");
    let lines = bed.run(&["status", "--all", "--json"]).await.lines();
    assert_eq!((&lines[1]["paused"], &lines[2]["paused"]), (&Value::Null, &json!(true)));

    let id = bed.tenants[0].webhooks()[0].id;
    bed.tenants[0].set_property(id, "State", json!("Stopped"));
    let status = bed.run(&["status", "--all"]).await;
    assert_eq!(status.status, 1);
    assert_eq!(status.stderr, "2 tenants: 1 well, 1 need attention, 0 failed\n");
    let test = bed.run(&["test", "--all"]).await;
    let succeeded =
        "Cust1: the test succeeded\nCust2: the test succeeded\n2 tenants: 2 well, 0 need attention, 0 failed\n";
    assert_eq!((test.status, test.stderr.as_str()), (0, succeeded));
}

#[tokio::test]
async fn wrong_usage_with_a_list_makes_no_call() {
    let bed = TestBed::start(&["Cust1", "Cust2"]).await;
    let mut variables = bed.variables();
    variables.insert("WEBHOOK_URL", "https://hooks.example.com/webhook".to_owned());
    let run = run_with(variables.clone(), &["register", "--all"]).await;
    let expected =
        "WEBHOOK_URL must contain {tenant} to register several tenants with SUPEROFFICE_TENANT_MASTER_SECRET\n";
    assert_eq!((run.status, run.stderr.as_str()), (2, expected));
    variables.insert("SUPEROFFICE_TENANT", "Cust1".to_owned());
    let run = run_with(variables, &["status", "--all"]).await;
    let expected =
        "invalid configuration:\n  SUPEROFFICE_TENANT: set, and so is SUPEROFFICE_TENANTS_PARAMETER; set one of them\n";
    assert_eq!((run.status, run.stderr.as_str()), (2, expected));
    for name in ["Cust1", "Cust2"] {
        bed.store.delete(&parameter(name));
    }
    let run = bed.run(&["status", "--all"]).await;
    let expected =
        "the list of tenants is empty: there is no parameter directly below /superoffice/my-app in eu-north-1\n";
    assert_eq!((run.status, run.stderr.as_str()), (2, expected));
    assert_eq!(bed.requests(), [0, 0]);
}

#[tokio::test]
async fn interrupted_registration_is_completed_by_its_last_line() {
    let bed = TestBed::start(&["Cust1", "Cust2"]).await;
    for signal in ["TERM", "INT"] {
        bed.tenants[0].script("GET Webhook", [Fault::Slow(Duration::from_secs(1))]);
        bed.tenants[0].clear_requests();
        let arguments = ["register", "--all", "--errors-email", "ops@example.com"];
        let start = |process: Process, argument: &&str| process.arg(argument);
        let process = arguments.iter().fold(Process::new(env!("CARGO_BIN_EXE_so-webhook")), start);
        let mut process = process.envs(bed.variables()).start();
        while bed.requests()[0] == 0 {
            assert!(process.is_running(), "{:?}", process.stderr_lines());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.signal(signal);
        assert_eq!(process.wait().await.code(), Some(1));
        let lines = process.stderr_lines();
        let expected = [
            "2 tenants: 1 well, 0 need attention, 0 failed, 1 left",
            "interrupted; continue with: so-webhook register --all --errors-email ops@example.com",
        ];
        assert_eq!(lines[lines.len() - 2..], expected);
        assert_eq!(bed.requests()[1], 0);
        assert_eq!(bed.tenants[0].webhooks().len(), 2);
    }
    assert_eq!(bed.run(&["register", "--all", "--errors-email", "ops@example.com"]).await.status, 0);
    assert_eq!(bed.tenants[1].webhooks().len(), 2);
    assert!(!bed.tenants[1].webhooks()[0].properties["Secret"].as_str().unwrap().contains(SECRET));
}

/// Three tenants with contacts of the same ids. The log shows some of them.
#[tokio::test]
async fn missed_contacts_of_all_tenants_are_found_with_one_reading_of_the_log() {
    let bed = TestBed::start(&["Cust1", "Cust2", "Cust3"]).await;
    let contacts: Vec<_> =
        bed.tenants.iter().map(|tenant| [tenant.create_contact(), tenant.create_contact()]).collect();
    assert!(contacts.iter().all(|contact| *contact == contacts[0]));
    let [first, second] = contacts[0];
    bed.forward("cust1", first);
    bed.forward("Default", second);
    bed.forward("Cust2", first);
    bed.forward("Cust2", second);
    bed.forward("Cust4", first);
    bed.tenants[2].revoke_token(TOKEN);
    let window = ["missed", "--all", "--since", START, "--until", START];
    let missed = bed.run(&window).await;
    assert_eq!((missed.status, missed.stdout), (2, format!("Cust1: {second} created {START}\n")));
    let refused = missed.stderr.lines().nth(2).unwrap();
    assert!(
        refused.starts_with("Cust3: ") && refused.ends_with("the credentials are invalid or expired (401)"),
        "{refused}"
    );
    let expected = [
        "Cust1: 2 contacts changed, 1 missed",
        "Cust2: 2 contacts changed, 0 missed",
        refused,
        "3 tenants: 1 well, 1 need attention, 1 failed",
    ];
    assert_eq!(missed.stderr.lines().collect::<Vec<_>>(), expected);
    assert_eq!(bed.logs.requests(), 1);

    let missed = bed.run(&[&window[..], &["--json"]].concat()).await.lines();
    assert_eq!(missed[0], json!({"tenant": "Cust1", "primaryKey": second, "change": "created", "at": START}));
    assert_eq!((&missed[1]["tenant"], missed[1]["error"].is_string(), missed.len()), (&json!("Cust3"), true, 2));
    let one = bed.run(&["missed", "--tenant", "cust2", "--since", START, "--until", START]).await;
    assert_eq!((one.status, one.stdout.as_str(), one.stderr.as_str()), (0, "", "2 contacts changed, 0 missed\n"));
}

#[tokio::test]
async fn check_posts_for_every_tenant_even_to_one_url() {
    let bed = TestBed::start(&["Cust1", "Cust2"]).await;
    bed.store.put(&parameter("Cust3"), "{}");
    let port = ClosedPort::bind();
    let mut variables = bed.variables();
    variables.remove("LOG_GROUP_NAME");
    variables.remove("SUPEROFFICE_TENANT_MASTER_SECRET");
    variables.insert("SUPEROFFICE_WEBHOOK_SECRET", SECRET.to_owned());
    let check = run_with(variables, &["check", &format!("{}/webhook", port.url()), "--json"]).await;
    let lines = check.lines();
    let found: Vec<_> =
        lines.iter().map(|line| (line["tenant"].as_str().unwrap(), line["check"].as_str().unwrap())).collect();
    let expected = ["Cust1", "Cust2"].map(|tenant| ["unsigned", "probe", "event"].map(|check| (tenant, check)));
    assert_eq!((check.status, found), (1, [&expected.concat()[..], &[("Cust3", "tenant")]].concat()));
    let errors: Vec<_> =
        lines.iter().filter_map(|line| Some((line["tenant"].as_str()?, line["error"].as_str()?))).collect();
    let reason = lines[6]["message"].as_str().unwrap();
    assert_eq!(errors, [("Cust3", format!("tenant Cust3: the parameter cannot be used: {reason}").as_str())]);
}

#[tokio::test]
async fn failure_of_a_single_tenant_is_one_object() {
    let bed = TestBed::start(&["Cust1"]).await;
    let run = async |command: &[&str], options: &[&str]| bed.run(&[command, options, &["--json"]].concat()).await;
    let commands = [&["register"][..], &["status"], &["activate"], &["deactivate"], &["missed", "--since", START]];
    bed.tenants[0].revoke_token(TOKEN);
    for command in commands {
        let run = run(command, &[]).await;
        let error = run.stderr.trim_end();
        assert!(error.ends_with("the credentials are invalid or expired (401)"), "{error}");
        assert_eq!((run.status, run.lines()), (2, vec![json!({"tenant": "Cust1", "error": error})]), "{command:?}");
    }
    bed.store.lock(&parameter("Cust1"), KEY_DENIED);
    let error = "tenant Cust1: the parameter cannot be used: its value cannot be decrypted";
    for command in commands {
        for options in [&[][..], &["--tenant", "cust1"]] {
            let run = run(command, options).await;
            assert_eq!((run.status, run.stderr.trim_end()), (2, error), "{command:?}");
            assert_eq!(run.lines(), [json!({"tenant": "Cust1", "error": error})], "{command:?}");
        }
    }
}

#[tokio::test]
async fn reader_that_goes_away_ends_status_before_the_next_tenant() {
    let bed = TestBed::start(&["Cust1", "Cust2"]).await;
    assert_eq!(bed.run(&["register", "--all"]).await.status, 0);
    bed.tenants[1].clear_requests();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command(bed.variables(), &["status", "--all"]);
    command.stdout(writer);
    let run = run_command(command).await;
    assert_eq!((run.status, run.stderr.as_str(), bed.requests()[1]), (1, "", 0));
}

#[tokio::test]
async fn missed_contacts_of_all_tenants_are_signaled_and_a_failing_tenant_affects_no_other() {
    let bed = TestBed::start(&["Cust1", "Cust2", "Cust3"]).await;
    assert_eq!(bed.run(&["register", "--all"]).await.status, 0);
    let lose = |tenant: &SuperOffice| {
        tenant.pause_sender(true);
        let contact = tenant.create_contact();
        tenant.lose_waiting_events();
        tenant.pause_sender(false);
        contact
    };
    let contacts: Vec<i64> = bed.tenants.iter().map(lose).collect();
    let contact = contacts[0];
    assert_eq!(contacts, [contact; 3]);
    bed.tenants[1].script("POST Webhook/contact.resync", [Fault::Status(403)]);
    let signals = || -> Vec<usize> {
        let is_signal = |path: &str| path == format!("Webhook/contact.resync/{contact}");
        let requests = bed.tenants.iter().map(SuperOffice::requests);
        requests.map(|requests| requests.iter().filter(|request| is_signal(&request.path)).count()).collect()
    };
    let resync = ["missed", "--all", "--since", START, "--until", START, "--resync"];
    let missed = bed.run(&resync).await;
    let line = |tenant: &str| format!("{tenant}: {contact} created {START}\n");
    assert_eq!((missed.status, missed.stdout), (2, [line("Cust1"), line("Cust2"), line("Cust3")].concat()));
    let last = missed.stderr.lines().last();
    assert_eq!(last, Some("3 tenants: 2 well, 0 need attention, 1 failed"), "{}", missed.stderr);
    assert_eq!(signals(), [1, 1, 1]);

    // The events of the other tenants are in the log.
    let missed = bed.run(&resync).await;
    assert_eq!((missed.status, missed.stdout), (0, line("Cust2")), "{}", missed.stderr);
    assert_eq!(signals(), [1, 2, 1]);
}
