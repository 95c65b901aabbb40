//! The load generator of the relay's bench: connections that ask the same again and again and note when what came. It runs in a
//! thread of its own, so that all sides are loaded alike.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dwell_probes::time::Stamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep_until};

use super::upstream::{DIGITS, MARK, PIECES, Pace, message_length};

/// How long an answer may take before the side that owes it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked: a turn of a small agent, streamed at a pace or whole.
fn request(address: SocketAddr, pace: Option<Pace>) -> Vec<u8> {
    let (streamed, how) = (pace.is_some(), pace.map(Pace::asked).unwrap_or_default());
    let body = format!(
        r#"{{"model":"m","stream":{streamed},"messages":[{{"role":"system","content":"You are a helpful assistant that answers briefly."}},{{"role":"user","content":"Where is the time going? {how}"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: */*\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What a stage of the bench measured on one side; times in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Of whole answers: from the request's first byte to the answer's last.
    pub(super) answers: Vec<u64>,
    /// Of streams: from the request's first byte to the first piece.
    pub(super) firsts: Vec<u64>,
    /// By how much a gap between two pieces was longer here than where they were sent; shorter counts as nothing.
    pub(super) stretches: Vec<u64>,
    /// Pieces of streams, those that do not count otherwise among them.
    pub(super) pieces: u64,
    /// How long the stage took.
    pub(super) wall_ns: u64,
}

struct Connection {
    stream: TcpStream,
    request: Rc<[u8]>,
    bytes: Vec<u8>,
}

impl Connection {
    async fn new(address: SocketAddr, request: &Rc<[u8]>) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: request.clone(), bytes: Vec::with_capacity(8192) })
    }

    async fn read(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.bytes);
        let count = tokio::time::timeout(PATIENCE, read).await.context("no answer")??;
        ensure!(count > 0, "the connection was closed");
        Ok(())
    }

    /// Asks once; nanoseconds until the answer's last byte.
    async fn ask(&mut self) -> Result<u64> {
        self.bytes.clear();
        let start = Stamp::now();
        self.stream.write_all(&self.request).await?;
        loop {
            self.read().await?;
            if message_length(&self.bytes).is_some_and(|length| self.bytes.len() >= length) {
                let took = Stamp::now().since(start);
                self.is_good()?;
                return Ok(took);
            }
        }
    }

    /// Asks for a stream and notes when its pieces came, if it `counts`.
    async fn listen(&mut self, heard: &RefCell<Heard>, counts: bool) -> Result<()> {
        self.bytes.clear();
        let start = Stamp::now();
        self.stream.write_all(&self.request).await?;
        let (mut looked, mut seen) = (0, 0);
        let mut before: Option<u64> = None;
        while seen < PIECES {
            self.read().await?;
            let now = Stamp::now();
            while let Some((sent, behind)) = next_piece(&self.bytes, looked) {
                looked = behind;
                seen += 1;
                let delay = now.since(Stamp(sent));
                let mut heard = heard.borrow_mut();
                heard.pieces += 1;
                match before.replace(delay) {
                    _ if !counts => {}
                    None => heard.firsts.push(now.since(start)),
                    Some(before) => heard.stretches.push(delay.saturating_sub(before)),
                }
            }
        }
        while !self.bytes.ends_with(b"0\r\n\r\n") {
            self.read().await?;
        }
        self.is_good()
    }

    fn is_good(&self) -> Result<()> {
        if self.bytes.starts_with(b"HTTP/1.1 200") {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.bytes);
        bail!("it answered: {}", text.chars().take(300).collect::<String>())
    }
}

/// When the next piece behind `from` was sent, and where it ends.
fn next_piece(bytes: &[u8], from: usize) -> Option<(u64, usize)> {
    let at = from + bytes.get(from..)?.iter().position(|&byte| byte == MARK)? + 1;
    let digits = bytes.get(at..at + DIGITS)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, at + DIGITS))
}

/// Runs a stage in a thread of its own.
async fn apart<F, T>(stage: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    F: Future<Output = Result<T>>,
    T: Send + 'static,
{
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, stage())
    };
    tokio::task::spawn_blocking(run).await?
}

/// Asks once on a connection of its own.
pub(super) async fn once(address: SocketAddr) -> Result<u64> {
    Connection::new(address, &request(address, None).into()).await?.ask().await
}

