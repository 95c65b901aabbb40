//! Errors of our own, in each API's form, so that its clients understand them.

use serde_json::json;

use super::Form;

/// Why a request was not answered by its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// For programs, such as `upstream_timeout`.
    pub code: &'static str,
    /// What happened and what to do; holds nothing of the request's content.
    pub message: String,
}

/// The problem as a response's body.
pub fn refusal(form: Form, problem: &Problem) -> Vec<u8> {
    let Problem { status, code, message } = problem;
    let kind = match (form, status) {
        (Form::Anthropic, 404) => "not_found_error",
        (Form::Anthropic | Form::OpenAi, 400..500) => "invalid_request_error",
        (Form::Anthropic, 504) => "timeout_error",
        (Form::Anthropic, _) => "api_error",
        _ => "server_error",
    };
    let body = match form {
        Form::OpenAi => {
            json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
        }
        Form::Anthropic => {
            let message = format!("{message} ({code})");
            json!({"type": "error", "error": {"type": kind, "message": message}})
        }
        Form::Ollama => json!({"error": format!("{message} ({code})")}),
    };
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_form_names_the_problem() {
        let problem =
            Problem { status: 504, code: "upstream_timeout", message: "too slow".to_owned() };
        let read = |form| serde_json::from_slice::<Value>(&refusal(form, &problem)).unwrap();
        assert_eq!(read(Form::OpenAi)["error"]["code"], "upstream_timeout");
        assert_eq!(read(Form::OpenAi)["error"]["type"], "server_error");
        assert_eq!(read(Form::Anthropic)["type"], "error");
        assert_eq!(read(Form::Anthropic)["error"]["type"], "timeout_error");
        assert_eq!(read(Form::Ollama)["error"], "too slow (upstream_timeout)");
    }
}
