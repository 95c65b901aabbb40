//! What the user asked for, as values with meaning: flags, environment variables and defaults end here.

mod conditions;
mod otlp;
mod upstreams;
mod watching;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};

pub use otlp::{Otlp, OtlpArgs};
pub use upstreams::{Budgets, Key, Upstream, UpstreamArgs, Upstreams};
pub use watching::{Grafana, Watching};

use crate::hub::Model;

/// The port that carries everything: model APIs, OTLP/HTTP, health, runs.
pub const PORT: u16 = 7070;

/// Flags that every command shares.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StoreArgs {
    /// Folder for the store
    #[arg(long, global = true, env = "DWELL_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
}

impl StoreArgs {
    /// The folder that holds the store: the flag, else the platform's place for a user's data.
    pub fn data_dir(&self) -> Result<PathBuf> {
        match &self.data_dir {
            Some(folder) => Ok(folder.clone()),
            None => Ok(dirs::data_local_dir()
                .context(
                    "there is no home folder to keep runs in: set --data-dir or DWELL_DATA_DIR",
                )?
                .join("dwell")),
        }
    }
}

/// Flags of the commands that run the engine.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EngineArgs {
    /// The model: `builtin`, `none`, a folder with an MLX-format checkpoint, or a Hugging Face id such as
    /// mlx-community/Qwen2.5-14B-Instruct-4bit, which is fetched once
    #[arg(long, env = "DWELL_ENGINE", value_name = "MODEL", default_value = "builtin")]
    pub engine: String,
    /// The draft model for speculation: a folder, a Hugging Face id, or `none`; the built-in model brings its own
    #[arg(long, env = "DWELL_DRAFT", value_name = "MODEL")]
    pub draft: Option<String>,
    /// The most tokens to draft in a round: as many as pay are drafted, by measured costs; 0 turns speculation off
    #[arg(long, env = "DWELL_DRAFT_TOKENS", value_name = "N", value_parser = clap::value_parser!(u32).range(0..=16))]
    pub draft_tokens: Option<u32>,
    /// Requests that may wait for the engine; one more is answered 429
    #[arg(long, env = "DWELL_QUEUE", value_name = "N", default_value_t = 16)]
    pub queue: usize,
    /// Requests that the engine serves in turns, where memory allows; 1 serves one after the other
    #[arg(long, env = "DWELL_PARALLEL", value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallel: u32,
    /// The longest conversation in tokens; the model's own length where it is shorter
    #[arg(long, env = "DWELL_CONTEXT", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Memory for the KV caches of all conversations, such as 2G or 512M; half of what is free beside the model when not said
    #[arg(long, env = "DWELL_CACHE_MEMORY", value_name = "SIZE", value_parser = bytes)]
    pub cache_memory: Option<u64>,
}

/// Which model the engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// None: no model of our own.
    None,
    /// The pair inside the program, with or without its draft model.
    BuiltIn {
        /// Load the draft model too.
        draft: bool,
    },
    /// Checkpoints in folders or from the hub.
    Models {
        /// The model.
        target: Model,
        /// The model that drafts for it.
        draft: Option<Model>,
    },
}

/// What a daemon runs with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder that holds the store.
    pub data_dir: PathBuf,
    /// The engine's model.
    pub engine: EngineChoice,
    /// The most tokens to draft in a round; `None` leaves it to the engine.
    pub draft_tokens: Option<u32>,
    /// Requests that may wait for the engine.
    pub queue: usize,
    /// Requests that the engine serves in turns.
    pub parallel: u32,
    /// The longest conversation in tokens; `None` leaves it to the model.
    pub context: Option<u32>,
    /// Memory for KV caches in bytes; `None` leaves it to the engine.
    pub cache_memory: Option<u64>,
    /// Whether conversations are held for their next turn; off only to measure prompts as if each were the first.
    pub holds: bool,
    /// Whether phases are recorded; off only to measure what recording costs.
    pub tracing: bool,
    /// The model servers that calls are relayed to.
    pub upstreams: Upstreams,
    /// How OTLP is received and handed on.
    pub otlp: Otlp,
    /// How runs are watched.
    pub watching: Watching,
}