/// So many connections, each asking for whole answers one after the other, for so long.
pub(super) async fn answers(address: SocketAddr, count: usize, most: Duration) -> Result<Heard> {
    apart(move || async move {
        let request: Rc<[u8]> = request(address, None).into();
        let heard = Rc::<RefCell<Heard>>::default();
        let mut connections = Vec::new();
        for _ in 0..count {
            let mut connection = Connection::new(address, &request).await?;
            // The upstream's side of it is opened before anything counts.
            connection.ask().await?;
            connections.push(connection);
        }
        let start = Instant::now();
        let tasks: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                let heard = heard.clone();
                spawn_local(async move {
                    while start.elapsed() < most {
                        let took = connection.ask().await?;
                        heard.borrow_mut().answers.push(took);
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let wall_ns = u64::try_from(start.elapsed().as_nanos())?;
        Ok(Heard { wall_ns, ..heard.take() })
    })
    .await
}

/// So many requests a second, whether or not the ones before were answered, for so long.
pub(super) async fn paced(address: SocketAddr, per_second: u32, most: Duration) -> Result<Heard> {
    apart(move || async move {
        let request: Rc<[u8]> = request(address, None).into();
        let heard = Rc::<RefCell<Heard>>::default();
        let idle = Rc::<RefCell<Vec<Connection>>>::default();
        for _ in 0..8 {
            let mut connection = Connection::new(address, &request).await?;
            connection.ask().await?;
            idle.borrow_mut().push(connection);
        }
        let start = Instant::now();
        let gap = Duration::from_secs(1) / per_second;
        let mut tasks = Vec::new();
        let mut due = start;
        while due.duration_since(start) < most {
            sleep_until(due).await;
            due += gap;
            let rests = idle.borrow_mut().pop();
            let mut connection = match rests {
                Some(connection) => connection,
                None => Connection::new(address, &request).await?,
            };
            let (heard, idle) = (heard.clone(), idle.clone());
            tasks.push(spawn_local(async move {
                let took = connection.ask().await?;
                heard.borrow_mut().answers.push(took);
                idle.borrow_mut().push(connection);
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(heard.take())
    })
    .await
}

/// So many streams at once, for so long. The connections begin one behind the other over a stream's length, so that as many streams
/// begin as end at any time, and ask again and again; what is heard counts from each one's second stream on. `midway` is asked when
/// half of the time that counts is over.
pub(super) async fn streams(
    address: SocketAddr,
    count: u32,
    (pace, most): (Pace, Duration),
    midway: impl FnOnce() + Send + 'static,
) -> Result<Heard> {
    apart(move || async move {
        let heard = Rc::<RefCell<Heard>>::default();
        let start = Instant::now();
        let all_begun = start + pace.length();
        let listeners = listeners(address, count, pace).await?.zip(0..);
        let tasks: Vec<_> = listeners
            .map(|(mut connection, index): (_, u32)| {
                let heard = heard.clone();
                spawn_local(async move {
                    sleep_until(start + pace.length() * index / count).await;
                    connection.listen(&heard, false).await?;
                    while all_begun.elapsed() < most {
                        connection.listen(&heard, true).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        sleep_until(all_begun + most / 2).await;
        midway();
        for task in tasks {
            task.await??;
        }
        Ok(heard.take())
    })
    .await
}

/// So many streams that begin within a gap, each on a new connection.
pub(super) async fn burst(address: SocketAddr, count: u32, pace: Pace) -> Result<Heard> {
    apart(move || async move {
        let heard = Rc::<RefCell<Heard>>::default();
        let listeners = listeners(address, count, pace).await?.zip(0..);
        let start = Instant::now();
        let tasks: Vec<_> = listeners
            .map(|(mut connection, index): (_, u32)| {
                let heard = heard.clone();
                spawn_local(async move {
                    sleep_until(start + pace.gap() * index / count).await;
                    connection.listen(&heard, true).await
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(heard.take())
    })
    .await
}

async fn listeners(
    address: SocketAddr,
    count: u32,
    pace: Pace,
) -> Result<impl Iterator<Item = Connection>> {
    let request: Rc<[u8]> = request(address, Some(pace)).into();
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Connection::new(address, &request).await?);
    }
    Ok(connections.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::relay::upstream;

    #[test]
    fn pieces_are_found_however_they_were_cut() {
        let text = format!("x@{:020}\"y@{:020}", 7, 8);
        let bytes = text.as_bytes();
        assert_eq!(next_piece(bytes, 0), Some((7, 22)));
        assert_eq!(next_piece(bytes, 22), Some((8, bytes.len())));
        assert_eq!(next_piece(&bytes[..40], 22), None);
    }

    #[tokio::test]
    async fn the_upstream_answers_the_load() {
        let pace = Pace { gap_ms: 1 };
        let address = upstream::start().unwrap();
        let heard = answers(address, 2, Duration::from_millis(20)).await.unwrap();
        assert!(heard.answers.len() >= 2 && heard.wall_ns > 0);
        let heard = paced(address, 500, Duration::from_millis(20)).await.unwrap();
        assert_eq!(heard.answers.len(), 10);
        let gaps = usize::try_from(PIECES - 1).unwrap();
        let heard = burst(address, 4, pace).await.unwrap();
        assert_eq!((heard.firsts.len(), heard.stretches.len()), (4, 4 * gaps));
        let heard = streams(address, 2, (pace, pace.length() / 2), || {}).await.unwrap();
        let begun = heard.firsts.len();
        assert!(begun >= 1, "the first connection's second stream counts");
        assert_eq!(heard.stretches.len(), begun * gaps);
    }
}
