//! WebSocket's frames (RFC 6455, section 5.2), as far as they tell how a conversation went: how many messages there were, and with
//! which code it was closed. What is said in them is not read.

/// The opcode of the frame that closes a conversation.
const CLOSE: u8 = 8;

/// Opcodes from here on are control frames', which are no part of a message.
const CONTROL: u8 = 8;

/// Reads the frames of one direction, however their bytes are cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// The bytes of a frame's head so far.
    head: Vec<u8>,
    /// The frame whose payload is passing.
    frame: Option<Frame>,
    messages: u64,
    closed: Option<Close>,
}

/// How a side closed its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code, where it gave one.
    pub code: Option<u16>,
}

impl Close {
    /// Whether nothing was wrong: done (1000), going away (1001), or no word about it.
    pub fn is_normal(self) -> bool {
        self.code.is_none_or(|code| matches!(code, 1000 | 1001))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    last: bool,
    opcode: u8,
    mask: [u8; 4],
    left: u64,
    /// The payload's first bytes, of a frame that closes.
    code: Vec<u8>,
}

impl Frames {
    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if let Some(frame) = &mut self.frame {
                let taken = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
                let (payload, behind) = bytes.split_at(taken);
                frame.take(payload);
                bytes = behind;
            } else {
                self.head.push(first);
                bytes = rest;
                self.frame = Frame::of(&self.head);
            }
            self.finish();
        }
    }

    /// Whole messages so far.
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// How this side closed the conversation, once it has.
    pub const fn closed(&self) -> Option<Close> {
        self.closed
    }

    fn finish(&mut self) {
        let Some(frame) = self.frame.take_if(|frame| frame.left == 0) else { return };
        self.head.clear();
        self.messages += u64::from(frame.last && frame.opcode < CONTROL);
        if frame.opcode == CLOSE && self.closed.is_none() {
            let code = <[u8; 2]>::try_from(frame.code).ok().map(u16::from_be_bytes);
            self.closed = Some(Close { code });
        }
    }
}

impl Frame {
    /// The frame with this head, when it is whole.
    fn of(head: &[u8]) -> Option<Self> {
        let (&first, rest) = head.split_first()?;
        let (&second, rest) = rest.split_first()?;
        let (left, rest) = match second & 0x7f {
            126 => rest
                .split_first_chunk()
                .map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest))?,
            127 => rest
                .split_first_chunk()
                .map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
            length => (length.into(), rest),
        };
        let mask = if second & 0x80 == 0 { [0; 4] } else { *rest.first_chunk()? };
        Some(Self { last: first & 0x80 != 0, opcode: first & 0x0f, mask, left, code: Vec::new() })
    }

    fn take(&mut self, payload: &[u8]) {
        self.left = self.left.saturating_sub(payload.len() as u64);
        if self.opcode == CLOSE {
            let missing = 2_usize.saturating_sub(self.code.len());
            for byte in payload.iter().take(missing) {
                let mask = self.mask.get(self.code.len()).copied().unwrap_or_default();
                self.code.push(byte ^ mask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as a server writes it, or with a mask as a client does.
    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let masked = if mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(masked | u8::try_from(length).unwrap()),
            length @ 126..65_536 => {
                bytes.push(masked | 0x7e);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(masked | 0x7f);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask.iter().flatten());
        let mask = mask.unwrap_or_default();
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[test]
    fn messages_are_counted_and_the_closing_is_found() {
        for mask in [None, Some([1, 2, 3, 4])] {
            let mut frames = Frames::default();
            for length in [0, 125, 126, 65_535, 65_536] {
                frames.push(&frame(0x81, &vec![b'x'; length], mask));
            }
            assert_eq!((frames.messages(), frames.closed()), (5, None));
            // One message in three pieces with a ping among them.
            for (first, payload) in [(0x02, "a"), (0x89, "ping"), (0x00, "b"), (0x80, "c")] {
                frames.push(&frame(first, payload.as_bytes(), mask));
            }
            assert_eq!(frames.messages(), 6);
            frames.push(&frame(0x88, &[&1011_u16.to_be_bytes()[..], b"overloaded"].concat(), mask));
            assert_eq!(frames.closed(), Some(Close { code: Some(1011) }));
            assert!(!frames.closed().unwrap().is_normal());
            frames.push(&frame(0x88, &[], mask));
            assert_eq!(frames.closed(), Some(Close { code: Some(1011) }), "the first word stands");
        }
        let mut frames = Frames::default();
        frames.push(&frame(0x88, &[], None));
        assert!(frames.closed().unwrap().is_normal());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_however_they_are_cut(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        ) {
            let (mut cut, mut whole) = (Frames::default(), Frames::default());
            for piece in &pieces {
                cut.push(piece);
            }
            whole.push(&pieces.concat());
            prop_assert_eq!(cut, whole);
        }
    }
}
