//! The headers by which a caller says what its request is part of: `traceparent` and three members of `baggage`. Values
//! that break the rules are treated as absent, as the standards ask; nothing here ever fails a request.

use std::borrow::Cow;
use std::fmt;

use dwell_probes::span::{SpanId, TraceId};

/// Where in which trace a request was made.
///
/// Source: W3C Trace Context, level 1 section 3.2 and level 2 section 3.2 (`version-trace_id-parent_id-flags` in lower-case
/// hexadecimal digits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span.
    pub span_id: SpanId,
    /// The flags that we know: [`Self::SAMPLED`] and [`Self::RANDOM`].
    pub flags: u8,
}

impl TraceParent {
    /// Flag: the caller may have recorded its span.
    pub const SAMPLED: u8 = 1;
    /// Flag of level 2: the trace id's last 7 bytes are random.
    pub const RANDOM: u8 = 2;

    /// Reads a header's value; `None` where the standard says to go on as if there were none. Later versions are read as
    /// far as version 00 goes, and flags that are not known yet are dropped, as the standard asks.
    pub fn parse(header: &str) -> Option<Self> {
        const LEN: usize = 55;
        let header = header.trim_matches([' ', '\t']);
        let (known, rest) = header.split_at_checked(LEN)?;
        let mut fields = known.split('-');
        let version = lower_hex(fields.next()?, 2)?;
        let trace_id = TraceId::from_hex(lower_hex(fields.next()?, 32)?)?;
        let span_id = SpanId::from_hex(lower_hex(fields.next()?, 16)?)?;
        let flags = u8::from_str_radix(lower_hex(fields.next()?, 2)?, 16).ok()?;
        let fits = match version {
            "ff" => false,
            "00" => rest.is_empty(),
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let valid = fits && fields.next().is_none() && !trace_id.is_zero() && !span_id.is_zero();
        let flags = flags & (Self::SAMPLED | Self::RANDOM);
        valid.then_some(Self { trace_id, span_id, flags })
    }

    /// Whether the caller may have recorded its span.
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }
}

impl fmt::Display for TraceParent {
    /// The header's value in version 00.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

fn lower_hex(text: &str, digits: usize) -> Option<&str> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(hex)).then_some(text)
}

/// What the caller's baggage says about the agent.
///
/// Source: W3C Baggage, section 3 (`key=value;property`, comma-separated, values percent-encoded UTF-8); the names are those
/// of OpenTelemetry's GenAI attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `gen_ai.conversation.id`.
    pub conversation_id: Option<String>,
    /// `gen_ai.agent.call.id`.
    pub agent_call_id: Option<String>,
    /// `gen_ai.agent.name`.
    pub agent_name: Option<String>,
}

impl Baggage {
    /// Bytes of the header that are read; members that do not fit are ignored.
    pub const MAX_BYTES: usize = 8192;
    /// Members that are read.
    pub const MAX_MEMBERS: usize = 64;

    /// Reads a header's value (several headers: their values joined by commas). Malformed members are skipped, empty values
    /// count as absent, and the last of several members of the same name holds.
    pub fn parse(header: &str) -> Self {
        let mut baggage = Self::default();
        let mut used_bytes = 0;
        for member in header.split(',').take(Self::MAX_MEMBERS) {
            used_bytes += member.len() + 1;
            if used_bytes > Self::MAX_BYTES + 1 {
                break;
            }
            let Some((name, value)) = member.split_once('=') else { continue };
            let slot = match name.trim() {
                "gen_ai.conversation.id" => &mut baggage.conversation_id,
                "gen_ai.agent.call.id" => &mut baggage.agent_call_id,
                "gen_ai.agent.name" => &mut baggage.agent_name,
                _ => continue,
            };
            let value = value.split(';').next().unwrap_or_default().trim();
            *slot = Some(percent_decode(value).into_owned()).filter(|value| !value.is_empty());
        }
        baggage
    }
}

/// RFC 3986, section 2.1. A percent sign without two digits stays as it is; bytes that are not UTF-8 become U+FFFD.
fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let decoded = match behind {
            [high, low, after @ ..] if first == b'%' => {
                hex_byte(*high, *low).map(|byte| (byte, after))
            }
            _ => None,
        };
        let (byte, after) = decoded.unwrap_or((first, behind));
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_header_is_read_and_written() {
        let parent = TraceParent::parse(GOOD).unwrap();
        assert!(parent.is_sampled());
        assert_eq!(parent.to_string(), GOOD);
        assert_eq!(TraceParent::parse(&format!(" {GOOD}\t")), Some(parent));
    }

    #[test]
    fn flags_that_are_not_known_are_dropped() {
        let parent = TraceParent::parse(&GOOD.replace("-01", "-ff")).unwrap();
        assert_eq!(parent.flags, TraceParent::SAMPLED | TraceParent::RANDOM);
    }

    #[test]
    fn later_versions_are_read_as_far_as_version_00_goes() {
        let later = GOOD.replacen("00", "cc", 1);
        let read = TraceParent::parse(GOOD);
        assert_eq!(TraceParent::parse(&later), read);
        assert_eq!(TraceParent::parse(&format!("{later}-more")), read);
        assert_eq!(TraceParent::parse(&format!("{later}.more")), None);
        assert_eq!(TraceParent::parse(&format!("{GOOD}-more")), None);
    }

    #[test]
    fn what_breaks_the_rules_is_absent() {
        let zero_trace = GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let zero_span = GOOD.replace("00f067aa0ba902b7", &"0".repeat(16));
        let bad = [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0", 1),
            &GOOD.replace("4bf9", "4bfg"),
            &GOOD.replace('-', "_"),
            &GOOD.replace("-01", "-0é"),
            &GOOD.replace("4736-00f0", "-473600f0"),
            &zero_trace,
            &zero_span,
        ];
        for header in bad {
            assert_eq!(TraceParent::parse(header), None, "{header}");
        }
    }

    #[test]
    fn the_three_members_are_found() {
        let baggage = Baggage::parse(
            "x=1, gen_ai.conversation.id = a%20b%2Cc ;p=1,gen_ai.agent.name=L%C3%A4ufer,gen_ai.agent.call.id=%zz%F",
        );
        assert_eq!(baggage.conversation_id.as_deref(), Some("a b,c"));
        assert_eq!(baggage.agent_name.as_deref(), Some("Läufer"));
        assert_eq!(baggage.agent_call_id.as_deref(), Some("%zz%F"));
    }

    #[test]
    fn malformed_members_are_skipped() {
        let baggage = Baggage::parse(",,=,gen_ai.agent.name,gen_ai.conversation.id=,;=,%");
        assert_eq!(baggage, Baggage::default());
        assert_eq!(Baggage::parse("gen_ai.agent.name=%FF").agent_name.as_deref(), Some("\u{fffd}"));
    }

    #[test]
    fn the_limits_hold() {
        let many = "a=1,".repeat(Baggage::MAX_MEMBERS - 1);
        let name = "gen_ai.agent.name=x";
        assert!(Baggage::parse(&format!("{many}{name}")).agent_name.is_some());
        assert!(Baggage::parse(&format!("{many}a=1,{name}")).agent_name.is_none());
        let long = "a".repeat(Baggage::MAX_BYTES - name.len() - 3);
        assert!(Baggage::parse(&format!("b={long},{name}")).agent_name.is_some());
        assert!(Baggage::parse(&format!("b={long}a,{name}")).agent_name.is_none());
    }
}
