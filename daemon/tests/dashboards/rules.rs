//! The rules: Prometheus takes them, each alert fires when it must and not otherwise, Grafana has the same ones.

use std::process::Command;

use serde_json::Value;

use crate::files::{at, list, text, yaml};
use crate::servers::{program, promtool, run};

fn alerts() -> Vec<Value> {
    let rules = yaml("dashboards/prometheus/alerts.yaml");
    list(&rules, "groups").iter().flat_map(|group| list(group, "rules").to_vec()).collect()
}

#[test]
fn prometheus_takes_the_rules() {
    let Some(promtool) = promtool() else { return };
    let rules =
        ["recording", "alerts"].map(|name| at(&format!("dashboards/prometheus/{name}.yaml")));
    run(Command::new(promtool).args(["check", "rules"]).args(rules));
}

#[test]
fn each_alert_fires_when_it_must_and_not_otherwise() {
    let Some(promtool) = promtool() else { return };
    let cases = ["alerts", "past", "slower"]
        .map(|name| at(&format!("dashboards/prometheus/tests/{name}.yaml")));
    run(Command::new(promtool).args(["test", "rules"]).args(&cases));
    // There is a case in which each fires.
    let cases = cases.map(|file| std::fs::read_to_string(file).unwrap()).concat();
    for alert in alerts() {
        let fires = format!("alertname=\"{}\"", text(&alert, "alert"));
        assert!(cases.contains(&fires), "no case has {fires}");
    }
}

#[test]
fn alertmanager_takes_its_settings() {
    let Some(amtool) = program(&["amtool"]) else { return };
    run(Command::new(amtool)
        .arg("check-config")
        .arg(at("dashboards/alertmanager/alertmanager.yml")));
}

#[test]
fn each_alert_says_what_happened_where_to_look_and_what_to_do() {
    for alert in alerts() {
        let (name, words) = (text(&alert, "alert"), &alert["annotations"]);
        assert!(name.starts_with("Dwell"), "{name}");
        assert!(text(words, "summary").contains("{{ $labels."), "{name}: says not of what");
        let description = text(words, "description");
        assert!(description.len() > 150, "{name}");
        assert!(name == "DwellExportFails" || description.contains("`dwell "), "{name}: no run");
        assert!(text(words, "dashboard").contains("/d/dwell-"), "{name}: leads nowhere");
        assert!(["warning", "critical"].contains(&text(&alert["labels"], "severity")), "{name}");
        assert!(!text(&alert, "for").is_empty(), "{name}: fires at the first moment");
    }
}

#[test]
fn grafana_has_the_same_alerts() {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let grafana = yaml("dashboards/grafana/alerts.yaml");
    let rules: Vec<&Value> =
        list(&grafana, "groups").iter().flat_map(|group| list(group, "rules")).collect();
    let alerts = alerts();
    assert_eq!(rules.len(), alerts.len());
    for (rule, alert) in rules.iter().zip(&alerts) {
        let name = text(alert, "alert");
        assert_eq!(text(rule, "title"), name);
        assert_eq!(text(rule, "for"), text(alert, "for"), "{name}");
        let query = list(rule, "data").iter().find(|part| part["refId"] == "A").unwrap();
        assert_eq!(
            one_line(text(&query["model"], "expr")),
            one_line(text(alert, "expr")),
            "{name}"
        );
        assert_eq!(rule["labels"]["severity"], alert["labels"]["severity"], "{name}");
        assert_eq!(rule["labels"]["evaluated_by"], "grafana", "Alertmanager tells it once: {name}");
        for (key, words) in alert["annotations"].as_object().unwrap() {
            let words = one_line(words.as_str().unwrap()).replace("$value", "$values.A.Value");
            assert_eq!(one_line(text(&rule["annotations"], key)), words, "{name}: {key}");
        }
    }
}
