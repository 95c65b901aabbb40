//! What a request says about the run it belongs to: headers, path, and the conversation itself. Drawing the conclusion is the
//! ledger's business.

use axum::http::HeaderMap;
use dwell_wire::conversation;
use dwell_wire::trace_context::{Baggage, TraceParent};
use serde_json::Value;

use crate::ledger::{Link, RunKeys};

/// The header that names a run, in requests and in responses.
pub const RUN_HEADER: &str = "x-dwell-run";

/// The longest id of a run that is listened to, in bytes.
const LONGEST_RUN: usize = 128;

/// The keys of a request with these headers; `path_run` is the run in `/r/{run}/...`.
pub fn run_keys(headers: &HeaderMap, path_run: Option<&str>, links: Vec<Link>) -> RunKeys {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let run = text(RUN_HEADER).and_then(run_id).or_else(|| path_run.and_then(run_id));
    let parent = text("traceparent")
        .and_then(TraceParent::parse)
        .map(|parent| (parent.trace_id, parent.span_id));
    let baggage: Vec<&str> =
        headers.get_all("baggage").iter().filter_map(|value| value.to_str().ok()).collect();
    let baggage = Baggage::parse(&baggage.join(","));
    RunKeys { run, parent, baggage: baggage.agent_call_id.or(baggage.conversation_id), links }
}

/// A run's id as it may stand in headers and paths; anything else is as good as none.
fn run_id(text: &str) -> Option<String> {
    let id = text.trim();
    let fits = (1..=LONGEST_RUN).contains(&id.len());
    (fits && id.bytes().all(|byte| byte.is_ascii_graphic())).then(|| id.to_owned())
}

/// A chain of links as the ledger keeps it.
pub fn kept(links: &[conversation::Link]) -> Vec<Link> {
    links.iter().map(keep).collect()
}

/// The next link of a conversation with this `answer`; `None` for raw prompts, which have no chain.
pub fn answer_link(last: Option<conversation::Link>, answer: &Value) -> Option<Link> {
    Some(keep(&conversation::link_answer(last?, answer)))
}

/// A link as the ledger keeps it.
pub fn keep(link: &conversation::Link) -> Link {
    Link {
        whole: link.whole(),
        body: link.body(),
        window: link.window(),
        by_model: link.by_model(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use dwell_probes::span::{SpanId, TraceId};
    use serde_json::json;

    use super::*;

    fn keys(headers: &[(&'static str, &'static str)], path_run: Option<&str>) -> RunKeys {
        let headers: HeaderMap = headers
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        run_keys(&headers, path_run, Vec::new())
    }

    #[test]
    fn the_header_goes_before_the_path() {
        assert_eq!(keys(&[(RUN_HEADER, " a ")], Some("b")).run.as_deref(), Some("a"));
        assert_eq!(keys(&[], Some("b")).run.as_deref(), Some("b"));
        assert_eq!(keys(&[(RUN_HEADER, " ")], Some("b")).run.as_deref(), Some("b"));
        assert_eq!(keys(&[], Some("b c")).run, None);
        assert_eq!(keys(&[], Some(&"x".repeat(200))).run, None);
    }

    #[test]
    fn trace_and_baggage_are_read() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let told = keys(
            &[
                ("traceparent", parent),
                ("baggage", "gen_ai.conversation.id=c"),
                ("baggage", "gen_ai.agent.call.id=a"),
            ],
            None,
        );
        let trace = TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap();
        let span = SpanId::from_hex("b7ad6b7169203331").unwrap();
        assert_eq!(told.parent, Some((trace, span)));
        assert_eq!(told.baggage.as_deref(), Some("a"));
        let told = keys(&[("baggage", "gen_ai.conversation.id=c"), ("traceparent", "00-x")], None);
        assert_eq!((told.baggage.as_deref(), told.parent), (Some("c"), None));
    }

    #[test]
    fn the_next_request_holds_the_answers_link() {
        let mut messages = vec![json!({"role": "user", "content": "hi"})];
        let asked = conversation::chain(&messages);
        let answer = json!({"role": "assistant", "content": "hello"});
        let link = answer_link(asked.last().copied(), &answer).unwrap();
        messages.push(answer);
        messages.push(json!({"role": "user", "content": "more"}));
        let chain = kept(&conversation::chain(&messages));
        assert_eq!(chain[..1], kept(&asked));
        assert_eq!(chain[1], link);
        assert_ne!(chain[2], link);
        assert_eq!(answer_link(None, &json!({})), None);
    }
}
