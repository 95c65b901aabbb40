//! The Pythons that the agents run in, each with a set of libraries, installed when they are first asked for.

use std::path::PathBuf;

use crate::{packages, python};

/// Everything that the agents but PydanticAI's need.
const AGENTS: &[&str] = &[
    "anthropic==2.12.0",
    "fastmcp==4.1.2",
    "langchain-openai==1.7.3",
    "langgraph==1.2.22",
    "openai-agents==0.24.0",
    "openinference-instrumentation-openai-agents==2.6.0",
    "opentelemetry-distro==0.66b2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
    "opentelemetry-sdk==1.45.2",
    "pydantic-ai-slim[openai,mcp]==2.68.0",
];

/// A Python with PydanticAI.
pub(crate) fn pydantic_ai() -> PathBuf {
    with("pydantic-ai", packages::PYDANTIC_AI)
}

/// A Python with the other agents' libraries.
pub(crate) fn agents() -> PathBuf {
    with("agents", AGENTS)
}

/// A Python with `mlx_lm`.
pub(crate) fn mlx_lm() -> PathBuf {
    with("mlx-lm", &mlx_lm::MLX_LM)
}

fn with(name: &str, packages: &[&str]) -> PathBuf {
    python::with(name, packages).unwrap_or_else(|error| panic!("{error}"))
}

#[path = "../../engine/tests/parity/packages.rs"]
mod mlx_lm;
