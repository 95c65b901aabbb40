//! How OTLP is received and handed on: flags and `dwell.toml` as values with meaning.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use dwell_probes::classify::{Rule, Rules};
use serde::Deserialize;

use super::upstreams::{UpstreamArgs, config_text};

/// The port that OTLP over gRPC is known for, on the loopback address.
const GRPC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);

/// Flags of the daemon about OTLP.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OtlpArgs {
    /// Take OTLP over gRPC as well, at this address; 127.0.0.1:4317 when none is given. OTLP over HTTP is always on the one port
    #[arg(
        long,
        env = "DWELL_OTLP_GRPC",
        value_name = "ADDRESS",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:4317"
    )]
    pub otlp_grpc: Option<SocketAddr>,
}

/// How OTLP is received and handed on.
#[derive(Clone, Debug, Default)]
pub struct Otlp {
    /// Where it is taken over gRPC, beside HTTP on the one port.
    pub grpc: Option<SocketAddr>,
    /// The user's rules of what spans mean, before the built-in ones.
    pub rules: Rules,
    /// Whether prompts, answers and texts of logs are handed on to the Collector too.
    pub forward_content: bool,
    /// Attributes whose texts are kept and handed on beside those known to be harmless; a star at the end stands for any text.
    pub attributes: Vec<String>,
}

/// What of the file is about OTLP; the rest is others'.
#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    otlp: FileOtlp,
    #[serde(default)]
    spans: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOtlp {
    grpc: Option<FileGrpc>,
    #[serde(default)]
    forward_content: bool,
    #[serde(default)]
    attributes: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "grpc is `true`, `false`, or an address such as \"127.0.0.1:4317\"")]
enum FileGrpc {
    Switch(bool),
    At(SocketAddr),
}

impl Otlp {
    /// What flags and file ask for; the flag goes before the file. The file is that of the upstreams.
    pub fn read(args: &OtlpArgs, file: &UpstreamArgs) -> Result<Self> {
        let mut read = match config_text(file)? {
            Some((path, text)) => {
                Self::parse(&text).with_context(|| format!("in {}", path.display()))?
            }
            None => Self::default(),
        };
        read.grpc = args.otlp_grpc.or(read.grpc);
        if let Some(addr) = read.grpc {
            // There are no keys yet, so nobody but this machine's users may report.
            ensure!(
                addr.ip().is_loopback(),
                "OTLP over gRPC at {addr}: dwell has no access control and listens on loopback addresses only, such as 127.0.0.1:4317"
            );
        }
        Ok(read)
    }

    /// What a file's text asks for.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let grpc = match file.otlp.grpc {
            Some(FileGrpc::At(addr)) => Some(addr),
            Some(FileGrpc::Switch(on)) => on.then_some(GRPC),
            None => None,
        };
        let (rules, forward_content) = (Rules::new(file.spans), file.otlp.forward_content);
        Ok(Self { grpc, rules, forward_content, attributes: file.otlp.attributes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_spans_mean_and_where_to_listen() {
        let read = Otlp::parse(
            r#"
            default = "local"
            [upstreams.local]
            url = "http://127.0.0.1:8080"
            [otlp]
            grpc = "127.0.0.1:5317"
            forward_content = true
            attributes = ["tenant", "acme.*"]
            [[spans]]
            class = "tool"
            when = { name = "lookup *", "my.kind" = "search" }
            [[spans]]
            class = "human"
            when = { "my.kind" = "approval" }
            "#,
        );
        let read = read.unwrap();
        assert_eq!(read.grpc, Some("127.0.0.1:5317".parse().unwrap()));
        assert!(read.forward_content);
        assert_eq!(read.attributes, ["tenant", "acme.*"]);
        assert_eq!(read.rules.all().len(), 2);
        assert_eq!(Otlp::parse("otlp.grpc = true").unwrap().grpc, Some(GRPC));
        assert_eq!(Otlp::parse("otlp.grpc = false").unwrap().grpc, None);
        assert_eq!(Otlp::parse("").unwrap().grpc, None);
    }

    #[test]
    fn the_flag_goes_before_the_file_and_nobody_else_is_listened_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dwell.toml");
        std::fs::write(&path, "otlp.grpc = true").unwrap();
        let file = UpstreamArgs { config: Some(path), ..UpstreamArgs::default() };
        let at = |text: &str| OtlpArgs { otlp_grpc: Some(text.parse().unwrap()) };
        assert_eq!(Otlp::read(&OtlpArgs::default(), &file).unwrap().grpc, Some(GRPC));
        assert_eq!(Otlp::read(&at("[::1]:1"), &file).unwrap().grpc.unwrap().port(), 1);
        let why = Otlp::read(&at("0.0.0.0:4317"), &file).unwrap_err().to_string();
        assert!(why.contains("loopback"), "{why}");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, words) in [
            (
                "[[spans]]\nclass = \"tols\"\nwhen = { name = \"x\" }",
                &["`tols`", "use agent, model"][..],
            ),
            ("[[spans]]\nclass = \"tool\"\nwhen = { kind = \"client\" }", &["every span"]),
            ("[[spans]]\nclass = \"tool\"", &["when"]),
            ("[[spans]]\nclas = \"tool\"", &["clas"]),
            ("[otlp]\ngrpc = \"4317\"", &["grpc", "127.0.0.1:4317"]),
            ("[otlp]\ngrcp = true", &["grcp"]),
        ] {
            let why = format!("{:#}", Otlp::parse(text).unwrap_err());
            assert!(why.contains("line"), "{why}");
            for word in words {
                assert!(why.contains(word), "{why}");
            }
        }
    }
}
