//! Asks the hub: which files a repository has, what it says about each, and their bytes. `hf-hub` finds repositories and
//! streams bytes; what it says about a file it takes from wherever a redirect ends, which is not the hub, so that is asked
//! here.

use std::error::Error;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use tokio_util::bytes::Bytes;

use super::access::Access;
use super::cache::Cache;
use super::error::{HubError, Result};
use super::id::{ModelId, is_commit};

/// Redirects on the hub itself that are followed: renamed repositories, files by their content.
const MOST_REDIRECTS: usize = 5;

/// The most that is read into memory, in bytes: configurations, tokenizers, headers.
const MOST_IN_MEMORY: u64 = 200_000_000;

/// The hub.
pub struct Hub {
    pub(super) access: Access,
    client: HFClient,
    /// Follows no redirect, so that the hub's own answer is seen.
    direct: Client,
}

/// A revision of a repository.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The commit that the revision is at.
    pub commit: String,
    /// Its files.
    pub names: Vec<String>,
}

/// What the hub says about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What its content is called; for large files the SHA-256.
    pub etag: String,
    /// Bytes.
    pub size: u64,
}

impl About {
    /// The SHA-256 of the content, where the hub says it.
    pub fn sha256(&self) -> Option<&str> {
        let is_sha256 = self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit());
        is_sha256.then_some(self.etag.as_str())
    }
}

/// A file's bytes as they come.
pub(super) struct Body {
    /// How many are announced, where that is said.
    pub(super) announced: Option<u64>,
    pub(super) stream: BoxStream<'static, Result<Bytes, HFError>>,
}

impl Hub {
    /// Ready to ask; nothing is asked yet.
    pub fn new(access: Access) -> Result<Self> {
        let wrong =
            |problem: String| HubError::Endpoint { endpoint: access.endpoint.clone(), problem };
        Url::parse(&access.endpoint).map_err(|error| wrong(error.to_string()))?;
        // A server that says nothing for so long is tried again rather than waited for.
        let http = || {
            Client::builder()
                .user_agent(concat!("dwell/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(Duration::from_secs(10))
                .read_timeout(Duration::from_secs(30))
        };
        let direct = http().redirect(redirect::Policy::none()).build();
        let mut client = HFClient::builder()
            .endpoint(&access.endpoint)
            .cache_dir(&access.cache.root)
            .retry_max_attempts(2)
            .retry_base_delay(access.patience / 4)
            .client(http().build().map_err(|error| wrong(error.to_string()))?);
        if let Some(token) = &access.token {
            client = client.token(token);
        }
        let client = client.build().map_err(|error| wrong(error.to_string()))?;
        let direct = direct.map_err(|error| wrong(error.to_string()))?;
        Ok(Self { access, client, direct })
    }

    /// Where files go.
    pub fn cache(&self) -> &Cache {
        &self.access.cache
    }

    /// The files of the model's revision.
    pub async fn list(&self, id: &ModelId) -> Result<Listing> {
        if self.access.offline {
            return Err(HubError::Offline { id: id.clone(), cache: self.cache().root.clone() });
        }
        let info = self.repository(id).info().revision(&id.revision).send().await;
        let info = info.map_err(|error| self.explain(id, &error))?;
        let commit = info.sha.filter(|commit| is_commit(commit));
        let files = info.siblings.unwrap_or_default();
        Ok(Listing {
            commit: commit.ok_or_else(|| self.unusable("it names no commit"))?,
            names: files.into_iter().map(|file| file.rfilename).collect(),
        })
    }

    /// What the hub says about a file.
    pub async fn about(&self, id: &ModelId, commit: &str, file: &str) -> Result<About> {
        let base = format!("{}/{}/resolve/{commit}", self.access.endpoint, id.repository());
        let mut url = Url::parse(&base).map_err(|error| self.unusable(error.to_string()))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(file);
        }
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.direct.head(url.clone()).header("accept-encoding", "identity");
            if let Some(token) = &self.access.token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await;
            let answer = answer.map_err(|error| self.unusable(chain(&error.without_url())))?;
            match on_the_same_host(&url, &answer) {
                Some(next) => url = next,
                None => return self.read_about(id, file, &answer),
            }
        }
        Err(self.unusable(format!("{file} is redirected again and again")))
    }

    fn read_about(&self, id: &ModelId, file: &str, answer: &Response) -> Result<About> {
        let headers = answer.headers();
        if !answer.status().is_success() && !answer.status().is_redirection() {
            return Err(self.refused(id, answer.status(), text(headers, "x-error-code")));
        }
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        // It becomes a file's name.
        let sound = |etag: &&str| {
            !etag.is_empty()
                && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let etag = etag
            .filter(sound)
            .ok_or_else(|| self.unusable(format!("{file} has no usable etag")))?;
        let size = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"));
        let size = size.and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| self.unusable(format!("{file} has no size")))?;
        Ok(About { etag: etag.to_owned(), size })
    }

