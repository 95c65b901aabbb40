//! Where spans and metrics go and on whose behalf, read from the standard variables.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, Protocol};
use opentelemetry_sdk::Resource;

use super::Error;
use crate::otlp::{INSTANCE_KEY, instance};

/// What is sent, by the variables that are about it alone.
#[derive(Debug)]
pub(super) struct Signal {
    exporter: &'static str,
    endpoint: &'static str,
    protocol: &'static str,
    timeout: &'static str,
    headers: &'static str,
    compression: &'static str,
    /// Where it goes below the base address.
    path: &'static str,
}

/// Spans.
pub(super) const TRACES: Signal = Signal {
    exporter: "OTEL_TRACES_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    timeout: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    headers: "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    compression: "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
    path: "v1/traces",
};

/// Metrics.
pub(super) const METRICS: Signal = Signal {
    exporter: "OTEL_METRICS_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    timeout: "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    headers: "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    compression: "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
    path: "v1/metrics",
};

/// Log records.
pub(super) const LOGS: Signal = Signal {
    exporter: "OTEL_LOGS_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    protocol: "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
    timeout: "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT",
    headers: "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
    compression: "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION",
    path: "v1/logs",
};

/// How requests are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// As they are.
    None,
    Gzip,
}

/// Headers that show themselves to nobody.
#[derive(Clone, Default)]
pub(super) struct Secret(pub(super) HeaderMap);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(hidden)")
    }
}

