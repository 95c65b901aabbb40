//! What holds for every panel: it can be read by whoever sees it for the first time, asks for metrics that there are, and shows
//! categories in the colours of the terminal.

use std::collections::BTreeSet;

use dwell::terminal::category_colour;
use dwell_probes::category::Category;
use dwell_probes::names::metrics::{ALL, MetricKind};
use serde_json::Value;

use crate::files::{at, dashboards, list, said, text, yaml};

/// Panels but rows.
pub(crate) fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

/// Every sample name that a daemon may show.
fn samples() -> BTreeSet<String> {
    let names = ALL.iter().flat_map(|metric| {
        let name = metric.prometheus_name();
        match metric.kind {
            MetricKind::Counter => vec![format!("{name}_total")],
            MetricKind::Gauge => vec![name],
            MetricKind::Histogram(_) => {
                ["bucket", "count", "sum"].map(|end| format!("{name}_{end}")).to_vec()
            }
        }
    });
    names.collect()
}

/// The words of a PromQL expression that are names of ours: metrics, and what rules record.
pub(crate) fn names(expression: &str) -> BTreeSet<String> {
    // What stands in quotes are labels' values, and what stands behind `by` or in braces labels.
    let mut bare = String::new();
    for (index, part) in expression.split('"').enumerate() {
        bare.push_str(if index % 2 == 0 { part } else { " " });
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let known = samples();
    let words = bare.split(|c: char| !word(c)).filter(|word| {
        word.starts_with("dwell_")
            || word.starts_with("dwell:")
            || known.contains(*word)
            // A label is a word of the conventions too, and no metric.
            || (word.starts_with("gen_ai_") && word.contains("_seconds"))
    });
    let labels: BTreeSet<&str> = ["dwell_origin"].into();
    words.filter(|word| !labels.contains(word)).map(str::to_owned).collect()
}

/// What rules record.
fn recorded() -> BTreeSet<String> {
    let rules = yaml("dashboards/prometheus/recording.yaml");
    let rules = list(&rules, "groups").iter().flat_map(|group| list(group, "rules"));
    rules.map(|rule| text(rule, "record").to_owned()).collect()
}

/// The PromQL of a panel's targets.
pub(crate) fn expressions(panel: &Value) -> impl Iterator<Item = &str> {
    list(panel, "targets").iter().map(|target| text(target, "expr")).filter(|expr| !expr.is_empty())
}

#[test]
fn there_are_seven_and_links_find_them() {
    let uids: BTreeSet<String> =
        dashboards().iter().map(|(_, board)| text(board, "uid").to_owned()).collect();
    let expected = ["where", "run", "speculation", "http", "tools", "regressions", "host"];
    assert_eq!(uids, expected.map(|name| format!("dwell-{name}")).into());
    let mut texts: Vec<String> =
        dashboards().into_iter().map(|(_, board)| board.to_string()).collect();
    texts.push(std::fs::read_to_string(at("dashboards/prometheus/alerts.yaml")).unwrap());
    for text in texts {
        for link in text.split("/d/").skip(1) {
            let uid: String =
                link.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
            assert!(uids.contains(&uid), "a link leads to {uid}");
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_what_is_missing() {
    for (file, board) in dashboards() {
        assert!(!text(&board, "description").is_empty(), "{file}");
        let mut ids = BTreeSet::new();
        for panel in panels(&board) {
            let place = format!("{file}: {}", text(panel, "title"));
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(ids.insert(panel["id"].as_u64()), "{place}: its id is another's");
            assert!(!text(panel, "title").is_empty(), "{place}");
            assert!(text(panel, "description").len() > 20, "{place}: no description");
            assert!(
                text(panel, "description").ends_with(['.', '?']),
                "{place}: {}",
                panel["description"]
            );
            assert!(!text(defaults, "unit").is_empty(), "{place}: no unit");
            assert!(text(defaults, "noValue").len() > 20, "{place}: does not say what is missing");
            assert!(!list(panel, "targets").is_empty(), "{place}: asks for nothing");
            for target in list(panel, "targets") {
                let uid = text(&target["datasource"], "uid");
                assert!(["${prometheus}", "${tempo}"].contains(&uid), "{place}: {uid}");
            }
        }
    }
}

#[test]
fn panels_do_not_overlap() {
    for (file, board) in dashboards() {
        let mut taken = BTreeSet::new();
        for panel in list(&board, "panels") {
            let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            for x in side("x")..side("x") + side("w") {
                assert!(x < 24, "{file}: {} sticks out", panel["title"]);
                for y in side("y")..side("y") + side("h") {
                    assert!(taken.insert((x, y)), "{file}: {} lies on another", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn every_variable_that_is_used_is_there() {
    for (file, board) in dashboards() {
        let variables: BTreeSet<&str> = list(&board["templating"], "list")
            .iter()
            .map(|variable| text(variable, "name"))
            .collect();
        for panel in panels(&board) {
            for target in list(panel, "targets") {
                let asked = format!("{}{}", text(target, "expr"), text(target, "query"));
                for used in asked.split('$').skip(1) {
                    let used = used.strip_prefix('{').unwrap_or(used);
                    let name: String =
                        used.chars().take_while(char::is_ascii_alphanumeric).collect();
                    // A part of what a regular expression found.
                    if name.chars().all(|c| c.is_ascii_digit()) {
                        continue;
                    }
                    assert!(variables.contains(name.as_str()), "{file}: ${name} in {asked}");
                }
            }
        }
    }
}

#[test]
fn every_variable_that_is_there_is_used() {
    for (file, board) in dashboards() {
        let variables = list(&board["templating"], "list");
        let asked: Vec<&str> = panels(&board)
            .flat_map(|panel| list(panel, "targets"))
            .flat_map(|target| [text(target, "expr"), text(target, "query")])
            .chain(variables.iter().map(|variable| text(variable, "definition")))
            .collect();
        for variable in variables.iter().filter(|variable| variable["type"] != "datasource") {
            let name = text(variable, "name");
            let used = [format!("${name}"), format!("${{{name}")];
            let used = asked.iter().any(|asked| used.iter().any(|name| asked.contains(name)));
            assert!(used, "{file}: nothing follows ${name}");
        }
    }
}

/// Which of a user's choices each selector of a PromQL expression follows.
fn followed(expression: &str) -> Vec<BTreeSet<&'static str>> {
    let selectors = expression.split('{').skip(1).map(|after| after.split('}').next().unwrap());
    let choices = |selector: &str| {
        ["$agent", "$model", "$upstream"]
            .into_iter()
            .filter(|choice| selector.contains(*choice))
            .collect()
    };
    selectors.map(choices).collect()
}

#[test]
fn what_is_divided_is_the_same_calls_above_and_below() {
    let mut count = 0;
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            for expression in expressions(panel) {
                let followed = followed(expression);
                let same = followed.iter().all(|choices| Some(choices) == followed.first());
                assert!(same, "{file}: {}: {followed:?} in {expression}", panel["title"]);
                count += followed.len();
            }
        }
    }
    assert!(count > 100, "{count} selectors");
}

#[test]
fn points_lie_closer_than_the_shortest_window() {
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            let over_time = list(panel, "targets").iter().any(|target| {
                target["range"] == true && text(target, "expr").contains("[$window]")
            });
            // Five minutes, over a week; Prometheus answers with 11,000 points at most.
            let points = panel["maxDataPoints"].as_u64().unwrap_or(0);
            let close = (7 * 24 * 12..11_000).contains(&points);
            assert!(!over_time || close, "{file}: {}: {points}", panel["title"]);
        }
    }
}

#[test]
fn percentiles_are_neither_stacked_nor_averaged() {
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            if !expressions(panel)
                .any(|asked| asked.contains("_quantile(") || asked.contains("p95"))
            {
                continue;
            }
            let place = format!("{file}: {}", panel["title"]);
            let stacking = &panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"];
            assert!(stacking.is_null() || stacking == "none", "{place}");
            let legend = list(&panel["options"]["legend"], "calcs");
            assert!(!legend.iter().any(|calculated| calculated == "mean"), "{place}");
        }
    }
}

#[test]
fn links_set_variables_that_are_there() {
    let boards = dashboards();
    let mut texts: Vec<String> = boards.iter().map(|(_, board)| board.to_string()).collect();
    texts.push(std::fs::read_to_string(at("dashboards/prometheus/alerts.yaml")).unwrap());
    let mut count = 0;
    for link in texts.iter().flat_map(|text| text.split("/d/").skip(1)) {
        let part = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        let uid: String = link.chars().take_while(part).collect();
        let (_, board) = boards.iter().find(|(_, board)| text(board, "uid") == uid).unwrap();
        let link = link.split(['"', ' ']).next().unwrap();
        for set in link.split("var-").skip(1) {
            let name = set.split('=').next().unwrap();
            let variables = list(&board["templating"], "list");
            assert!(variables.iter().any(|one| one["name"] == name), "{uid} has no ${name}");
            count += 1;
        }
    }
    assert!(count > 5, "{count} links");
}

#[test]
fn every_metric_that_is_asked_for_is_in_the_list() {
    let mut known = samples();
    known.extend(recorded());
    let mut asked = BTreeSet::new();
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            for expression in expressions(panel) {
                let names = names(expression);
                for name in &names {
                    assert!(known.contains(name), "{file}: {}: {name}", panel["title"]);
                }
                asked.extend(names);
            }
        }
    }
    for rules in ["recording", "alerts"] {
        let rules = yaml(&format!("dashboards/prometheus/{rules}.yaml"));
        for rule in list(&rules, "groups").iter().flat_map(|group| list(group, "rules")) {
            let names = names(text(rule, "expr"));
            for name in &names {
                assert!(
                    known.contains(name),
                    "{}{}: {name}",
                    text(rule, "record"),
                    text(rule, "alert")
                );
            }
            asked.extend(names);
        }
    }
    // The other way round: nothing is measured that no screen shows.
    for metric in ALL {
        let family = metric.prometheus_name();
        let unseen = ["gen_ai_client_operation_duration_seconds", "dwell_budget_limit_seconds"];
        let seen = asked.iter().any(|name| name.starts_with(&family));
        let memory = family.starts_with("dwell_host_memory") || family.contains("recomputed_time");
        assert!(seen || memory || unseen.contains(&family.as_str()), "no panel shows {family}");
    }
}

#[test]
fn every_attribute_that_tempo_is_asked_for_is_one_that_spans_have() {
    let known: BTreeSet<&str> = dwell_probes::names::ALL.iter().map(|name| name.name).collect();
    let mut count = 0;
    for (file, board) in dashboards() {
        for target in panels(&board).flat_map(|panel| list(panel, "targets")) {
            for after in text(target, "query").split("span.").skip(1) {
                let part = |c: &char| c.is_ascii_alphanumeric() || "._".contains(*c);
                let name: String = after.chars().take_while(part).collect();
                assert!(known.contains(name.as_str()), "{file}: {name}");
                count += 1;
            }
        }
    }
    assert!(count > 20);
}

/// The colours of the 256-colour palette from 16 on, as `#rrggbb`.
fn hex(colour: u8) -> String {
    if colour >= 232 {
        let grey = 8 + 10 * u32::from(colour - 232);
        return format!("#{grey:02x}{grey:02x}{grey:02x}");
    }
    let cube = u32::from(colour) - 16;
    let part = |step: u32| if step == 0 { 0 } else { 55 + 40 * step };
    let (red, green, blue) = (part(cube / 36), part(cube / 6 % 6), part(cube % 6));
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[test]
fn categories_have_the_terminals_colours() {
    let mut coloured = 0;
    for (file, board) in dashboards() {
        for panel in panels(&board) {
            let by_category = expressions(panel).any(|expr| expr.contains("by (category"));
            let mut found = BTreeSet::new();
            for rule in list(&panel["fieldConfig"], "overrides") {
                let name = text(&rule["matcher"], "options");
                let name = name.strip_prefix("dwell.account.").unwrap_or(name);
                let Some(category) = Category::ALL.into_iter().find(|known| known.name() == name)
                else {
                    continue;
                };
                let colours = list(rule, "properties").iter().filter(|one| one["id"] == "color");
                for colour in colours {
                    let expected = hex(category_colour(category));
                    assert_eq!(text(&colour["value"], "fixedColor"), expected, "{file}: {name}");
                    found.insert(category);
                    coloured += 1;
                }
            }
            assert!(
                !by_category || found.len() == Category::ALL.len(),
                "{file}: {}",
                panel["title"]
            );
        }
    }
    assert!(coloured > 0);
}

#[test]
fn grafanas_own_types_know_all_of_it() {
    let files: Vec<_> = dashboards().iter().map(|(name, _)| at("dashboards").join(name)).collect();
    assert_eq!(said("schema", &files), serde_json::json!([]));
    // And they would say so if they did not.
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("odd.json");
    let board = r#"{"title": "x", "panels": [{"type": "stat", "tilte": "y", "options": {"graphMode": "none"}}]}"#;
    std::fs::write(&odd, board).unwrap();
    let problems = said("schema", &[odd]).to_string();
    assert!(problems.contains("tilte is unknown"), "{problems}");
}
