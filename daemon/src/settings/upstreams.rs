//! The model servers that calls are relayed to: flags and `dwell.toml` as values with meaning. What the file looks like is
//! `file`'s business, how servers are reached the relay's.

mod file;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dwell_probes::metrics::LatencyBudget;
use http::uri::{Scheme, Uri};

use self::file::{File, FileUpstream};

/// The file that is read when it lies in the current folder and no other is named.
pub(super) const FILE: &str = "dwell.toml";

/// Flags of the commands that relay.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct UpstreamArgs {
    /// A model server to relay calls to, such as local=http://127.0.0.1:8080; may be given several times, the first is the default
    #[arg(
        long = "upstream",
        env = "DWELL_UPSTREAM",
        value_name = "NAME=URL",
        value_delimiter = ','
    )]
    pub upstreams: Vec<String>,
    /// An MCP server (streamable HTTP) to relay at /mcp/NAME, such as files=http://127.0.0.1:9000/mcp; may be given several times
    #[arg(long = "mcp", env = "DWELL_MCP", value_name = "NAME=URL", value_delimiter = ',')]
    pub mcp: Vec<String>,
    /// A file with upstreams, routes, budgets and rules for spans; `dwell.toml` in the current folder is read unasked
    #[arg(long, env = "DWELL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Send no Server-Timing header with answers
    #[arg(long, env = "DWELL_NO_SERVER_TIMING")]
    pub no_server_timing: bool,
}

/// How long an upstream may take for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// To find and reach it: name, connection and TLS together.
    pub connect: Duration,
    /// From the request's last byte to the answer's first.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
}

impl Default for Budgets {
    /// Long enough for a large prompt on a small machine, where the answer comes in one piece at its end.
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self { connect: Duration::from_secs(10), first_byte: minutes(10), idle: minutes(5) }
    }
}

/// A key that an upstream asks for. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key itself, for the header that carries it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key(hidden)")
    }
}

/// A model server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// What it is called in paths, routes and reports.
    pub name: String,
    /// Whether it is reached by TLS.
    pub tls: bool,
    /// Its host: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What stands before the paths of its API; empty, or begins with `/` and does not end with one.
    pub base: String,
    /// Whether its URL is written with a `/` at its end, which some servers want where it is asked itself.
    pub slash: bool,
    /// Takes the place of the client's key.
    pub key: Option<Key>,
    /// Certificates to trust beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How long it may take.
    pub budgets: Budgets,
}

impl Upstream {
    /// An upstream at this URL.
    pub fn new(name: &str, url: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        ensure!(
            !name.is_empty() && name.chars().all(fits),
            "`{name}` is no name for an upstream; use letters, digits, `-`, `_` and `.`"
        );
        let example = "write it like http://127.0.0.1:8080 or https://api.openai.com/v1";
        // What is wrong with it may be a key in it, so that it is not repeated.
        let parsed: Uri =
            url.parse().ok().with_context(|| format!("the URL of {name} is none; {example}"))?;
        let tls = match parsed.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => bail!("the URL of {name} begins with neither http:// nor https://; {example}"),
        };
        let authority = parsed.authority().with_context(|| format!("{name}: {example}"))?;
        ensure!(
            !authority.as_str().contains('@') && parsed.query().is_none(),
            "the URL of {name} holds a password or a query; name the key's environment variable with key_env in {FILE}"
        );
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        Ok(Self {
            name: name.to_owned(),
            tls,
            host,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            base: parsed.path().trim_end_matches('/').to_owned(),
            slash: parsed.path().ends_with('/'),
            key: None,
            ca_file: None,
            budgets: Budgets::default(),
        })
    }

    /// The host as a `Host` header names it.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// The path of its URL itself, as it is written.
    pub fn own_path(&self) -> String {
        if self.slash { format!("{}/", self.base) } else { self.base.clone() }
    }

    /// The path there of a request for `path`. A version that ends the base and begins the path stands once.
    pub fn path(&self, path: &str) -> String {
        let version = self.base.rsplit('/').next().filter(|last| is_version(last));
        let behind = version.and_then(|version| path.strip_prefix('/')?.strip_prefix(version));
        match behind.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            Some(rest) => format!("{}{rest}", self.base),
            None => format!("{}{path}", self.base),
        }
    }
}

fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The upstreams, and which model is whose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Upstreams {
    /// In the order in which they were named.
    pub list: Vec<Upstream>,
    /// MCP servers.
    pub mcp: Vec<Upstream>,
    /// Patterns of models and the index of their upstream, the most particular first.
    pub routes: Vec<(String, usize)>,
    /// The index of the upstream that takes what no route names.
    pub default: Option<usize>,
    /// Whether answers carry what the call took so far as a `Server-Timing` header.
    pub server_timing: bool,
    /// What calls may take.
    pub latency_budget: LatencyBudget,
}

