//! Which API a path belongs to, whatever base path a server puts before it.

use dwell_probes::trace::Operation;

/// The APIs that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI's chat completions, as most servers speak them.
    Chat,
    /// OpenAI's completions; llama.cpp's `/completions` too.
    Completions,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's embeddings.
    Embeddings,
    /// Anthropic's messages.
    Messages,
    /// Ollama's `/api/chat`.
    OllamaChat,
    /// Ollama's `/api/generate`.
    OllamaGenerate,
    /// Ollama's `/api/embed` and `/api/embeddings`.
    OllamaEmbed,
    /// llama.cpp's own `/completion`.
    LlamaCompletion,
    /// SGLang's own `/generate`.
    SglangGenerate,
    /// LM Studio's own `/api/v1/chat`.
    LmStudioChat,
}

/// The forms in which APIs write errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
    /// `{"error": "..."}`.
    Ollama,
}

/// Ends of paths, the longer before those that they end in.
const ENDS: &[(&str, Api)] = &[
    ("/chat/completions", Api::Chat),
    ("/completions", Api::Completions),
    ("/completion", Api::LlamaCompletion),
    ("/responses", Api::Responses),
    ("/api/embeddings", Api::OllamaEmbed),
    ("/embeddings", Api::Embeddings),
    ("/v1/messages", Api::Messages),
    ("/api/v1/chat", Api::LmStudioChat),
    ("/api/chat", Api::OllamaChat),
    ("/api/generate", Api::OllamaGenerate),
    ("/api/embed", Api::OllamaEmbed),
    ("/generate", Api::SglangGenerate),
];

impl Api {
    /// The API of a POST to this path; `None` where no model is asked, or in words that are not known.
    pub fn of(path: &str) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        ENDS.iter().find(|(end, _)| path.ends_with(end)).map(|&(_, api)| api)
    }

    /// The path without what servers put before it.
    pub const fn route(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Embeddings => "/v1/embeddings",
            Self::Messages => "/v1/messages",
            Self::OllamaChat => "/api/chat",
            Self::OllamaGenerate => "/api/generate",
            Self::OllamaEmbed => "/api/embed",
            Self::LlamaCompletion => "/completion",
            Self::SglangGenerate => "/generate",
            Self::LmStudioChat => "/api/v1/chat",
        }
    }

    /// What the model is asked to do.
    pub const fn operation(self) -> Operation {
        match self {
            Self::Chat
            | Self::Responses
            | Self::Messages
            | Self::OllamaChat
            | Self::LmStudioChat => Operation::Chat,
            Self::Completions
            | Self::OllamaGenerate
            | Self::LlamaCompletion
            | Self::SglangGenerate => Operation::TextCompletion,
            Self::Embeddings | Self::OllamaEmbed => Operation::Embeddings,
        }
    }

    /// How its errors look.
    pub const fn form(self) -> Form {
        match self {
            Self::Messages => Form::Anthropic,
            Self::OllamaChat | Self::OllamaGenerate | Self::OllamaEmbed => Form::Ollama,
            _ => Form::OpenAi,
        }
    }
}

impl Form {
    /// The form of errors on a path that may belong to no API that is known.
    pub fn of(path: &str) -> Self {
        if let Some(api) = Api::of(path) {
            return api.form();
        }
        if path.contains("/v1/messages") {
            Self::Anthropic
        } else if path.starts_with("/api/") && !path.starts_with("/api/v") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_known_below_any_base() {
        for (path, api) in [
            ("/v1/chat/completions", Some(Api::Chat)),
            ("/openai/v1/chat/completions", Some(Api::Chat)),
            ("/api/v0/chat/completions/", Some(Api::Chat)),
            ("/v1/completions", Some(Api::Completions)),
            ("/completion", Some(Api::LlamaCompletion)),
            ("/v1/responses", Some(Api::Responses)),
            ("/v1/responses/resp_1/cancel", None),
            ("/v1/messages", Some(Api::Messages)),
            ("/v1/messages/count_tokens", None),
            ("/v1/threads/t/messages", None),
            ("/api/chat", Some(Api::OllamaChat)),
            ("/api/embeddings", Some(Api::OllamaEmbed)),
            ("/v1/embeddings", Some(Api::Embeddings)),
            ("/api/v1/chat", Some(Api::LmStudioChat)),
            ("/generate", Some(Api::SglangGenerate)),
            ("/v1/models", None),
        ] {
            assert_eq!(Api::of(path), api, "{path}");
        }
    }

    #[test]
    fn routes_are_paths_of_their_own_api() {
        for (_, api) in ENDS {
            assert_eq!(Api::of(api.route()), Some(*api));
        }
    }

    #[test]
    fn errors_have_a_form_on_every_path() {
        assert_eq!(Form::of("/v1/messages/count_tokens"), Form::Anthropic);
        assert_eq!(Form::of("/api/tags"), Form::Ollama);
        assert_eq!(Form::of("/api/v1/models"), Form::OpenAi);
        assert_eq!(Form::of("/anything"), Form::OpenAi);
    }
}
