//! Who answers: what a path says, what a model's name says.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::http::Uri;
use dwell_probes::time::Stamp;
use dwell_wire::upstream::{ModelName, Sought};
use http_body::{Body as _, Frame};

use super::decode::Decoder;
use super::memory::Memory;
use super::upload::Begun;

/// Bytes of a request that are held back while its model is looked for: nobody can be sent what is read before it is known who answers.
const LONGEST_SEARCH: usize = 128 << 20;

/// Bytes behind a request's compression that the model is looked for in.
const LONGEST_UNPACKED: usize = 256 << 20;

/// Pieces smaller than this are copied when they are held back: as parts of a connection's buffers they would hold all of those.
const SMALL: usize = 4 << 10;

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
    /// The search was given up: the request is too long, or compressed in a way that is not known.
    pub(super) given_up: bool,
    /// What was read.
    pub(super) begun: Begun,
    /// What follows it.
    pub(super) rest: Body,
    /// How long reading it took, in nanoseconds.
    pub(super) waited_ns: u64,
}

impl Searched {
    /// A request of which nothing was read.
    pub(super) fn nothing(rest: Body) -> Self {
        Self { model: None, given_up: false, begun: Begun::default(), rest, waited_ns: 0 }
    }
}

/// Looks for the model in what it is written.
#[derive(Default)]
struct Search {
    name: ModelName,
    found: Sought,
    taken: usize,
}

impl Write for Search {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.taken = self.taken.saturating_add(bytes.len());
        if self.taken > LONGEST_UNPACKED {
            return Err(io::Error::other("too long to be searched"));
        }
        self.found = self.name.push(bytes);
        // No more is unpacked than has to be.
        if self.found == Sought::Open { Ok(bytes.len()) } else { Err(io::Error::other("found")) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a request with this `Content-Encoding` until it names its model; an error when the client went away. What is held back
/// meanwhile has its room of `held`.
pub(super) async fn find_model(
    mut body: Body,
    encoding: &str,
    held: &Memory,
) -> Result<Searched, axum::Error> {
    let start = Stamp::now();
    let mut begun = Begun::default();
    let mut search = Decoder::new(Search::default(), encoding).ok();
    let mut share = held.share();
    let mut given_up = search.is_none();
    while let Some(search) = &mut search {
        let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { break };
        let frame = frame?;
        let Some(piece) = frame.data_ref() else {
            // Trailers, which nothing follows.
            begun.push(frame);
            break;
        };
        let length = begun.length() + piece.len();
        let read = search.write(piece);
        let small = piece.len() < SMALL && begun.length() > 0;
        let copy = small.then(|| Bytes::copy_from_slice(piece));
        begun.push(copy.map_or(frame, Frame::data));
        if search.sink().found != Sought::Open {
            break;
        }
        if read.is_err() || length >= LONGEST_SEARCH || !share.grow(length) {
            given_up = true;
            break;
        }
    }
    begun.takes(share);
    let found = search.map(|mut search| std::mem::take(&mut search.sink().found));
    let model = match found {
        Some(Sought::Found(name)) => Some(name),
        _ => None,
    };
    let waited_ns = Stamp::now().since(start);
    Ok(Searched { model, given_up, begun, rest: body, waited_ns })
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
