//! What a million events cost: the public prices, and what was measured of the time and of the log.

use crate::{
    measure::{Samples, percentile},
    peers::{FUNCTION, Peer},
    report::markdown,
};

/// Prices in US dollars in US East (N. Virginia), without free tiers and discounts by volume.
mod price {
    /// When they were the public ones.
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
/// An SQS queue in the same region answers more slowly than one on loopback. An assumption, not a measurement.
const SQS_ROUND_TRIP_MS: f64 = 10.0;
/// What Lambda itself logs of an invocation (`START`, `END`, `REPORT`), in bytes.
const PLATFORM_LINES: f64 = 320.0;
/// What the API's access log has of a request, in bytes.
const ACCESS_LINE: f64 = 430.0;
/// CloudWatch counts so many bytes more for each line: Lambda's three, the function's, and the API's.
const OVERHEAD: f64 = 5.0 * 26.0;
/// Of many events, the part that Lambda traces.
const TRACED: f64 = 0.05;
/// In the template.
const METRICS: f64 = 10.0;
const ALARMS: f64 = 11.0;

pub(crate) fn text(peers: &[(Peer, Samples)], machine: &str) -> String {
    let Some((_, own)) = peers.iter().find(|(peer, _)| peer.name == FUNCTION) else {
        return "This function was not measured.\n".into();
    };
    let warm = percentile(&own.warm_p50, 50);
    let line = percentile(&own.log_bytes, 50);
    let billed_ms = (warm + SQS_ROUND_TRIP_MS).ceil();
    let gb_seconds = MILLION * MEMORY_GB * billed_ms / 1000.0;
    let logged_gb = MILLION * (line + PLATFORM_LINES + ACCESS_LINE + OVERHEAD) / 1e9;
    let monthly = METRICS * price::METRIC_A_MONTH + ALARMS * price::ALARM_A_MONTH + price::DASHBOARD_A_MONTH;
    let mut items = [
        ("API Gateway: 1 request to an HTTP API", price::HTTP_API_REQUESTS, String::new()),
        ("Lambda: 1 request", price::LAMBDA_REQUESTS, String::new()),
        (
            "Lambda: duration",
            gb_seconds * price::LAMBDA_GB_SECOND_X86,
            format!("on Arm {:.2}", gb_seconds * price::LAMBDA_GB_SECOND_ARM),
        ),
        (
            "SQS: 1 `SendMessage` of up to 64 KB",
            price::SQS_STANDARD_REQUESTS,
            format!("FIFO {:.2}", price::SQS_FIFO_REQUESTS),
        ),
        ("CloudWatch: what is logged", logged_gb * price::LOGS_GB, format!("{:.0} bytes an event", logged_gb * 1000.0)),
        ("X-Ray: 1 trace in 20 events", TRACED * price::XRAY_TRACE, String::new()),
    ];
    items.sort_by(|(_, one, _), (_, other, _)| other.total_cmp(one));
    let total: f64 = items.iter().map(|(_, dollars, _)| dollars).sum();
    let mut rows = vec![["a million events", "US$", ""].map(str::to_owned), ["---", "---:", "---"].map(str::to_owned)];
    rows.extend(items.iter().map(|(item, dollars, note)| [(*item).to_owned(), format!("{dollars:.2}"), note.clone()]));
    rows.push(["**together**".into(), format!("**{total:.2}**"), String::new()]);
    let (largest, dollars, _) = &items[0];
    format!(
        "{}\nThe largest item is {largest}, {:.0} % of it all. Metrics, alarms and the dashboard cost US$ {monthly:.2} \
         a month beside it, however many events there are. Public prices of US East (N. Virginia), {}, without free \
         tiers; they change, and other regions have others.\n\n\
         Duration at 128 MB: {warm:.2} ms, the warm median on {machine}, and {SQS_ROUND_TRIP_MS:.0} ms assumed for a \
         queue in the same region, rounded up to {billed_ms:.0} ms. Logs: the function's line has {line:.0} bytes \
         (measured), Lambda's own about {PLATFORM_LINES:.0} together and the API's {ACCESS_LINE:.0}, and CloudWatch \
         adds 26 to each.\n",
        markdown(&rows),
        100.0 * dollars / total,
        price::DATE,
    )
}
