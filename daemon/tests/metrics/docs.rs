//! The table of metrics in `METRICS.md` is the list of names.

use dwell_probes::names::metrics::{ALL, Metric};

fn row(metric: &Metric) -> String {
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!(
        "| `{}` | {} | {} | {} | {} |",
        metric.name,
        metric.kind.name(),
        metric.unit,
        labels.join(", "),
        metric.help
    )
}

#[test]
fn the_table_has_every_metric_and_no_other() {
    let page = include_str!("../../METRICS.md");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `gen_ai.") || line.starts_with("| `dwell."))
        .collect();
    let expected: Vec<String> = ALL.iter().map(|metric| row(metric)).collect();
    assert_eq!(rows, expected, "the table should be\n{}", expected.join("\n"));
}
