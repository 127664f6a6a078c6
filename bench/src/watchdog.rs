//! The calls and the cost of the watchdog, for one tenant and for many, from public prices and stated assumptions.

use crate::cost::price;
use crate::report::{markdown, wrap};

const TEMPLATE: &str = include_str!("../../watchdog/template.yaml");

const MONTH_SECONDS: f64 = 30.0 * 24.0 * 3600.0;
/// The time between two runs, in seconds.
const RUN_INTERVAL: f64 = 300.0;
/// The time a process keeps the list of tenants, in seconds.
const LIST_LIFETIME: f64 = 600.0;
/// The part of the function's log that a run reads, in seconds.
const WINDOW: f64 = 68.0 * 60.0;
/// The part of the own log that a run reads, in seconds.
const OWN_WINDOW: f64 = 3600.0;
/// The quota of `FilterLogEvents` for an account and region, in calls per second. AWS does not raise it.
const QUOTA: f64 = 5.0;

/// Everything that is assumed, not measured.
mod assumed {
    /// The events of a tenant in a month.
    pub(crate) const EVENTS: f64 = 13_000.0;
    /// The bytes of a page of `FilterLogEvents`.
    pub(crate) const PAGE: f64 = 1_048_576.0;
    /// The bytes of a line of the function.
    pub(crate) const LINE: f64 = 740.0;
    /// The bytes of a visit's line, and of a run's.
    pub(crate) const OWN_LINE: f64 = 650.0;
    /// The seconds of a call to SuperOffice.
    pub(crate) const CALL: f64 = 0.15;
    /// The seconds of a call to Parameter Store, which returns ten tenants.
    pub(crate) const LIST_CALL: f64 = 0.05;
}

/// The calls to SuperOffice of a visit that finds nothing missing. A test of the watchdog counts them.
const CALLS: f64 = 7.0;
/// The seconds between two calls of `FilterLogEvents`.
const LOG_CALL: f64 = 0.55;
/// The number of tenants that are visited at the same time.
const VISITS: f64 = 24.0;
/// The number of metrics at most.
const METRICS: f64 = 8.0;

/// The figures for a number of tenants.
struct Scale {
    tenants: f64,
}

impl Scale {
    fn has_list(&self) -> bool {
        self.tenants > 1.0
    }

    /// The calls of `FilterLogEvents` of a run.
    fn log_calls(&self) -> f64 {
        let lines = self.tenants * assumed::EVENTS / MONTH_SECONDS * WINDOW;
        let own_lines = (self.tenants + 1.0) * OWN_WINDOW / RUN_INTERVAL;
        let pages = |lines: f64, bytes: f64| (lines * bytes / assumed::PAGE).ceil().max(1.0);
        pages(lines, assumed::LINE) + pages(own_lines, assumed::OWN_LINE)
    }

    /// The calls of `GetParametersByPath` of a list.
    fn list_calls(&self) -> f64 {
        if self.has_list() { (self.tenants / 10.0).ceil() } else { 0.0 }
    }

    /// The seconds of a run.
    fn seconds(&self) -> f64 {
        let visits = (self.tenants / VISITS).ceil() * CALLS * assumed::CALL;
        let list = self.list_calls() * assumed::LIST_CALL * RUN_INTERVAL / LIST_LIFETIME;
        (self.log_calls() - 1.0) * LOG_CALL + visits + list
    }

    fn runs() -> f64 {
        MONTH_SECONDS / RUN_INTERVAL
    }

    /// The cost of a month by item.
    fn dollars(&self) -> [f64; 5] {
        let memory = parameter("MemorySize") / 1024.0;
        let invocation = price::LAMBDA_REQUESTS / 1e6 + memory * self.seconds() * price::LAMBDA_GB_SECOND_X86;
        let lines = (self.tenants + 1.0) * Self::runs();
        let decryptions = if self.has_list() { self.tenants * MONTH_SECONDS / LIST_LIFETIME } else { 0.0 };
        let count = |kind: &str| TEMPLATE.matches(&format!("Type: AWS::CloudWatch::{kind}\n")).count() as f64;
        let alarms = count("Alarm") * price::ALARM + count("CompositeAlarm") * price::COMPOSITE_ALARM;
        [
            Self::runs() * invocation,
            lines * (assumed::OWN_LINE + crate::cost::LINE_OVERHEAD) / 1e9 * price::LOGS_GB,
            decryptions / 1e4 * price::KMS_10_000,
            METRICS * price::METRIC,
            alarms,
        ]
    }
}