/// What the variables say.
#[derive(Debug)]
pub(super) struct Destination {
    /// The address that requests are made to.
    pub(super) endpoint: String,
    /// How it is sent.
    pub(super) protocol: Protocol,
    /// On whose behalf.
    pub(super) resource: Resource,
    /// How long one request may take, retries included.
    pub(super) timeout: Duration,
    /// Whether the endpoint is reached by TLS.
    pub(super) tls: bool,
    /// Headers that go along, such as keys.
    pub(super) headers: Secret,
    /// How requests are packed.
    pub(super) packing: Packing,
    host: String,
    port: u16,
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Destination {
    /// `None` when no endpoint is named or export is switched off.
    pub(super) fn from_env(env: Env<'_>, signal: &Signal) -> Result<Option<Self>, Error> {
        // The specification: an empty variable counts as one that is not set.
        let env = |name: &str| env(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let disabled = env("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let exporter = env(signal.exporter).unwrap_or_else(|| "otlp".to_owned());
        if disabled || !exporter.split(',').any(|name| name.trim() == "otlp") {
            return Ok(None);
        }
        let protocol = protocol(&env, signal);
        let named = [signal.endpoint, "OTEL_EXPORTER_OTLP_ENDPOINT"]
            .into_iter()
            .find_map(|name| Some((name, env(name)?)));
        let Some((variable, value)) = named else { return Ok(None) };
        let refuse = |reason: String| Error::Endpoint { variable, value: value.clone(), reason };
        let (host, port) = host_and_port(&value).map_err(refuse)?;
        let is_base = variable == "OTEL_EXPORTER_OTLP_ENDPOINT";
        let endpoint = if is_base && !matches!(protocol, Protocol::Grpc) {
            format!("{}/{}", value.trim_end_matches('/'), signal.path)
        } else {
            value.clone()
        };
        let tls = endpoint.starts_with("https:");
        let (resource, timeout) = (resource(&env), timeout(&env, signal));
        let (headers, packing) = (headers(&env, signal), packing(&env, signal));
        Ok(Some(Self {
            endpoint,
            protocol,
            resource,
            timeout,
            tls,
            headers: Secret(headers),
            packing,
            host,
            port,
        }))
    }

    /// Whether that is the address `own`, which we listen on.
    pub(super) fn is(&self, own: SocketAddr) -> bool {
        let here = match self.host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) if ip.is_loopback() || ip.is_unspecified() => {
                own.ip().is_loopback() || own.ip().is_unspecified()
            }
            Ok(ip) => ip == own.ip(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        };
        here && self.port == own.port()
    }
}

fn protocol(env: &dyn Fn(&str) -> Option<String>, signal: &Signal) -> Protocol {
    let names = [signal.protocol, "OTEL_EXPORTER_OTLP_PROTOCOL"];
    for (name, value) in names.into_iter().filter_map(|name| Some((name, env(name)?))) {
        match value.to_ascii_lowercase().as_str() {
            "grpc" => return Protocol::Grpc,
            "http/protobuf" => return Protocol::HttpBinary,
            "http/json" => return Protocol::HttpJson,
            _ => tracing::warn!("{name} is `{value}`; known are http/protobuf, http/json and grpc"),
        }
    }
    Protocol::HttpBinary
}

fn timeout(env: &dyn Fn(&str) -> Option<String>, signal: &Signal) -> Duration {
    let names = [signal.timeout, "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let told_ms = names.into_iter().find_map(|name| env(name)?.parse().ok());
    told_ms.map_or(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, Duration::from_millis)
}

/// Names and values as in a list of W3C baggage; those for one signal go before the general ones.
fn headers(env: &dyn Fn(&str) -> Option<String>, signal: &Signal) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for variable in ["OTEL_EXPORTER_OTLP_HEADERS", signal.headers] {
        let told = env(variable).unwrap_or_default();
        for (name, value) in told.split(',').filter_map(|pair| pair.split_once('=')) {
            let name = HeaderName::try_from(name.trim());
            let value = HeaderValue::try_from(percent_decoded(value.trim()));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.insert(name, value);
            } else {
                // What it says may be a key, so that it is not repeated.
                tracing::warn!("{variable} has a header that cannot be sent; it is left out");
            }
        }
    }
    headers
}

fn packing(env: &dyn Fn(&str) -> Option<String>, signal: &Signal) -> Packing {
    let names = [signal.compression, "OTEL_EXPORTER_OTLP_COMPRESSION"];
    match names.into_iter().find_map(env).unwrap_or_default().to_ascii_lowercase().as_str() {
        "gzip" => Packing::Gzip,
        _ => Packing::None,
    }
}

fn host_and_port(endpoint: &str) -> Result<(String, u16), String> {
    // The specification lets gRPC endpoints leave out the scheme.
    let has_scheme = endpoint.contains("://");
    let full = if has_scheme { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let uri: Uri = full.parse().map_err(|error| format!("{error}"))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?;
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    Ok((host.to_owned(), uri.port_u16().unwrap_or(default)))
}

/// The specification's order: `OTEL_SERVICE_NAME` before `OTEL_RESOURCE_ATTRIBUTES` before what we know ourselves.
fn resource(env: &dyn Fn(&str) -> Option<String>) -> Resource {
    let mut attributes = vec![
        KeyValue::new("service.name", "dwell"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new(INSTANCE_KEY, instance()),
    ];
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        attributes.push(KeyValue::new("host.name", host.trim().to_owned()));
    }
    let told = env("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    for (name, value) in told.split(',').filter_map(|pair| pair.split_once('=')) {
        let name = name.trim().to_owned();
        if !name.is_empty() {
            attributes.push(KeyValue::new(name, percent_decoded(value.trim())));
        }
    }
    if let Some(name) = env("OTEL_SERVICE_NAME") {
        attributes.push(KeyValue::new("service.name", name));
    }
    // Of several attributes with one name the last one holds.
    Resource::builder_empty().with_attributes(attributes).build()
}

/// RFC 3986, section 2.1; what is not well-formed stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let pair = behind.get(..2).filter(|_| first == b'%');
        let byte = pair
            .filter(|pair| pair.iter().all(u8::is_ascii_hexdigit))
            .and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Destination>, Error> {
        let env = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Destination::from_env(&env, &TRACES)
    }

    fn found(variables: &[(&str, &str)]) -> Destination {
        read(variables).unwrap().unwrap()
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");

    #[test]
    fn without_an_endpoint_there_is_nothing_to_do() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap().is_none());
        assert!(read(&[BASE, ("OTEL_SDK_DISABLED", "True")]).unwrap().is_none());
        assert!(read(&[BASE, ("OTEL_TRACES_EXPORTER", "none")]).unwrap().is_none());
        assert!(read(&[BASE, ("OTEL_TRACES_EXPORTER", "console,otlp")]).unwrap().is_some());
    }

    #[test]
    fn the_path_is_added_to_the_base_address_only() {
        assert_eq!(found(&[BASE]).endpoint, "http://collector:4318/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:9/x");
        assert_eq!(found(&[BASE, own]).endpoint, "http://traces:9/x");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(found(&[BASE, grpc]).endpoint, BASE.1);
    }