    /// A file's bytes, from `start` to before `end`, or all of them.
    pub(super) async fn open(
        &self,
        id: &ModelId,
        commit: &str,
        file: &str,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Body, HFError> {
        let repository = self.repository(id);
        let request = repository.download_file_stream().filename(file).revision(commit);
        let (announced, stream) = request.maybe_range(range).send().await?;
        Ok(Body { announced, stream: stream.boxed() })
    }

    /// A part of a file in memory; fewer bytes where the file ends before.
    pub async fn part(
        &self,
        id: &ModelId,
        commit: &str,
        file: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let most =
            usize::try_from((range.end - range.start).min(MOST_IN_MEMORY)).unwrap_or(usize::MAX);
        let skip = usize::try_from(range.start).unwrap_or(usize::MAX);
        let whole = range.end;
        let opened = self.open(id, commit, file, Some(range)).await;
        let mut body = opened.map_err(|error| self.explain(id, &error))?;
        // A server that knows no ranges sends the file from its beginning.
        let from_start = skip > 0 && body.announced.is_some_and(|bytes| bytes >= whole);
        let mut skip = if from_start { skip } else { 0 };
        let mut bytes = Vec::new();
        while bytes.len() < most {
            let Some(chunk) = body.stream.next().await else { break };
            let chunk = chunk.map_err(|error| self.explain(id, &error))?;
            let skipped = skip.min(chunk.len());
            skip -= skipped;
            bytes.extend_from_slice(&chunk[skipped..]);
        }
        bytes.truncate(most);
        Ok(bytes)
    }

    fn repository(&self, id: &ModelId) -> HFRepository<RepoTypeModel> {
        self.client.model(&id.owner, &id.name)
    }

    /// The error in the words of this program.
    pub(super) fn explain(&self, id: &ModelId, error: &HFError) -> HubError {
        match answered(error) {
            Some((status, code)) => self.refused(id, status, code),
            None => self.unusable(chain(error)),
        }
    }

    fn refused(&self, id: &ModelId, status: StatusCode, code: Option<&str>) -> HubError {
        let (id, endpoint) = (id.clone(), self.access.endpoint.clone());
        match (status.as_u16(), code) {
            (_, Some("GatedRepo")) => HubError::Gated { id, endpoint },
            (404, Some("RevisionNotFound")) => HubError::NoRevision { id, endpoint },
            // The hub does not tell strangers what exists.
            (404, _) | (401, Some("RepoNotFound")) => HubError::NotFound { id, endpoint },
            (status @ (401 | 403), _) => HubError::Denied { id, endpoint, status },
            (status, _) => {
                HubError::Unreachable { endpoint, problem: format!("it answers HTTP {status}") }
            }
        }
    }

    fn unusable(&self, problem: impl Into<String>) -> HubError {
        HubError::Unreachable { endpoint: self.access.endpoint.clone(), problem: problem.into() }
    }
}

/// Whether trying again can help: the hub said no.
pub(super) fn is_final(error: &HFError) -> bool {
    answered(error).is_some_and(|(status, _)| {
        let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
        status.is_client_error() && !later.contains(&status)
    })
}

/// The answer that an error is about: its status and the hub's own name for what is wrong.
fn answered(error: &HFError) -> Option<(StatusCode, Option<&str>)> {
    let context = match error {
        HFError::Http { context }
        | HFError::AuthRequired { context }
        | HFError::Forbidden { context }
        | HFError::Conflict { context }
        | HFError::RateLimited { context, .. } => context,
        HFError::RepoNotFound { context, .. }
        | HFError::RevisionNotFound { context, .. }
        | HFError::EntryNotFound { context, .. } => context.as_ref()?,
        _ => return None,
    };
    Some((context.status, context.error_code.as_deref()))
}

/// Where a redirect leads when it stays on the hub. Elsewhere lie the bytes; what is said about them is said here.
fn on_the_same_host(url: &Url, answer: &Response) -> Option<Url> {
    if !answer.status().is_redirection() {
        return None;
    }
    let next = url.join(text(answer.headers(), LOCATION.as_str())?).ok()?;
    (next.origin() == url.origin()).then_some(next)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An error and its causes in one line, without the address, which is told elsewhere.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    // That a request failed is known; why it did is further down.
    let request = error.downcast_ref::<HFError>().and_then(|error| match error {
        HFError::Request { source, .. } => source.source(),
        _ => None,
    });
    let mut cause = Some(request.unwrap_or(error));
    let mut told = String::new();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            let between = if told.is_empty() { "" } else { ": " };
            told = format!("{told}{between}{text}");
        }
        cause = error.source();
    }
    told
}
