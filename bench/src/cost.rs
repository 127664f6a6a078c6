//! The cost of a month, from public prices, the template's settings, and the measured duration and log size.

use crate::measure::{Samples, percentile};
use crate::peers::{FUNCTION, Peer};
use crate::report::{markdown, wrap};

const TEMPLATE: &str = include_str!("../../template.yaml");

/// Prices in US dollars in US East (N. Virginia), without free tiers and volume discounts. A price of requests is that
/// of a million, except that of KMS.
pub(crate) mod price {
    /// The month of these prices.
    pub(crate) const DATE: &str = "June 2026";
    pub(crate) const HTTP_API_REQUESTS: f64 = 1.00;
    pub(crate) const LAMBDA_REQUESTS: f64 = 0.20;
    pub(crate) const LAMBDA_GB_SECOND_X86: f64 = 0.000_016_666_7;
    pub(crate) const LAMBDA_GB_SECOND_ARM: f64 = 0.000_013_333_4;
    pub(crate) const SQS_STANDARD_REQUESTS: f64 = 0.40;
    pub(crate) const SQS_FIFO_REQUESTS: f64 = 0.50;
    pub(crate) const LOGS_GB: f64 = 0.50;
    pub(crate) const XRAY_TRACES: f64 = 5.00;
    pub(crate) const METRIC: f64 = 0.30;
    pub(crate) const ALARM: f64 = 0.10;
    pub(crate) const COMPOSITE_ALARM: f64 = 0.50;
    pub(crate) const DASHBOARD: f64 = 3.00;
    pub(crate) const KMS_10_000: f64 = 0.03;
}

const MILLION: f64 = 1e6;
const MONTH_SECONDS: f64 = 30.0 * 24.0 * 3600.0;
const MEMORY_GB: f64 = 0.125;

/// The assumed response time of a queue in the same region.
const SQS_ROUND_TRIP_MS: f64 = 10.0;

/// The bytes that CloudWatch adds to each line.
pub(crate) const LINE_OVERHEAD: f64 = 26.0;

/// Lambda's own lines of an invocation at INFO, `platform.start` and `platform.report`, in bytes. At WARN, the
/// template's setting, Lambda writes neither.
const PLATFORM_LINES: f64 = 488.0 + 2.0 * LINE_OVERHEAD;

/// The function's metrics, and the API's metric `Throttled`. Only those with data in an hour are billed.
const METRICS: f64 = 13.0;

/// Returns the cost of logs for a million lines of each of these sizes.
fn logs(lines: &[f64]) -> f64 {
    let bytes: f64 = lines.iter().map(|line| line + LINE_OVERHEAD).sum();
    MILLION * bytes / 1e9 * price::LOGS_GB
}

/// Returns the cost of the duration of a million invocations. Lambda rounds each up to a millisecond.
fn duration(ms: f64, gb_second: f64) -> f64 {
    MILLION * MEMORY_GB * ms.ceil() / 1000.0 * gb_second
}

/// Returns the share of invocations that Lambda traces: the first of each second and 5 % of the others. Arrivals are
/// independent of each other.
fn traced(per_second: f64) -> f64 {
    let first = 1.0 - (-per_second).exp();
    (first + 0.05 * (per_second - first)) / per_second
}

/// Returns the size of a line in the API's access log, whose format is in the template.
fn access_line() -> f64 {
    let format = TEMPLATE.lines().find(|line| line.contains("$context.apiId")).unwrap_or_default().trim();
    let values = [
        ("$context.integration.requestId", "8f507cfc-1cd4-4b8c-8d3e-3b0a2a7c3f10"),
        ("$context.integration.error", "-"),
        ("$context.identity.sourceIp", "203.0.113.100"),
        ("$context.responseLatency", "15"),
        ("$context.apiId", "a1b2c3d4e5"),
        ("$context.status", "200"),
    ];
    let line = values.iter().fold(format.to_owned(), |line, (name, value)| line.replace(name, value));
    assert!(!line.is_empty() && !line.contains('$'), "another access log format: {line}");
    line.len() as f64
}

/// Returns the default of a numeric parameter of the template.
fn parameter(name: &str) -> f64 {
    let (_, definition) = TEMPLATE.split_once(&format!("\n  {name}:\n")).unwrap();
    let (_, default) = definition.split_once("Default: ").unwrap();
    default.lines().next().unwrap().parse().unwrap()
}

