//! The stack as `compose.yaml` starts it, on free ports and in a folder of the test: the same arguments and our own settings, with other
//! addresses and paths, and in a hurry. Debian's Prometheus is older than that of `compose.yaml` and does not know some of its settings; those
//! are left out for it, and there are neither Tempo nor Collector.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::post;
use serde_json::{Value, json};

use crate::files::{at, list, text, yaml};
use crate::servers::{Server, free, part, program, whole_stack};

/// Settings that Prometheus 2.42 does not know.
const NEWER: &[&str] = &["otlp", "scrape_protocols", "scrape_native_histograms"];

/// Where each part is to listen.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    prometheus: SocketAddr,
    alertmanager: SocketAddr,
    tempo: SocketAddr,
    tempo_grpc: SocketAddr,
    tempo_otlp: SocketAddr,
    /// Where the Collector takes OTLP over HTTP.
    pub(crate) collector: SocketAddr,
    collector_grpc: SocketAddr,
    collector_health: SocketAddr,
    collector_own: SocketAddr,
}

impl Places {
    pub(crate) fn free() -> Self {
        let [
            prometheus,
            alertmanager,
            tempo,
            tempo_grpc,
            tempo_otlp,
            collector,
            collector_grpc,
            collector_health,
            collector_own,
        ] = std::array::from_fn(|_| free());
        Self {
            prometheus,
            alertmanager,
            tempo,
            tempo_grpc,
            tempo_otlp,
            collector,
            collector_grpc,
            collector_health,
            collector_own,
        }
    }
}

/// Traces and what takes them.
pub(crate) struct Traces {
    pub(crate) tempo: Server,
    pub(crate) collector: Server,
}

/// What runs.
pub(crate) struct Stack {
    pub(crate) prometheus: Server,
    pub(crate) alertmanager: Server,
    /// Where the whole stack is there.
    pub(crate) traces: Option<Traces>,
    /// The alerts that people were told of.
    pub(crate) told: Arc<Mutex<Vec<Value>>>,
}

impl Stack {
    /// Starts all of it; `None` where it is not installed. Prometheus reads daemons at these addresses.
    pub(crate) async fn start(
        folder: &Path,
        places: &Places,
        daemons: &[SocketAddr],
    ) -> Option<Self> {
        let prometheus = program(&["prometheus"])?;
        let alertmanager = program(&["prometheus-alertmanager", "alertmanager"])?;
        let told = Arc::<Mutex<Vec<Value>>>::default();
        write_receiver(folder, told.clone()).await;
        let mut arguments = arguments(
            "alertmanager",
            &[
                ("/etc/alertmanager/alertmanager.yml", path(folder, "alertmanager.yml")),
                ("=/alertmanager", format!("={}", path(folder, "alertmanager"))),
            ],
        );
        arguments.push("--cluster.listen-address=".to_owned());
        arguments.push(format!("--web.listen-address={}", places.alertmanager));
        let place = (places.alertmanager, "/-/ready");
        let alertmanager = Server::start(&alertmanager, folder, place, &arguments).await;

        write_settings(folder, places, daemons);
        let place = (places.prometheus, "/-/ready");
        let arguments = prometheus_arguments(folder, places);
        let prometheus = Server::start(&prometheus, folder, place, &arguments).await;
        let traces = traces(folder, places).await;
        Some(Self { prometheus, alertmanager, traces, told })
    }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// What `compose.yaml` starts a service with, each container's path replaced, which must be there.
fn arguments(service: &str, paths: &[(&str, String)]) -> Vec<String> {
    let compose = yaml("compose.yaml");
    let command = list(&compose["services"][service], "command");
    let command: Vec<&str> = command.iter().map(|one| one.as_str().unwrap()).collect();
    replaced(&command.join("\n"), paths).lines().map(str::to_owned).collect()
}

/// The text with the others in the place of these, each of which must be there.
fn replaced(text: &str, others: &[(&str, String)]) -> String {
    others.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in\n{text}");
        text.replace(from, to)
    })
}

fn prometheus_arguments(folder: &Path, places: &Places) -> Vec<String> {
    let paths = [
        ("/etc/prometheus/prometheus.yml", path(folder, "prometheus.yml")),
        ("=/prometheus", format!("={}", path(folder, "tsdb"))),
    ];
    let mut arguments = arguments("prometheus", &paths);
    if whole_stack().is_none() {
        arguments.retain(|one| !one.contains("otlp-receiver") && !one.contains("enable-feature"));
        // The older one asks for protobuf, and by it for native histograms, only when told.
        arguments.push("--enable-feature=exemplar-storage,native-histograms".to_owned());
    }
    arguments.push(format!("--web.listen-address={}", places.prometheus));
    arguments
}

