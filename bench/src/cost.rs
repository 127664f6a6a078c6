//! The cost of a million events, from public prices and from the measured duration and log size.

use crate::measure::{Samples, percentile};
use crate::peers::{FUNCTION, Peer};
use crate::report::{markdown, wrap};

/// Prices in US dollars in US East (N. Virginia), without free tiers and volume discounts.
mod price {
    /// The month of these prices.
    pub(crate) const DATE: &str = "June 2026";
    pub(crate) const HTTP_API_REQUESTS: f64 = 1.00;
    pub(crate) const LAMBDA_REQUESTS: f64 = 0.20;
    pub(crate) const LAMBDA_GB_SECOND_X86: f64 = 0.000_016_666_7;
    pub(crate) const LAMBDA_GB_SECOND_ARM: f64 = 0.000_013_333_4;
    pub(crate) const SQS_STANDARD_REQUESTS: f64 = 0.40;
    pub(crate) const SQS_FIFO_REQUESTS: f64 = 0.50;
    pub(crate) const LOGS_GB: f64 = 0.50;
    pub(crate) const XRAY_TRACE: f64 = 5.00;
    pub(crate) const METRIC_A_MONTH: f64 = 0.30;
    pub(crate) const ALARM_A_MONTH: f64 = 0.10;
    pub(crate) const DASHBOARD_A_MONTH: f64 = 3.00;
}

const MILLION: f64 = 1e6;
const MEMORY_GB: f64 = 0.125;

/// The assumed response time of a queue in the same region.
const SQS_ROUND_TRIP_MS: f64 = 10.0;

/// The size of Lambda's own log lines of an invocation (`START`, `END`, `REPORT`), in bytes.
const PLATFORM_LINES: f64 = 320.0;

/// The size of a line in the API's access log, in bytes.
const ACCESS_LINE: f64 = 430.0;

/// The bytes that CloudWatch adds to each line: Lambda's three, the function's, and the API's.
const LINE_OVERHEAD: f64 = 5.0 * 26.0;

/// The share of traced invocations, of many events per second.
const TRACED: f64 = 0.05;

/// The metrics in the function's log line.
const METRICS: f64 = 12.0;

/// Returns the number of alarms in the template.
fn alarms() -> f64 {
    include_str!("../../template.yaml").matches("Type: AWS::CloudWatch::Alarm").count() as f64
}

/// Returns the table and the assumptions for docs/benchmarks.md.
pub(crate) fn text(peers: &[(Peer, Samples)]) -> String {
    let Some((_, own)) = peers.iter().find(|(peer, _)| peer.name == FUNCTION) else {
        return "This function was not measured.\n".into();
    };
    let warm = percentile(&own.warm_p50, 50);
    let line = percentile(&own.log_bytes, 50);
    let billed_ms = (warm + SQS_ROUND_TRIP_MS).ceil();
    let gb_seconds = MILLION * MEMORY_GB * billed_ms / 1000.0;
    let logged_gb = MILLION * (line + PLATFORM_LINES + ACCESS_LINE + LINE_OVERHEAD) / 1e9;
    let monthly = METRICS * price::METRIC_A_MONTH + alarms() * price::ALARM_A_MONTH + price::DASHBOARD_A_MONTH;
    let arm = format!("on Arm {:.2}", gb_seconds * price::LAMBDA_GB_SECOND_ARM);
    let fifo = format!("FIFO {:.2}", price::SQS_FIFO_REQUESTS);
    let mut items = [
        ("API Gateway: 1 request to an HTTP API", price::HTTP_API_REQUESTS, String::new()),
        ("Lambda: 1 request", price::LAMBDA_REQUESTS, String::new()),
        ("Lambda: duration", gb_seconds * price::LAMBDA_GB_SECOND_X86, arm),
        ("SQS: 1 `SendMessage` of up to 64 KB", price::SQS_STANDARD_REQUESTS, fifo),
        ("CloudWatch: logs", logged_gb * price::LOGS_GB, format!("{:.0} bytes per event", logged_gb * 1000.0)),
        ("X-Ray: 1 trace in 20 events", TRACED * price::XRAY_TRACE, String::new()),
    ];
    items.sort_by(|(_, one, _), (_, other, _)| other.total_cmp(one));
    let total: f64 = items.iter().map(|(_, dollars, _)| dollars).sum();

    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["a million events", "US$", ""]), row(["---", "---:", "---"])];
    rows.extend(items.iter().map(|(item, dollars, note)| row([item, &format!("{dollars:.2}"), note])));
    rows.push(row(["**total**", &format!("**{total:.2}**"), ""]));

    let (largest, dollars, _) = &items[0];
    let share = 100.0 * dollars / total;
    let prices = wrap(&format!(
        "The largest item is {largest}, {share:.0} % of the total. Metrics, alarms and the dashboard cost US$ \
         {monthly:.2} a month in addition. These are public prices of US East (N. Virginia), {}, without free tiers.",
        price::DATE
    ));
    let assumptions = wrap(&format!(
        "The duration at 128 MB is the warm median above, {warm:.2} ms, plus an assumed {SQS_ROUND_TRIP_MS:.0} ms for a \
         queue in the same region. It is rounded up to {billed_ms:.0} ms. The function's log line has {line:.0} bytes \
         (measured), Lambda's own lines about {PLATFORM_LINES:.0}, and the API's {ACCESS_LINE:.0}. CloudWatch adds 26 \
         bytes to each line."
    ));
    format!("{}\n{prices}\n{assumptions}", markdown(&rows))
}
