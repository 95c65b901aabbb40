//! The other side: `mlx_lm` in a Python process of its own, on the same checkpoint files. It loads once and answers many
//! questions, so that neither Python's start nor the loading counts.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::checkpoints::Checkpoints;
use super::prompts::Prompt;
use super::result::Answer;
use crate::hub::Model;
use crate::settings::EngineChoice;

/// The version that the engine is held against.
const VERSION: &str = "0.32.2";
/// What pip installs; on Linux MLX itself is an extra.
const PACKAGES: [&str; 2] =
    ["mlx-lm==0.32.2", if cfg!(target_os = "macos") { "mlx==0.32.2" } else { "mlx[cpu]==0.32.2" }];
/// What Python runs.
const SCRIPT: &str = include_str!("mlx_lm.py");

/// A Python process with mlx_lm and the models loaded.
#[derive(Debug)]
pub(super) struct MlxLm {
    /// Its version.
    pub(super) version: String,
    child: Child,
    /// Open as long as there may be more questions.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// The first line that Python says.
#[derive(Deserialize)]
struct Ready {
    version: String,
}

/// What Python says about an answer.
#[derive(Deserialize)]
struct Timed {
    prompt_tokens: u64,
    tokens: u64,
    first_token_ns: u64,
    wall_ns: u64,
}

/// Where mlx_lm comes from.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PeerArgs {
    /// A Python that has mlx_lm; without one only the engine is measured
    #[arg(long, env = "DWELL_PYTHON", value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Install mlx_lm from PyPI into the data folder first
    #[arg(long)]
    install_mlx_lm: bool,
}

impl PeerArgs {
    /// The Python to start, installed before if that is asked for.
    pub(super) fn python(&self, data_dir: &Path) -> Result<PathBuf> {
        let own = data_dir.join(format!("mlx_lm-{VERSION}"));
        if self.install_mlx_lm {
            install(&own)?;
        }
        let installed = own.join("bin/python");
        Ok(match &self.python {
            Some(python) => python.clone(),
            None if installed.is_file() => installed,
            None => PathBuf::from("python3"),
        })
    }
}

/// The settings' checkpoints as folders.
pub(super) fn folders(
    engine: &EngineChoice,
    checkpoints: &Checkpoints,
) -> Result<(PathBuf, Option<PathBuf>)> {
    match engine {
        EngineChoice::Models { target, draft } => {
            Ok((target.folder()?, draft.as_ref().map(Model::folder).transpose()?))
        }
        EngineChoice::BuiltIn { draft: drafted } => {
            let (target, draft) = checkpoints.built_in()?;
            Ok((target, drafted.then_some(draft)))
        }
        EngineChoice::None => bail!("there is no model"),
    }
}

/// Makes a virtual environment with mlx_lm in `folder`.
fn install(folder: &Path) -> Result<()> {
    if folder.join("installed").is_file() {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))
        .context("cannot make a virtual environment: install Python 3 with venv (Debian, Ubuntu: apt install python3-venv)")?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(folder.join("bin/python")).args(pip).args(PACKAGES))
        .context("pip could not install mlx_lm from PyPI")?;
    std::fs::write(folder.join("installed"), PACKAGES.join("\n"))?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{} failed: {status}", command.get_program().to_string_lossy());
    Ok(())
}

impl MlxLm {
    /// Loads the models in a new process. The error says what to do.
    pub(super) fn start(python: &Path, target: &Path, draft: Option<&Path>) -> Result<Self> {
        Self::spawn(python, target, draft).with_context(|| {
            let python = python.display();
            format!("{python} has no usable mlx_lm: add --install-mlx-lm, or name a Python that has it with --python")
        })
    }

    fn spawn(python: &Path, target: &Path, draft: Option<&Path>) -> Result<Self> {
        let draft = draft.map_or(OsStr::new(""), Path::as_os_str);
        let mut child = Command::new(python)
            .args(["-c", SCRIPT])
            .args([target.as_os_str(), draft])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its warnings are not ours; that it failed is told by what it does not say.
            .stderr(Stdio::null())
            .spawn()?;
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("no pipe to Python")?);
        let mut peer = Self { version: String::new(), child, questions, answers };
        peer.version = peer.hear::<Ready>()?.version;
        Ok(peer)
    }

    /// Asks once, greedily.
    pub(super) fn answer(
        &mut self,
        prompt: &Prompt,
        draft_tokens: u32,
        max_tokens: u32,
    ) -> Result<Answer> {
        self.ask(&json!({
            "messages": prompt.messages,
            "tools": prompt.tools,
            "draft_tokens": draft_tokens,
            "max_tokens": max_tokens,
        }))
    }

    /// Continues raw text, greedily and plainly, up to the token limit: no token ends the answer.
    pub(super) fn continues(&mut self, text: &str, max_tokens: u32) -> Result<Answer> {
        self.ask(&json!({ "text": text, "draft_tokens": 0, "max_tokens": max_tokens }))
    }

    /// The time counts from the question to the last token, inside Python.
    fn ask(&mut self, asked: &Value) -> Result<Answer> {
        let questions = self.questions.as_mut().context("mlx_lm takes no more questions")?;
        writeln!(questions, "{asked}")?;
        questions.flush()?;
        let timed: Timed = self.hear()?;
        Ok(Answer {
            prompt_tokens: timed.prompt_tokens,
            cached_tokens: 0,
            tokens: timed.tokens,
            first_token_ns: timed.first_token_ns,
            wall_ns: timed.wall_ns,
            speculation: None,
            text: String::new(),
        })
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "Python ended without an answer");
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for MlxLm {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.questions.take());
        if let Err(error) = self.child.wait() {
            tracing::debug!(%error, "cannot wait for Python");
        }
    }
}