/// Returns the number of a property of the template.
fn parameter(name: &str) -> f64 {
    let (_, value) = TEMPLATE.split_once(&format!(" {name}: ")).unwrap();
    value.lines().next().unwrap().parse().unwrap()
}

/// Returns the table and the assumptions for docs/watchdog.md.
pub(crate) fn text() -> String {
    let scales = [1.0, 100.0, 1000.0].map(|tenants| Scale { tenants });
    let row = |name: &str, figure: &dyn Fn(&Scale) -> String| {
        [vec![name.to_owned()], scales.iter().map(figure).collect()].concat()
    };
    let whole = |number: f64| format!("{number:.0}");
    let cents = |number: f64| format!("{number:.2}");
    let mut rows = vec![
        row("tenants", &|scale| whole(scale.tenants)),
        vec!["---".into(), "---:".into(), "---:".into(), "---:".into()],
        row("calls of `FilterLogEvents` per run", &|scale| whole(scale.log_calls())),
        row("share of the account's quota, %", &|scale| {
            format!("{:.1}", 100.0 * scale.log_calls() / RUN_INTERVAL / QUOTA)
        }),
        row("calls to SuperOffice per run", &|scale| whole(scale.tenants * CALLS)),
        row("calls of Parameter Store per list", &|scale| whole(scale.list_calls())),
        row("seconds per run", &|scale| format!("{:.1}", scale.seconds())),
    ];
    let items = ["Lambda", "log lines", "KMS", "metrics", "alarms"];
    for (index, item) in items.into_iter().enumerate() {
        rows.push(row(&format!("US$ per month: {item}"), &|scale| cents(scale.dollars()[index])));
    }
    rows.push(row("**US$ per month**", &|scale| format!("**{}**", cents(scale.dollars().iter().sum()))));
    let pages_of_a_run = (scales[2].log_calls() - 1.0) * LOG_CALL;
    let paragraphs = [
        format!(
            "Calculated, not measured: {:.0} events of each tenant in a month, whose lines have {:.0} bytes, with pages of \
             1 MiB; lines of {:.0} bytes for a visit; {CALLS:.0} calls to SuperOffice of {:.0} ms, and one more for every \
             further 1,000 changed contacts; {:.0} ms for a call of Parameter Store. Prices are those of US East (N. \
             Virginia), {}, without free tiers. `FilterLogEvents` and standard parameters are free of charge. Each entry \
             is decrypted every ten minutes.",
            assumed::EVENTS,
            assumed::LINE,
            assumed::OWN_LINE,
            1000.0 * assumed::CALL,
            1000.0 * assumed::LIST_CALL,
            price::DATE
        ),
        format!(
            "Reading the log costs the same for any number of tenants with the same number of events. A run for 1,000 \
             tenants waits {pages_of_a_run:.1} s for logs. The watchdog calls `FilterLogEvents` at most twice a second, and \
             AWS limits an account to {QUOTA:.0} calls per second. A call that AWS throttles is repeated up to six times, \
             with growing, random waits."
        ),
    ]
    .map(|paragraph| wrap(&paragraph));
    format!("\n{}\n{}\n{}\n", markdown(&rows), paragraphs[0], paragraphs[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table needs no measurement, so this test keeps it up to date. `make bench` writes it.
    #[test]
    fn document_has_this_table() {
        let document = include_str!("../../docs/watchdog.md");
        let (_, rest) = document.split_once("<!-- bench:watchdog -->\n").unwrap();
        let (table, _) = rest.split_once("<!-- /bench:watchdog -->").unwrap();
        assert_eq!(table, text(), "{}", text());
    }
}