impl Upstreams {
    /// What flags and file ask for. Flags go before the file: an upstream of the same name takes its URL from them, and the first
    /// is the default.
    pub fn read(args: &UpstreamArgs, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut read = match config_text(args)? {
            None => Self { server_timing: true, ..Self::default() },
            Some((path, text)) => {
                Self::parse(&text, env).with_context(|| format!("in {}", path.display()))?
            }
        };
        for (position, text) in args.upstreams.iter().enumerate() {
            let index =
                add_flag(&mut read.list, text).with_context(|| format!("--upstream {position}"))?;
            if position == 0 {
                read.default = Some(index);
            }
        }
        for (position, text) in args.mcp.iter().enumerate() {
            add_flag(&mut read.mcp, text).with_context(|| format!("--mcp {position}"))?;
        }
        read.server_timing &= !args.no_server_timing;
        Ok(read)
    }

    /// What a file's text asks for.
    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let budgets = file.budgets.over(Budgets::default())?;
        let mut read = Self {
            server_timing: file.server_timing.unwrap_or(true),
            latency_budget: file.latency_budget.read()?,
            ..Self::default()
        };
        let upstream = |(name, told): (&String, &FileUpstream)| {
            let mut upstream = Upstream::new(name, &told.url)?;
            upstream.budgets = told.budgets.over(budgets).with_context(|| name.clone())?;
            upstream.ca_file.clone_from(&told.ca_file);
            upstream.key =
                told.key_env.as_deref().map(|variable| key(name, variable, env)).transpose()?;
            Ok(upstream)
        };
        read.list = file.upstreams.iter().map(upstream).collect::<Result<_>>()?;
        read.mcp = file.mcp.iter().map(upstream).collect::<Result<_>>()?;
        for (pattern, name) in &file.routes {
            let index = read.index(name).with_context(|| format!("routes.\"{pattern}\""))?;
            ensure!(
                !pattern.contains(['[', ']', '{', '}']),
                "routes.\"{pattern}\": only `*` (any characters) and `?` (one character) stand for others; write a route for each name, and ? for a bracket"
            );
            read.routes.push((pattern.clone(), index));
        }
        read.routes.sort_by_key(|(pattern, _)| {
            let literal = pattern.chars().filter(|c| !"*?".contains(*c)).count();
            std::cmp::Reverse((!pattern.contains(['*', '?']), literal))
        });
        read.default = file.default.as_deref().map(|name| read.index(name)).transpose()?;
        Ok(read)
    }

    /// The upstream of this name.
    pub fn index(&self, name: &str) -> Result<usize> {
        self.list.iter().position(|upstream| upstream.name == name).with_context(|| {
            let names: Vec<&str> =
                self.list.iter().map(|upstream| upstream.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            format!("there is no upstream `{name}`; there are: {names}")
        })
    }

    /// The upstream that a route gives this model to.
    pub fn routed(&self, model: &str) -> Option<usize> {
        self.routes.iter().find(|(pattern, _)| matches(pattern, model)).map(|&(_, index)| index)
    }

    /// The upstream for everything else: the default, or the only one.
    pub fn fallback(&self) -> Option<usize> {
        self.default.or_else(|| (self.list.len() == 1).then_some(0))
    }
}

/// Adds what a flag names to the list, or gives the one of this name the flag's URL; its index.
fn add_flag(list: &mut Vec<Upstream>, text: &str) -> Result<usize> {
    let (name, url) = text
        .split_once('=')
        .with_context(|| "an upstream is written NAME=URL, such as local=http://127.0.0.1:8080")?;
    let new = Upstream::new(name, url)?;
    if let Some(index) = list.iter().position(|known| known.name == name)
        && let Some(known) = list.get_mut(index)
    {
        let Upstream { key, ca_file, budgets, .. } = known.clone();
        *known = Upstream { key, ca_file, budgets, ..new };
        return Ok(index);
    }
    list.push(new);
    Ok(list.len() - 1)
}

/// The file and what is in it: the one that is named, else `dwell.toml` where it lies in the current folder.
pub(super) fn config_text(args: &UpstreamArgs) -> Result<Option<(PathBuf, String)>> {
    let path = match &args.config {
        Some(path) => path.clone(),
        None if Path::new(FILE).is_file() => PathBuf::from(FILE),
        None => return Ok(None),
    };
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some((path, text)))
}