/// Tempo and the Collector, where they are there.
async fn traces(folder: &Path, places: &Places) -> Option<Traces> {
    let (tempo, collector) = (part("tempo")?, part("otelcol-contrib")?);
    let write = |name: &str, others: &[(&str, String)]| {
        let settings = std::fs::read_to_string(at("dashboards").join(name)).unwrap();
        let file = folder.join(Path::new(name).file_name().unwrap());
        std::fs::write(&file, replaced(&settings, others)).unwrap();
        file.display().to_string()
    };
    let prometheus = ("http://prometheus:9090", format!("http://{}", places.prometheus));
    let listens = format!(
        "  http_listen_address: 127.0.0.1\n  http_listen_port: {}\n  grpc_listen_address: 127.0.0.1\n  grpc_listen_port: {}",
        places.tempo.port(),
        places.tempo_grpc.port()
    );
    let file = write(
        "tempo/tempo.yaml",
        &[
            ("  http_listen_port: 3200", listens),
            ("0.0.0.0:4317", places.tempo_otlp.to_string()),
            ("/var/tempo", path(folder, "tempo")),
            prometheus.clone(),
        ],
    );
    let arguments = arguments_of("tempo", ("/etc/tempo.yaml", file));
    let tempo = Server::start(&tempo, folder, (places.tempo, "/ready"), &arguments).await;
    let own = format!("host: 127.0.0.1, port: {}", places.collector_own.port());
    let file = write(
        "collector/collector.yaml",
        &[
            ("0.0.0.0:4317", places.collector_grpc.to_string()),
            ("0.0.0.0:4318", places.collector.to_string()),
            ("0.0.0.0:13133", places.collector_health.to_string()),
            ("host: 0.0.0.0, port: 8888", own),
            ("tempo:4317", places.tempo_otlp.to_string()),
            prometheus,
        ],
    );
    let arguments = arguments_of("collector", ("/etc/collector.yaml", file));
    let place = (places.collector_health, "/");
    let collector = Server::start(&collector, folder, place, &arguments).await;
    Some(Traces { tempo, collector })
}

fn arguments_of(service: &str, settings: (&str, String)) -> Vec<String> {
    arguments(service, &[settings])
}

/// Leaves out what an older Prometheus does not know.
fn without_newer(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !NEWER.contains(&key.as_str()));
        object.values_mut().for_each(without_newer);
    } else if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(without_newer);
    }
}

/// Our settings for Prometheus, with these addresses, in a hurry: nobody waits ten minutes here until an alert is taken seriously.
fn write_settings(folder: &Path, places: &Places, daemons: &[SocketAddr]) {
    let mut settings = yaml("dashboards/prometheus/prometheus.yml");
    settings["global"] = json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
    settings["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] =
        json!([places.alertmanager]);
    let jobs = settings["scrape_configs"].as_array_mut().unwrap();
    for job in jobs.iter_mut() {
        let own = job["job_name"] == "dwell";
        let targets = job["static_configs"][0]["targets"].as_array_mut().unwrap();
        *targets = if own {
            daemons.iter().map(|addr| json!(addr)).collect()
        } else {
            // Grafana cannot be had without its image.
            targets.retain(|target| target != "grafana:3000");
            targets.iter().map(|target| json!(place(text_of(target), places))).collect()
        };
    }
    if whole_stack().is_none() {
        jobs.retain(|job| job["job_name"] == "dwell");
        without_newer(&mut settings);
    }
    let mut files = Vec::new();
    for name in ["recording", "alerts"] {
        let mut rules = yaml(&format!("dashboards/prometheus/{name}.yaml"));
        for group in rules["groups"].as_array_mut().unwrap() {
            group["interval"] = json!("1s");
            for rule in group["rules"].as_array_mut().unwrap() {
                rule.as_object_mut().unwrap().remove("for");
            }
        }
        // JSON is YAML.
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, rules.to_string()).unwrap();
        files.push(file);
    }
    settings["rule_files"] = json!(files);
    std::fs::write(folder.join("prometheus.yml"), settings.to_string()).unwrap();
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Where a part that is read by Prometheus listens here.
fn place(target: &str, places: &Places) -> SocketAddr {
    match target {
        "localhost:9090" => places.prometheus,
        "tempo:3200" => places.tempo,
        "collector:8888" => places.collector_own,
        "alertmanager:9093" => places.alertmanager,
        other => panic!("nobody here is {other}"),
    }
}

/// Our settings for Alertmanager, telling the test what it tells people.
async fn write_receiver(folder: &Path, told: Arc<Mutex<Vec<Value>>>) {
    let take = move |axum::Json(told_now): axum::Json<Value>| async move {
        told.lock().unwrap().extend(list(&told_now, "alerts").to_vec());
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut settings = yaml("dashboards/alertmanager/alertmanager.yml");
    assert_eq!(text(&settings["receivers"][0], "name"), "shown");
    settings["receivers"][0]["webhook_configs"] = json!([{"url": url}]);
    settings["route"]["group_wait"] = json!("1s");
    settings["route"]["group_interval"] = json!("1s");
    std::fs::write(folder.join("alertmanager.yml"), settings.to_string()).unwrap();
}
