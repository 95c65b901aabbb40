//! The settings with which other gateways take part in the relay's bench: connections kept, nothing buffered, nothing logged, and
//! every request traced where that can be done.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

/// nginx: as many workers as cores.
pub(super) fn nginx(address: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let places = places.map(|name| format!("{name}_temp_path {folder}/{name};")).join("\n  ");
    format!(
        "daemon off;
worker_processes auto;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  {places}
  access_log off;
  keepalive_requests 1000000000;
  upstream up {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://up;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
    }}
  }}
}}
"
    )
}

/// Envoy: a span of every request, sent by OTLP to the scripted upstream.
pub(super) fn envoy(address: SocketAddr, upstream: SocketAddr) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy";
    let at = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let cluster = |name: &str| {
        json!({"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": {"cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(upstream)}}]}]}})
    };
    let tracing = json!({
        "random_sampling": {"value": 100},
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": {
            "@type": format!("{TYPES}.config.trace.v3.OpenTelemetryConfig"),
            "service_name": "envoy",
            "http_service": {"http_uri": {"uri": format!("http://{upstream}/v1/traces"), "cluster": "spans", "timeout": "2s"}}}}
    });
    let manager = json!({
        "@type": format!("{TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "tracing": tracing,
        "route_config": {"name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": "0s"}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{TYPES}.extensions.filters.http.router.v3.Router")}}]
    });
    let filter =
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({"static_resources": {
        "listeners": [{"name": "in", "address": at(address), "filter_chains": [{"filters": [filter]}]}],
        "clusters": [cluster("up"), cluster("spans")]
    }})
}

/// LiteLLM: one model, no key, which it has to be told is meant.
pub(super) fn litellm(upstream: SocketAddr) -> Value {
    let model = json!({"model": "openai/m", "api_base": format!("http://{upstream}/v1"), "api_key": "none"});
    let open = json!({"dangerously_permit_weak_or_unset_master_key": true});
    json!({"model_list": [{"model_name": "m", "litellm_params": model}], "general_settings": open})
}