    #[test]
    fn metrics_have_variables_of_their_own() {
        let read = |variables: &[(&str, &str)]| {
            let env = |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            Destination::from_env(&env, &METRICS).unwrap()
        };
        assert_eq!(read(&[BASE]).unwrap().endpoint, "http://collector:4318/v1/metrics");
        assert!(read(&[BASE, ("OTEL_METRICS_EXPORTER", "prometheus")]).is_none());
        assert!(read(&[BASE, ("OTEL_TRACES_EXPORTER", "none")]).is_some());
        let own = (
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "http://prometheus:9090/api/v1/otlp/v1/metrics",
        );
        let (traces, json) =
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL");
        let found = read(&[BASE, own, (traces, "grpc"), (json, "http/json")]).unwrap();
        assert_eq!(found.endpoint, own.1);
        assert!(matches!(found.protocol, Protocol::HttpJson));
    }

    #[test]
    fn the_protocol_for_traces_goes_before_the_general_one() {
        let traces = |value| ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", value);
        let general = |value| ("OTEL_EXPORTER_OTLP_PROTOCOL", value);
        assert!(matches!(found(&[BASE]).protocol, Protocol::HttpBinary));
        let both = found(&[BASE, traces("http/json"), general("grpc")]);
        assert!(matches!(both.protocol, Protocol::HttpJson));
        let misspelt = found(&[BASE, traces("grcp"), general("GRPC")]);
        assert!(matches!(misspelt.protocol, Protocol::Grpc));
    }

    #[test]
    fn our_own_address_is_recognised_by_all_its_names() {
        let own: SocketAddr = "127.0.0.1:7070".parse().unwrap();
        let is = |endpoint| found(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).is(own);
        for name in [
            "http://127.0.0.1:7070",
            "http://localhost:7070/",
            "http://[::1]:7070",
            "http://0.0.0.0:7070",
        ] {
            assert!(is(name), "{name}");
        }
        for name in ["http://127.0.0.1:4318", "http://collector:7070", "http://10.0.0.1:7070"] {
            assert!(!is(name), "{name}");
        }
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert!(found(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:7070"), grpc]).is(own));
    }

    #[test]
    fn the_time_limit_for_traces_goes_before_the_general_one() {
        let traces = |value| ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", value);
        let general = ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000");
        assert_eq!(found(&[BASE]).timeout, Duration::from_secs(10));
        assert_eq!(found(&[BASE, general, traces("500")]).timeout, Duration::from_millis(500));
        assert_eq!(found(&[BASE, general, traces("soon")]).timeout, Duration::from_secs(2));
        assert!(!found(&[BASE]).tls);
        assert!(found(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector")]).tls);
    }

    #[test]
    fn headers_for_one_signal_go_before_the_general_ones_and_hide() {
        let general =
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k1%3D, x-team = a b ,broken,bad name=1");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=k2");
        let headers = found(&[BASE, general]).headers.0;
        assert_eq!(
            (headers.len(), &headers["api-key"], &headers["x-team"]),
            (2, &HeaderValue::from_static("k1="), &HeaderValue::from_static("a b"))
        );
        let both = found(&[BASE, general, traces]);
        assert_eq!(both.headers.0["api-key"], "k2");
        assert!(!format!("{both:?}").contains("k2"));
        assert_eq!(both.packing, Packing::None);
        let gzip = ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        assert_eq!(found(&[BASE, gzip]).packing, Packing::Gzip);
    }

    #[test]
    fn a_bad_address_names_the_variable() {
        let error = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://")]).unwrap_err().to_string();
        assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT is `http://`"), "{error}");
    }

    #[test]
    fn the_resource_says_on_whose_behalf() {
        let resource = |variables: &[(&str, &str)]| {
            let mut all = vec![BASE];
            all.extend_from_slice(variables);
            found(&all).resource
        };
        let text = |resource: &Resource, name: &'static str| {
            resource.get(&name.into()).map(|value| value.to_string())
        };
        let plain = resource(&[]);
        assert_eq!(text(&plain, "service.name").as_deref(), Some("dwell"));
        assert_eq!(text(&plain, "service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert!(text(&plain, "service.instance.id").is_some());

        let told = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a, team=x%20y%2c%zz ,=1,odd");
        let named = resource(&[told]);
        assert_eq!(text(&named, "service.name").as_deref(), Some("a"));
        assert_eq!(text(&named, "team").as_deref(), Some("x y,%zz"));
        let named = resource(&[told, ("OTEL_SERVICE_NAME", "b")]);
        assert_eq!(text(&named, "service.name").as_deref(), Some("b"));
    }
}