/// Returns the tables and the assumptions for docs/benchmarks.md.
pub(crate) fn text(peers: &[(Peer, Samples)], rejection_line: f64) -> String {
    let Some((_, own)) = peers.iter().find(|(peer, _)| peer.name == FUNCTION) else {
        return "This function was not measured.\n".into();
    };
    let warm = percentile(&own.warm_p50, 50);
    let line = percentile(&own.log_bytes, 50);
    let access_line = access_line();
    let billed_ms = (warm + SQS_ROUND_TRIP_MS).ceil();

    let mut items = [
        ("API Gateway: 1 request to an HTTP API", price::HTTP_API_REQUESTS),
        ("Lambda: 1 request", price::LAMBDA_REQUESTS),
        ("Lambda: duration", duration(billed_ms, price::LAMBDA_GB_SECOND_X86)),
        ("SQS: 1 `SendMessage` of up to 64 KB to a FIFO queue", price::SQS_FIFO_REQUESTS),
        ("CloudWatch: 1 line each from the function and the API", logs(&[line, access_line])),
    ];
    items.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let event: f64 = items.iter().map(|(_, dollars)| dollars).sum();
    let mut rows = vec![["a million events", "US$"].map(str::to_owned).to_vec()];
    rows.extend(items.iter().map(|(item, dollars)| vec![(*item).to_owned(), format!("{dollars:.2}")]));
    rows.push(vec!["**total**".into(), format!("**{event:.2}**")]);
    let items_table = table(rows);

    let volumes = [1.0, 10.0, 100.0];
    let tracing = volumes.map(|millions| {
        let share = traced(millions * MILLION / MONTH_SECONDS);
        (share, share * millions * price::XRAY_TRACES)
    });
    let alarms = TEMPLATE.matches("Type: AWS::CloudWatch::Alarm").count() as f64;
    let fixed = METRICS * price::METRIC + alarms * price::ALARM + price::DASHBOARD;
    let by_volume = |name: &str, dollars: [f64; 3]| {
        // Adding zero turns -0.00 into 0.00.
        let cents = |dollars: f64| format!("{:.2}", (100.0 * dollars).round() / 100.0 + 0.0);
        [vec![name.to_owned()], dollars.map(cents).to_vec()].concat()
    };
    let per_million = |name: &str, dollars: f64| by_volume(name, volumes.map(|millions| millions * dollars));
    let head = ["US$ per month", "1 million events", "10 million", "100 million"].map(str::to_owned).to_vec();
    let to_arm = duration(billed_ms, price::LAMBDA_GB_SECOND_ARM) - duration(billed_ms, price::LAMBDA_GB_SECOND_X86);
    let volumes_table = table(vec![
        head,
        per_million("events, with the template's defaults", event),
        by_volume("alarms, dashboard, and metrics at most", [fixed; 3]),
        per_million("reading: `ReceiveMessage` and `DeleteMessage` for each message", 2.0 * price::SQS_FIFO_REQUESTS),
        per_million("reading in batches of 10", 0.2 * price::SQS_FIFO_REQUESTS),
        by_volume("`Tracing=Active`", tracing.map(|(_, dollars)| dollars)),
        per_million("`SystemLogLevel: INFO` instead of `WARN`", MILLION * PLATFORM_LINES / 1e9 * price::LOGS_GB),
        per_million("`QueueType=standard`", price::SQS_STANDARD_REQUESTS - price::SQS_FIFO_REQUESTS),
        per_million("`Architecture=arm64`", to_arm),
    ]);

    let throttle = parameter("ThrottlingRateLimit");
    let flood = price::HTTP_API_REQUESTS
        + price::LAMBDA_REQUESTS
        + duration(1.0, price::LAMBDA_GB_SECOND_X86)
        + logs(&[rejection_line, access_line]);
    let flood_day = throttle * 86_400.0 / MILLION * flood;
    let shares = tracing.map(|(share, _)| format!("{:.0} %", 100.0 * share));
    let (largest, dollars) = items[0];
    let paragraphs = [
        format!(
            "The largest item is {largest}, {:.0} % of the total. These are public prices of US East (N. Virginia), {}, \
             without free tiers and volume discounts.",
            100.0 * dollars / event,
            price::DATE
        ),
        format!(
            "The duration at 128 MB is the warm median above, {warm:.2} ms, plus an assumed {SQS_ROUND_TRIP_MS:.0} ms for \
             a queue in the same region. It is rounded up to {billed_ms:.0} ms. The function's line has {line:.0} bytes \
             (measured), the API's {access_line:.0} (the template's format), and CloudWatch adds {LINE_OVERHEAD:.0} to \
             each. At `INFO`, Lambda's own two lines have about 490 bytes. With `Tracing=Active`, Lambda traces the first \
             request of each second and 5 % of the others: {}, {} and {} of events that are evenly spread over the month.",
            shares[0], shares[1], shares[2]
        ),
        format!(
            "A flood of forged requests is limited by `ThrottlingRateLimit`. At its default, {throttle:.0} per second, it \
             costs US$ {flood_day:.0} per day, {:.0} per month: {flood:.2} per million, for API Gateway, Lambda and the \
             logs, where the rejection's line has {rejection_line:.0} bytes (measured).",
            30.0 * flood_day
        ),
    ]
    .map(|paragraph| wrap(&paragraph));
    let [prices, assumptions, flood] = paragraphs;
    format!("{items_table}\n{prices}\n{volumes_table}\n{assumptions}\n{flood}")
}

/// Returns a table with right-aligned amounts. The first row is the head.
fn table(mut rows: Vec<Vec<String>>) -> String {
    let separator = (0..rows[0].len()).map(|column| if column == 0 { "---".into() } else { "---:".into() }).collect();
    rows.insert(1, separator);
    markdown(&rows)
}

#[cfg(test)]
mod tests {
    use super::{MILLION, MONTH_SECONDS, access_line, parameter, traced};

    #[test]
    fn lambda_traces_most_of_few_events_and_a_twentieth_of_many() {
        let percent = |per_second| (100.0 * traced(per_second)).round();
        assert_eq!(percent(MILLION / MONTH_SECONDS), 84.0);
        assert_eq!(percent(1e6), 5.0);
    }

    #[test]
    fn template_is_read() {
        assert!(access_line() > 100.0);
        assert_eq!(parameter("ThrottlingRateLimit"), 500.0);
    }
}