impl Settings {
    /// Combines the flags; says what is wrong with them.
    pub fn new(listen: SocketAddr, store: &StoreArgs, engine: &EngineArgs) -> Result<Self> {
        let draft = engine.draft.as_deref();
        let choice = match engine.engine.as_str() {
            "none" => {
                anyhow::ensure!(draft.is_none(), "--draft needs a model: --engine is `none`");
                EngineChoice::None
            }
            "builtin" => match draft {
                None => EngineChoice::BuiltIn { draft: true },
                Some("none") => EngineChoice::BuiltIn { draft: false },
                Some(other) => anyhow::bail!(
                    "the built-in model brings its own draft model; --draft `{other}` needs --engine MODEL with the same vocabulary"
                ),
            },
            name => EngineChoice::Models {
                target: model("--engine", name)?,
                draft: match draft {
                    None | Some("none") => None,
                    Some(name) => Some(model("--draft", name)?),
                },
            },
        };
        Ok(Self {
            listen,
            engine: choice,
            draft_tokens: engine.draft_tokens,
            queue: engine.queue,
            parallel: engine.parallel,
            context: engine.context,
            cache_memory: engine.cache_memory,
            // Learning from the past is for daemons that stay.
            watching: Watching { on: false, ..Watching::default() },
            ..Self::alone(store.data_dir()?)
        })
    }

    /// A daemon with neither model nor upstream, which keeps its runs in this folder and answers on any free port of this machine.
    pub fn alone(data_dir: PathBuf) -> Self {
        Self {
            listen: any_port(),
            data_dir,
            engine: EngineChoice::None,
            draft_tokens: None,
            queue: 4,
            parallel: 1,
            context: None,
            cache_memory: None,
            holds: true,
            tracing: true,
            upstreams: Upstreams::default(),
            otlp: Otlp::default(),
            watching: Watching::default(),
        }
    }
}

/// A size in bytes: a number, and behind it perhaps K, M, G or T for powers of 1024, also written KiB, MB and the like.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(format!("`{unit}` is no unit; use K, M, G or T, as in 512M")),
    };
    let number: u64 = number.parse().map_err(|_| "it must begin with a whole number".to_owned())?;
    number.checked_mul(1 << (10 * power)).ok_or_else(|| "it is too large".to_owned())
}

/// A free port on the loopback address.
pub const fn any_port() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

fn model(flag: &str, name: &str) -> Result<Model> {
    Model::parse(name).map_err(|problem| anyhow::anyhow!("{flag}: {problem}; or use `builtin`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(engine: &str, draft: Option<&str>) -> Result<Settings> {
        let store = StoreArgs { data_dir: Some("/nowhere".into()) };
        let engine = EngineArgs {
            engine: engine.into(),
            draft: draft.map(str::to_owned),
            ..EngineArgs::default()
        };
        Settings::new(any_port(), &store, &engine)
    }

    #[test]
    fn flags_become_a_choice_of_engine() {
        assert_eq!(settings("none", None).unwrap().engine, EngineChoice::None);
        assert_eq!(
            settings("builtin", None).unwrap().engine,
            EngineChoice::BuiltIn { draft: true }
        );
        assert_eq!(
            settings("builtin", Some("none")).unwrap().engine,
            EngineChoice::BuiltIn { draft: false }
        );
    }

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        for (text, expected) in
            [("0", 0), ("2048", 2048), ("1k", 1024), ("512M", 512 << 20), ("2 GiB", 2 << 30)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "-1", "1.5G", "3X", "99999999T"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_folder_is_meant_before_an_id() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/target");
        let id = "mlx-community/Qwen2.5-0.5B-Instruct-4bit";
        let choice = settings(folder, Some(id)).unwrap().engine;
        let wanted = EngineChoice::Models {
            target: Model::Folder(folder.into()),
            draft: Some(Model::Hub(id.parse().unwrap())),
        };
        assert_eq!(choice, wanted);
        let error = settings(env!("CARGO_MANIFEST_DIR"), None).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
    }

    #[test]
    fn a_mistake_names_the_flag() {
        let error = settings("/no/such/folder", None).unwrap_err().to_string();
        assert!(error.contains("--engine") && error.contains("Hugging Face id"), "{error}");
        assert!(settings("none", Some("x")).unwrap_err().to_string().contains("--draft"));
        assert!(settings("builtin", Some("x")).unwrap_err().to_string().contains("--engine"));
    }
}
