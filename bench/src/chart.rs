//! The chart: cold starts as bars on a logarithmic scale. It has no background, and its colors are readable on white
//! and on black.

use std::fmt::Write as _;

use crate::measure::{Samples, percentile};
use crate::peers::{FUNCTION, Peer};

const WIDTH: f64 = 760.0;

/// The horizontal range of the bars.
const LEFT: f64 = 210.0;
const RIGHT: f64 = 690.0;
const BAR: f64 = 14.0;
const ROW: f64 = 46.0;
const TOP: f64 = 58.0;

/// The scale: 1 ms to 1000 ms.
const DECADES: f64 = 3.0;

/// Returns the chart as SVG.
pub(crate) fn svg(peers: &[(Peer, Samples)]) -> String {
    let bottom = TOP + ROW * peers.len() as f64;
    let height = bottom + 34.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Cold starts in milliseconds, logarithmic scale">
<style>
text {{ font: 13px system-ui, sans-serif; fill: #7d8590 }}
.own {{ font-weight: 600; fill: #2f81f7 }}
.cold {{ fill: #2f81f7 }} .share {{ fill: #db6d28 }}
line {{ stroke: #7d8590; stroke-opacity: .35 }}
</style>
<rect class="cold" x="{LEFT}" y="12" width="12" height="12"/><text x="{}" y="23">cold start</text>
<rect class="share" x="{}" y="12" width="12" height="12"/><text x="{}" y="23">cold start at 128 MB</text>
"##,
        LEFT + 18.0,
        LEFT + 110.0,
        LEFT + 128.0,
    );
    for (milliseconds, label) in [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s")] {
        let x = x(milliseconds);
        let _ = writeln!(
            svg,
            r#"<line x1="{x:.1}" y1="{}" x2="{x:.1}" y2="{bottom}"/><text x="{x:.1}" y="{}" text-anchor="middle">{label}</text>"#,
            TOP - 12.0,
            bottom + 20.0,
        );
    }
    for (row, (peer, samples)) in peers.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let class = if peer.name == FUNCTION { r#" class="own""# } else { "" };
        let name = peer.name.replace('`', "");
        let _ =
            writeln!(svg, r#"<text{class} x="{}" y="{}" text-anchor="end">{name}</text>"#, LEFT - 12.0, y + BAR + 5.0);
        for (bar, (class, values)) in [("cold", &samples.cold), ("share", &samples.cold_at_128_mb)].iter().enumerate() {
            if values.is_empty() {
                continue;
            }
            let (y, median) = (y + (BAR + 2.0) * bar as f64, percentile(values, 50));
            let width = x(median) - LEFT;
            let digits = if median < 30.0 { 1 } else { 0 };
            let _ = writeln!(
                svg,
                r#"<rect class="{class}" x="{LEFT}" y="{y}" width="{width:.1}" height="{BAR}"/><text x="{:.1}" y="{}">{median:.digits$}</text>"#,
                LEFT + width + 6.0,
                y + BAR - 2.5,
            );
        }
    }
    svg + "</svg>\n"
}

/// Returns the horizontal position of a duration.
fn x(milliseconds: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * (milliseconds.max(1.0).log10() / DECADES).min(1.0)
}
