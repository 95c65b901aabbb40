//! Packages from PyPI that several tests install, so that they share one environment. How they are installed is `python`'s business.

/// PydanticAI with the client that it speaks to models with, and an exporter for its spans.
pub(crate) const PYDANTIC_AI: &[&str] = &[
    "openai==3.52.0",
    "pydantic-ai-slim[openai]==2.68.0",
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
];