pub(super) fn key(name: &str, variable: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Key> {
    let key = env(variable).map(|key| key.trim().to_owned()).filter(|key| !key.is_empty());
    let key = key.with_context(|| {
        format!("the key of {name} is to come from the environment variable {variable}, which is not set")
    })?;
    ensure!(
        key.bytes().all(|byte| byte.is_ascii_graphic()),
        "the key in {variable} has characters that no header can hold"
    );
    Ok(Key(key))
}

/// Whether the text is of this pattern: `*` stands for any characters, `?` for one.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut from) = (0, 0);
    // The latest star, and how much of the text it stands for.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = text.get(from) {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&p) if p == '?' || p == c => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                from = taken + 1;
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ENV: fn(&str) -> Option<String> = |_| None;

    fn flags(upstreams: &[&str]) -> Result<Upstreams> {
        let upstreams = upstreams.iter().map(|&text| text.to_owned()).collect();
        // A file that is not there must not be taken from wherever the tests run.
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("empty.toml");
        std::fs::write(&config, "").unwrap();
        let args = UpstreamArgs { upstreams, config: Some(config), ..UpstreamArgs::default() };
        Upstreams::read(&args, &NO_ENV)
    }

    #[test]
    fn the_first_flag_is_the_default() {
        let read = flags(&["a=http://127.0.0.1:8080", "b=https://x.org/openai/v1/"]).unwrap();
        assert_eq!((read.fallback(), read.server_timing), (Some(0), true));
        let [a, b] = &read.list[..] else { panic!("{read:?}") };
        assert_eq!((a.tls, a.port, a.base.as_str()), (false, 8080, ""));
        assert_eq!((b.tls, b.port, b.base.as_str()), (true, 443, "/openai/v1"));
        assert_eq!((a.authority().as_str(), b.authority().as_str()), ("127.0.0.1:8080", "x.org"));
        let own = |url: &str| Upstream::new("a", url).unwrap().own_path();
        assert_eq!((own("http://x/mcp/"), own("http://x/mcp")), ("/mcp/".into(), "/mcp".into()));
        assert_eq!(own("http://x"), "/");
        let six = Upstream::new("c", "http://[::1]:81").unwrap();
        assert_eq!((six.host.as_str(), six.authority().as_str()), ("::1", "[::1]:81"));
    }

    #[test]
    fn a_version_stands_once() {
        let at = |url: &str, path: &str| Upstream::new("a", url).unwrap().path(path);
        assert_eq!(at("http://x", "/v1/models"), "/v1/models");
        assert_eq!(at("http://x/v1", "/v1/models"), "/v1/models");
        assert_eq!(at("http://x/openai/v1", "/v1/models"), "/openai/v1/models");
        assert_eq!(at("http://x/openai", "/v1/models"), "/openai/v1/models");
        assert_eq!(at("http://x/v1", "/chat/completions"), "/v1/chat/completions");
        assert_eq!(at("http://x/v1", "/v10/models"), "/v1/v10/models");
    }

    #[test]
    fn the_file_says_who_gets_which_model() {
        let text = r#"
            default = "local"
            server_timing = false
            [upstreams.local]
            url = "http://127.0.0.1:8080"
            [upstreams.cloud]
            url = "https://api.example.org/v1"
            key_env = "CLOUD_KEY"
            budgets = { first_byte = "2m" }
            [routes]
            "*" = "local"
            "gpt-*" = "cloud"
            "gpt-oss" = "local"
            [budgets]
            connect = "250ms"
            [latency_budget]
            first_token = "2s"
            objective = 0.95
        "#;
        let env = |name: &str| (name == "CLOUD_KEY").then(|| " k1 ".to_owned());
        let read = Upstreams::parse(text, &env).unwrap();
        let name = |model: &str| read.routed(model).map(|index| read.list[index].name.as_str());
        assert_eq!(name("gpt-6"), Some("cloud"));
        assert_eq!(name("gpt-oss"), Some("local"));
        assert_eq!(name("llama"), Some("local"));
        let cloud = &read.list[read.index("cloud").unwrap()];
        assert_eq!(cloud.key.as_ref().map(Key::reveal), Some("k1"));
        assert_eq!(cloud.budgets.connect, Duration::from_millis(250));
        assert_eq!(cloud.budgets.first_byte, Duration::from_secs(120));
        assert!(!read.server_timing);
        let budget = read.latency_budget;
        assert_eq!((budget.first_token_ns, budget.request_ns), (Some(2_000_000_000), None));
        assert!((budget.objective - 0.95).abs() < 1e-9 && budget.overhead > 0.0);
        assert!(!format!("{read:?}").contains("k1"));
    }

    #[test]
    fn mistakes_are_named_and_no_secret_repeated() {
        let why = |text: &str| format!("{:#}", Upstreams::parse(text, &NO_ENV).unwrap_err());
        let upstream = "[upstreams.a]\nurl = \"http://x\"\n";
        assert!(why("default = \"b\"").contains("no upstream `b`"));
        assert!(why(&format!("{upstream}[routes]\n\"m\" = \"b\"")).contains("there are: a"));
        assert!(why(&format!("{upstream}[routes]\n\"[ab]-*\" = \"a\"")).contains("only `*`"));
        assert!(why(&format!("{upstream}key_env = \"NO\"")).contains("variable NO"));
        assert!(why(&format!("{upstream}[budgets]\nidle = \"5\"")).contains("unit of time"));
        assert!(why("[upstreams.a]\nurls = \"x\"").contains("urls"));
        assert!(why("[latency_budget]\nobjective = 99").contains("share between 0 and 1"));
        let why = |text: &str| format!("{:#}", flags(&[text]).unwrap_err());
        assert!(why("http://x").contains("NAME=URL"));
        assert!(why("a=ftp://x").contains("neither"));
        let told = why("a=https://user:sk-planted@x.org");
        assert!(told.contains("key_env") && !told.contains("sk-planted"), "{told}");
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*", "abc", true),
            ("a", "ab", false),
            ("**", "x", true),
            ("*.gguf", "m.gguf.gguf", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
