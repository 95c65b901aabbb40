//! `compose.yaml` and what it mounts: every path is there, ports and names agree with each other and with dwell's own defaults.
//! Docker itself is not asked: the file is held against the schema of compose files, and given to Docker Compose where that is installed.

use std::collections::BTreeSet;
use std::process::Command;

use dwell::settings::PORT;
use serde_json::Value;

use crate::files::{at, list, python, root, text, yaml};
use crate::servers::{installed, run, whole_stack};

fn services() -> Vec<(String, Value)> {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap().clone();
    services.into_iter().collect()
}

fn service(name: &str) -> Value {
    services().into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn it_is_a_compose_file() {
    let tool = python().with_file_name("check-jsonschema");
    let checked = Command::new(tool)
        .args(["--builtin-schema", "vendor.compose-spec"])
        .arg(at("compose.yaml"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn docker_compose_takes_it() {
    let Some(compose) = installed(&["docker-compose"]) else {
        return eprintln!("LEFT OUT: docker-compose is not installed");
    };
    let names = |profile: &[&str]| -> BTreeSet<String> {
        let mut command = Command::new(&compose);
        command.arg("--file").arg(at("compose.yaml")).args(profile).args(["config", "--services"]);
        run(&mut command).lines().map(str::to_owned).collect()
    };
    let all: BTreeSet<String> = services().into_iter().map(|(name, _)| name).collect();
    let without: BTreeSet<String> = all.iter().filter(|name| *name != "dwell").cloned().collect();
    assert_eq!(names(&[]), without);
    assert_eq!(names(&["--profile", "daemon"]), all);
}

#[test]
fn what_is_tried_here_has_the_versions_of_the_images() {
    let Some(folder) = whole_stack() else { return };
    for (name, file) in [
        ("prometheus", "prometheus"),
        ("alertmanager", "alertmanager"),
        ("tempo", "tempo"),
        ("collector", "otelcol-contrib"),
    ] {
        let program = folder.join(file);
        // Debian's Alertmanager takes its place.
        if !program.is_file() && name == "alertmanager" {
            continue;
        }
        let said = run(Command::new(program).arg("--version"));
        let service = service(name);
        let version = text(&service, "image").rsplit_once(':').unwrap().1.trim_start_matches('v');
        let words = said.split_whitespace().map(|word| word.trim_start_matches('v'));
        assert!(words.clone().any(|word| word == version), "{name} is not {version}: {said}");
    }
}

#[test]
fn images_are_pinned_ports_are_loopback_and_health_is_checked() {
    for (name, service) in services() {
        let image = text(&service, "image");
        let version = image.rsplit_once(':').unwrap().1;
        assert!(
            version == "local" || version.chars().filter(|c| *c == '.').count() == 2,
            "{name}: {image}"
        );
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        for port in list(&service, "ports") {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
fn every_mounted_path_is_there_and_every_file_is_mounted() {
    let mut mounted = BTreeSet::new();
    let compose = yaml("compose.yaml");
    for (name, service) in services() {
        for volume in list(&service, "volumes") {
            let volume = volume.as_str().unwrap();
            let (from, _) = volume.split_once(':').unwrap();
            if from.starts_with('.') {
                assert!(root().join(from).is_file(), "{name}: {volume}");
                mounted.insert(root().join(from.trim_start_matches("./")));
            } else {
                assert!(compose["volumes"].as_object().unwrap().contains_key(from), "{volume}");
            }
        }
    }
    for folder in ["", "grafana", "prometheus", "tempo", "collector", "alertmanager"] {
        for entry in std::fs::read_dir(at("dashboards").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let page = path.extension().is_some_and(|end| end == "md");
            assert!(path.is_dir() || page || mounted.contains(&path), "{} unused", path.display());
        }
    }
    assert!(root().join(text(&service("dwell")["build"], "dockerfile")).is_file());
}

#[test]
fn everybody_is_reached_where_he_listens() {
    let prometheus = yaml("dashboards/prometheus/prometheus.yml");
    let jobs = list(&prometheus, "scrape_configs");
    let targets = |job: &str| {
        let job = jobs.iter().find(|known| known["job_name"] == job).unwrap();
        list(&job["static_configs"][0], "targets").to_vec()
    };
    assert_eq!(targets("dwell"), [format!("host.docker.internal:{PORT}")]);
    let defaults = std::fs::read_to_string(at("daemon/src/commands/serve.rs")).unwrap();
    assert!(defaults.contains(&format!("default_value = \"127.0.0.1:{PORT}\"")));
    let dwell = service("dwell");
    let health = dwell["healthcheck"]["test"].to_string();
    assert!(health.contains(&format!("127.0.0.1:{PORT}/healthz")), "{health}");

    // Who is named must be a service, or the host.
    let names: BTreeSet<String> = services().into_iter().map(|(name, _)| name).collect();
    let sources = yaml("dashboards/grafana/datasources.yaml");
    for source in list(&sources, "datasources") {
        let url = text(source, "url").strip_prefix("http://").unwrap();
        let (host, port) = url.split_once(':').unwrap();
        assert!(names.contains(host), "{url}");
        assert!(ports(host).contains(port), "{host} does not listen on {port}");
    }
    for target in targets("stack") {
        let (host, _) = target.as_str().unwrap().split_once(':').unwrap();
        assert!(host == "localhost" || names.contains(host), "{target}");
    }
    // The Collector takes what dwell sends and finds Tempo and Prometheus.
    let collector = yaml("dashboards/collector/collector.yaml");
    let protocols = &collector["receivers"]["otlp"]["protocols"];
    assert_eq!(
        (&protocols["grpc"]["endpoint"], &protocols["http"]["endpoint"]),
        (&"0.0.0.0:4317".into(), &"0.0.0.0:4318".into())
    );
    assert!(ports("collector").contains("4317") && ports("collector").contains("4318"));
    let tempo = yaml("dashboards/tempo/tempo.yaml");
    assert_eq!(tempo["server"]["http_listen_port"], 3200);
    let takes = &tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"];
    assert_eq!(takes, "0.0.0.0:4317");
    assert_eq!(collector["exporters"]["otlp_grpc/tempo"]["endpoint"], "tempo:4317");
    let sent = text(&dwell["environment"], "OTEL_EXPORTER_OTLP_ENDPOINT").to_owned();
    assert_eq!(sent, "http://127.0.0.1:4318");
}

/// The ports that a service opens.
fn ports(name: &str) -> BTreeSet<String> {
    let service = service(name);
    let ports = list(&service, "ports").iter().map(|port| port.as_str().unwrap().to_owned());
    ports.map(|port| port.rsplit(':').next().unwrap().to_owned()).collect()
}

#[test]
fn grafana_finds_traces_by_the_label_of_our_exemplars() {
    let sources = yaml("dashboards/grafana/datasources.yaml");
    let prometheus =
        list(&sources, "datasources").iter().find(|s| s["uid"] == "prometheus").unwrap();
    let links = list(&prometheus["jsonData"], "exemplarTraceIdDestinations");
    assert!(links.iter().any(|l| l["name"] == "trace_id" && l["datasourceUid"] == "tempo"));
    let command = service("prometheus")["command"].to_string();
    for flag in
        ["exemplar-storage", "created-timestamp-zero-ingestion", "--web.enable-otlp-receiver"]
    {
        assert!(command.contains(flag), "{command}");
    }
}
