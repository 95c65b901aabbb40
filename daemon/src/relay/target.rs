//! Who answers: what a path says, what a model's name says.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::http::Uri;
use dwell_probes::time::Stamp;
use dwell_wire::upstream::{ModelName, Sought};
use http_body::Body as _;

/// Bytes of a request that are held back while its model is looked for. A request that has not named it by then goes to the
/// default upstream.
const LONGEST_SEARCH: usize = 32 << 20;

/// A path's parts: `/r/{run}`, `/u/{upstream}` or `/mcp/{server}`, and what is asked there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    /// The run, as it is written.
    pub(super) run: Option<&'a str>,
    /// The upstream's name.
    pub(super) upstream: Option<&'a str>,
    /// The MCP server's name.
    pub(super) tools: Option<&'a str>,
    /// The rest, which begins with `/`.
    pub(super) rest: &'a str,
}

impl<'a> Path<'a> {
    /// Reads a path.
    pub(super) fn of(uri: &'a Uri) -> Self {
        let (run, rest) = segment(uri.path(), "/r/");
        let (upstream, rest) = segment(rest, "/u/");
        let (tools, rest) = match upstream {
            Some(_) => (None, rest),
            None => segment(rest, "/mcp/"),
        };
        Self { run, upstream, tools, rest }
    }
}

/// The segment behind the prefix, and what follows it.
fn segment<'a>(path: &'a str, prefix: &str) -> (Option<&'a str>, &'a str) {
    let Some(behind) = path.strip_prefix(prefix) else { return (None, path) };
    let (name, rest) = behind.split_at(behind.find('/').unwrap_or(behind.len()));
    (Some(name).filter(|name| !name.is_empty()), if rest.is_empty() { "/" } else { rest })
}

/// What was read of a request to find its model.
pub(super) struct Searched {
    /// The model; `None` when the request names none.
    pub(super) model: Option<String>,
    /// What was read.
    pub(super) read: Bytes,
    /// What follows it.
    pub(super) rest: Body,
    /// How long reading it took, in nanoseconds.
    pub(super) waited_ns: u64,
}

impl Searched {
    /// A request of which nothing was read.
    pub(super) const fn nothing(rest: Body) -> Self {
        Self { model: None, read: Bytes::new(), rest, waited_ns: 0 }
    }
}

/// Reads a request until it names its model; an error when the client went away.
pub(super) async fn find_model(mut body: Body) -> Result<Searched, axum::Error> {
    let start = Stamp::now();
    let mut sought = ModelName::default();
    // Most requests come in one piece, which is passed on without a copy.
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut model = None;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(piece) = frame?.into_data() else { continue };
        let found = sought.push(&piece);
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&piece);
        }
        match found {
            Sought::Open if all.len() < LONGEST_SEARCH => {}
            Sought::Open | Sought::Absent => break,
            Sought::Found(name) => {
                model = Some(name);
                break;
            }
        }
    }
    let read = if all.is_empty() { first } else { all.into() };
    let waited_ns = Stamp::now().since(start);
    Ok(Searched { model, read, rest: body, waited_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let of = |path: &str| {
            let uri: Uri = path.parse().unwrap();
            let Path { run, upstream, tools, rest } = Path::of(&uri);
            assert_eq!(tools.is_some(), path.contains("/mcp/t"), "{path}");
            (run.map(str::to_owned), upstream.map(str::to_owned), rest.to_owned())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(of("/v1/models?x=1"), (None, None, "/v1/models".to_owned()));
        assert_eq!(of("/u/a/v1/x"), (None, some("a"), "/v1/x".to_owned()));
        assert_eq!(of("/r/1/v1/x"), (some("1"), None, "/v1/x".to_owned()));
        assert_eq!(of("/r/1/u/a/api/chat"), (some("1"), some("a"), "/api/chat".to_owned()));
        assert_eq!(of("/r/1/u/a"), (some("1"), some("a"), "/".to_owned()));
        assert_eq!(of("/r/1/mcp/t"), (some("1"), None, "/".to_owned()));
        assert_eq!(of("/mcp/t/x"), (None, None, "/x".to_owned()));
        assert_eq!(of("/u/a/mcp/x"), (None, some("a"), "/mcp/x".to_owned()));
        assert_eq!(of("/run/x"), (None, None, "/run/x".to_owned()));
    }
}
