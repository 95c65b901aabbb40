//! Reading a request's body up to a limit. What the bytes mean and how a refusal looks is the caller's business.

use axum::body::Body;
use futures_util::StreamExt;

/// The largest body that is read, in bytes after decompression: OTLP's own limit, and far above any conversation.
pub const LIMIT_BYTES: usize = 64 << 20;

/// A body that is too long is read on and thrown away up to this many times the limit: a client that is still sending when the
/// connection closes sees a broken connection instead of the answer that says why.
const PATIENCE: usize = 4;

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is longer than the limit.
    #[error("the request body is longer than {} bytes; send less in one request", LIMIT_BYTES)]
    TooLong,
    /// The client went away, or what it sent is not HTTP.
    #[error("the request body ended early; send it again")]
    Broken,
}

/// Reads all of a body of at most [`LIMIT_BYTES`].
pub async fn read(body: Body) -> Result<Vec<u8>, Unread> {
    let announced = http_body::Body::size_hint(&body).lower();
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    if announced > PATIENCE * LIMIT_BYTES {
        return Err(Unread::TooLong);
    }
    let mut bytes = Vec::with_capacity(if announced > LIMIT_BYTES { 0 } else { announced });
    let mut seen: usize = 0;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Unread::Broken)?;
        seen = seen.saturating_add(piece.len());
        if seen <= LIMIT_BYTES {
            bytes.extend_from_slice(&piece);
        } else if seen > PATIENCE * LIMIT_BYTES {
            return Err(Unread::TooLong);
        } else {
            bytes = Vec::new();
        }
    }
    if seen > LIMIT_BYTES { Err(Unread::TooLong) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_of_the_limit_is_read_and_one_byte_more_is_not() {
        let whole = read(Body::from(vec![7; LIMIT_BYTES])).await.unwrap();
        assert_eq!(whole.len(), LIMIT_BYTES);
        assert_eq!(read(Body::from(vec![7; LIMIT_BYTES + 1])).await, Err(Unread::TooLong));
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_measured_while_it_comes() {
        let piece = vec![7_u8; 1 << 20];
        let pieces = |count: usize| {
            let piece = piece.clone();
            let all = (0..count).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
            Body::from_stream(futures_util::stream::iter(all))
        };
        assert_eq!(read(pieces(2)).await.unwrap().len(), 2 << 20);
        assert_eq!(read(pieces(65)).await, Err(Unread::TooLong));
        assert_eq!(read(pieces(1000)).await, Err(Unread::TooLong));
    }

    #[tokio::test]
    async fn a_broken_body_is_told_apart() {
        let broken = [Ok(vec![1_u8]), Err(std::io::Error::other("gone"))];
        let body = Body::from_stream(futures_util::stream::iter(broken));
        assert_eq!(read(body).await, Err(Unread::Broken));
    }
}
