//! The scripted upstream of the relay's bench, and the collector of its peers' spans: both say the same to everybody, at a known
//! pace, and cost as little as they can. Each piece of a stream carries when it was sent.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use dwell_probes::time::Stamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Stands before the time at which a piece was sent, as [`DIGITS`] digits; nothing else that is sent holds it.
pub(super) const MARK: u8 = b'@';
/// Digits of that time, in nanoseconds.
pub(super) const DIGITS: usize = 20;

/// What a whole answer says.
const WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"A short answer, such as an agent gets between two calls of its tools."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":15,"total_tokens":35}}"#;

/// Pieces of a stream.
pub(super) const PIECES: u32 = 200;

/// Stands in a request before the milliseconds from one piece to the next.
const EVERY: &[u8] = b"one word every ";

/// How fast a stream goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// From one piece to the next, in milliseconds.
    pub(super) gap_ms: u32,
}

impl Pace {
    /// From one piece to the next.
    pub(super) const fn gap(self) -> Duration {
        Duration::from_millis(self.gap_ms as u64)
    }

    /// From a stream's first piece to its last.
    pub(super) fn length(self) -> Duration {
        self.gap() * (PIECES - 1)
    }

    /// What a request says of it, in words, so that every gateway passes it on.
    pub(super) fn asked(self) -> String {
        format!("{PIECES} words, {}{} ms", String::from_utf8_lossy(EVERY), self.gap_ms)
    }

    /// What was asked for in these words.
    fn of(request: &[u8]) -> Option<Self> {
        let behind = request.get(position(request, EVERY)? + EVERY.len()..)?;
        let digits = behind.split(|byte| !byte.is_ascii_digit()).next()?;
        Some(Self { gap_ms: std::str::from_utf8(digits).ok()?.parse().ok()? })
    }
}

/// An upstream in a thread of its own, which ends with the process.
pub(super) fn start() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (connection, _) = listener.accept().await?;
                connection.set_nodelay(true)?;
                tokio::spawn(async move {
                    if let Err(error) = serve(connection).await {
                        tracing::debug!(%error, "a connection to the scripted upstream ended");
                    }
                });
            }
            #[expect(unreachable_code, reason = "says what the block's errors are")]
            anyhow::Ok(())
        })
    })?;
    Ok(address)
}

async fn serve(mut connection: TcpStream) -> Result<()> {
    let whole = whole();
    let mut bytes = Vec::with_capacity(4096);
    while let Some(length) = request(&mut connection, &mut bytes).await? {
        let asked = bytes.get(..length).unwrap_or_default();
        // Some write a blank behind the colon.
        let streamed = holds(asked, b"\"stream\":true") || holds(asked, b"\"stream\": true");
        let pace = Pace::of(asked).filter(|_| streamed);
        bytes.drain(..length);
        if let Some(pace) = pace {
            stream(&mut connection, pace).await?;
        } else {
            connection.write_all(&whole).await?;
        }
    }
    Ok(())
}

fn whole() -> Vec<u8> {
    let length = WHOLE.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{WHOLE}")
        .into_bytes()
}

/// Reads until `bytes` begins with a whole request; its length, or `None` at the end.
async fn request(connection: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<Option<usize>> {
    loop {
        if let Some(length) = message_length(bytes)
            && bytes.len() >= length
        {
            return Ok(Some(length));
        }
        if connection.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

/// The length of the message that the bytes begin with, once its head is there: what `Content-Length` says, or up to the end of
/// a chunked body. `None` where more has to come first.
pub(super) fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = position(bytes, b"\r\n\r\n")? + 4;
    let lines = std::str::from_utf8(bytes.get(..head)?).ok()?.split("\r\n");
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let mut length = 0;
    let found = fields.find_map(|(name, value)| {
        let chunked = name.eq_ignore_ascii_case("transfer-encoding");
        let counted = name.eq_ignore_ascii_case("content-length");
        (chunked || counted).then_some((chunked, value.trim()))
    });
    match found {
        Some((true, _)) => return Some(head + position(bytes.get(head..)?, b"0\r\n\r\n")? + 5),
        Some((false, value)) => length = value.parse().ok()?,
        None => {}
    }
    Some(head + length)
}

pub(super) fn position(bytes: &[u8], sought: &[u8]) -> Option<usize> {
    bytes.windows(sought.len()).position(|window| window == sought)
}

fn holds(bytes: &[u8], sought: &[u8]) -> bool {
    position(bytes, sought).is_some()
}

async fn stream(connection: &mut TcpStream, pace: Pace) -> Result<()> {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    let start = Instant::now();
    for index in 0..PIECES {
        // The first comes at once: a timer's own coarseness would hide what a gateway adds to it.
        if index > 0 {
            sleep_until(start + pace.gap() * index).await;
        }
        let event = format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"@{:0DIGITS$} \"}},\"finish_reason\":null}}]}}\n\n",
            Stamp::now().0
        );
        let head = if index == 0 { HEAD } else { "" };
        let text = format!("{head}{:x}\r\n{event}\r\n", event.len());
        connection.write_all(text.as_bytes()).await?;
    }
    connection.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_that_is_asked_for_is_kept() {
        let asked = Pace { gap_ms: 5 }.asked();
        assert_eq!(Pace::of(asked.as_bytes()).unwrap().gap_ms, 5);
        assert_eq!(Pace { gap_ms: 5 }.length(), Duration::from_millis(995));
        assert!(Pace::of(b"{\"stream\":true}").is_none());
    }

    #[test]
    fn messages_end_where_their_heads_say() {
        assert_eq!(message_length(b"GET / HTTP/1.1\r\n\r\nx"), Some(18));
        assert_eq!(message_length(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), Some(40));
        assert_eq!(message_length(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), None);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        assert_eq!(message_length(chunked), Some(chunked.len()));
        assert_eq!(message_length(&chunked[..chunked.len() - 1]), None);
    }
}
