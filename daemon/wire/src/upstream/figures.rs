//! What servers say about their own times: in the answer beside what it says, and in headers. Units differ from server to
//! server; here they become nanoseconds. Figures that are no sane durations count as not said.

use dwell_probes::relay::ServerTimes;
use dwell_probes::speculation::Speculation;
use serde_json::Value;

use super::facts::{Gathered, number};
use crate::server_timing;

const MS: f64 = 1e6;
const SECOND: f64 = 1e9;

/// Takes the figures of an answer, a chunk or an event.
pub(super) fn read(object: &Value, to: &mut Gathered) {
    let Some(fields) = object.as_object() else { return };
    for (name, value) in fields {
        match name.as_str() {
            "metrics" => vllm(value, to),
            "timings" => llama_cpp(value, to),
            "usage" => groq(value, to),
            "x_groq" => value.get("usage").into_iter().for_each(|usage| groq(usage, to)),
            "time_info" => cerebras(value, to),
            "perf_metrics" => fireworks(value, to),
            "stats" => lm_studio(value, to),
            "meta_info" => sglang(value, to),
            "sglext" => sglang_drafting(value.get("spec_tokens_details"), to),
            "total_duration" => ollama(object, to),
            _ => {}
        }
    }
}

/// Figures in a response header. What they call the whole ends with the head: of a stream it is not all of the work.
pub fn header(name: &str, value: &str, times: &mut ServerTimes) {
    let seconds = || value.trim().parse::<f64>().ok().and_then(|number| ns(number, SECOND));
    let told = match name {
        "openai-processing-ms" => ServerTimes {
            source: Some("openai-processing-ms"),
            head_ns: value.trim().parse().ok().and_then(|number| ns(number, MS)),
            ..ServerTimes::default()
        },
        "server-timing" => timing(value),
        "fireworks-server-time-to-first-token" => ServerTimes {
            source: Some("fireworks headers"),
            prefill_ns: seconds(),
            ..ServerTimes::default()
        },
        "fireworks-server-processing-time" => ServerTimes {
            source: Some("fireworks headers"),
            head_ns: seconds(),
            ..ServerTimes::default()
        },
        _ => return,
    };
    if told.is_known() {
        times.complete(&told);
    }
}

/// The metrics of a `Server-Timing` header whose names say which work they are.
fn timing(header: &str) -> ServerTimes {
    let mut times = ServerTimes { source: Some("Server-Timing"), ..ServerTimes::default() };
    for (name, ns) in server_timing::parse(header) {
        let slot = match name.to_ascii_lowercase().as_str() {
            "queue" | "queued" => &mut times.queue_ns,
            "prefill" | "prompt" | "prompt_eval" => &mut times.prefill_ns,
            "decode" | "generation" | "generate" | "eval" | "predicted" => &mut times.decode_ns,
            "draft" => &mut times.draft_ns,
            "total" | "inference" | "model" => &mut times.head_ns,
            _ => continue,
        };
        *slot = Some(slot.unwrap_or(0).saturating_add(ns));
    }
    times
}

/// Nanoseconds of so many units; `None` unless it is a duration of less than about a month.
fn ns(number: f64, unit: f64) -> Option<u64> {
    const LONGEST_NS: f64 = 3e15;
    let ns = number * unit;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range"
    )]
    (0.0..=LONGEST_NS).contains(&ns).then_some(ns.round() as u64)
}

fn duration(object: &Value, name: &str, unit: f64) -> Option<u64> {
    object.get(name).and_then(Value::as_f64).and_then(|number| ns(number, unit))
}

/// The sum of those that are there.
fn sum(object: &Value, names: &[&str], unit: f64) -> Option<u64> {
    let parts = names.iter().filter_map(|name| duration(object, name, unit));
    parts.reduce(u64::saturating_add)
}

/// Later figures stand: servers that send some with every chunk count up.
fn take(to: &mut Gathered, mut told: ServerTimes) {
    if told.is_known() {
        told.complete(&to.facts.times);
        to.facts.times = told;
    }
}

fn llama_cpp(timings: &Value, to: &mut Gathered) {
    take(
        to,
        ServerTimes {
            source: Some("llama.cpp timings"),
            prefill_ns: duration(timings, "prompt_ms", MS),
            decode_ns: duration(timings, "predicted_ms", MS),
            ..ServerTimes::default()
        },
    );
    let count = |name: &str| timings.get(name).and_then(Value::as_u64);
    let cached = count("cache_n");
    let facts = &mut to.facts;
    facts.cached_tokens = cached.unwrap_or(facts.cached_tokens);
    if let (None, Some(prompt)) = (facts.input_tokens, count("prompt_n")) {
        facts.input_tokens = Some(prompt.saturating_add(cached.unwrap_or(0)));
    }
    facts.output_tokens = facts.output_tokens.or(count("predicted_n"));
    let rounds = count("draft_rounds").unwrap_or(0);
    drafting(to, count("draft_n"), count("draft_n_accepted"), rounds);
}

/// vLLM's, whose fields dwell's own engine has, too.
fn vllm(metrics: &Value, to: &mut Gathered) {
    let drafts = metrics.get("speculative_decoding").unwrap_or(&Value::Null);
    take(
        to,
        ServerTimes {
            source: Some("vLLM metrics"),
            queue_ns: duration(metrics, "queue_time_ms", MS),
            prefill_ns: duration(metrics, "time_to_first_token_ms", MS),
            decode_ns: duration(metrics, "generation_time_ms", MS),
            draft_ns: duration(drafts, "draft_time_ms", MS),
            ..ServerTimes::default()
        },
    );
    let count = |name: &str| drafts.get(name).and_then(Value::as_u64);
    let rounds = count("num_spec_steps").unwrap_or(0);
    drafting(to, count("num_draft_tokens"), count("num_accepted_draft_tokens"), rounds);
}

/// Groq's total leaves the queue out.
fn groq(usage: &Value, to: &mut Gathered) {
    take(to, in_seconds("Groq usage", usage));
}

fn cerebras(info: &Value, to: &mut Gathered) {
    take(to, in_seconds("Cerebras time_info", info));
}

fn in_seconds(source: &'static str, object: &Value) -> ServerTimes {
    ServerTimes {
        source: Some(source),
        queue_ns: duration(object, "queue_time", SECOND),
        prefill_ns: duration(object, "prompt_time", SECOND),
        decode_ns: duration(object, "completion_time", SECOND),
        total_ns: duration(object, "total_time", SECOND),
        ..ServerTimes::default()
    }
}

fn fireworks(metrics: &Value, to: &mut Gathered) {
    const QUEUES: [&str; 3] =
        ["tokenizer-queue-duration", "prefill-queue-duration", "generation-queue-duration"];
    let first = duration(metrics, "server-time-to-first-token", SECOND);
    let total = duration(metrics, "server-processing-time", SECOND);
    let prefill = sum(metrics, &["tokenizer-duration", "prefill-duration"], SECOND);
    let decode = duration(metrics, "generation-duration", SECOND);
    let after_first = total.zip(first).map(|(total, first)| total.saturating_sub(first));
    take(
        to,
        ServerTimes {
            source: Some("Fireworks perf_metrics"),
            queue_ns: sum(metrics, &QUEUES, SECOND),
            prefill_ns: prefill.or(first),
            decode_ns: decode.or(after_first),
            total_ns: total,
            ..ServerTimes::default()
        },
    );
}

fn lm_studio(stats: &Value, to: &mut Gathered) {
    let first = sum(stats, &["time_to_first_token_seconds", "time_to_first_token"], SECOND);
    let speed = stats.get("tokens_per_second").and_then(Value::as_f64);
    let tokens = stats.get("total_output_tokens").and_then(Value::as_f64);
    let by_speed = || ns(tokens? / speed.filter(|&speed| speed > 0.0)?, SECOND);
    take(
        to,
        ServerTimes {
            source: Some("LM Studio stats"),
            queue_ns: duration(stats, "model_load_time_seconds", SECOND),
            prefill_ns: first,
            decode_ns: duration(stats, "generation_time", SECOND).or_else(by_speed),
            ..ServerTimes::default()
        },
    );
    let count = |name: &str| stats.get(name).and_then(Value::as_u64);
    drafting(to, count("total_draft_tokens_count"), count("accepted_draft_tokens_count"), 0);
}

/// Its first token counts from the request's arrival.
fn sglang(meta: &Value, to: &mut Gathered) {
    let queue = duration(meta, "queue_time", SECOND);
    let first = duration(meta, "first_token_latency", SECOND);
    let all = duration(meta, "e2e_latency", SECOND);
    take(
        to,
        ServerTimes {
            source: Some("SGLang meta_info"),
            queue_ns: queue,
            prefill_ns: first.map(|first| first.saturating_sub(queue.unwrap_or(0))),
            decode_ns: all.zip(first).map(|(all, first)| all.saturating_sub(first)),
            total_ns: all,
            ..ServerTimes::default()
        },
    );
    sglang_drafting(Some(meta), to);
}

fn sglang_drafting(details: Option<&Value>, to: &mut Gathered) {
    let Some(details) = details else { return };
    let count = |name: &str| details.get(name).and_then(Value::as_u64);
    let rounds = count("spec_verify_ct").unwrap_or(0);
    drafting(to, count("spec_num_proposed_drafts"), count("spec_num_correct_drafts"), rounds);
}

/// Loading the model hides the wait for a free place, so that both count as waiting.
fn ollama(answer: &Value, to: &mut Gathered) {
    take(
        to,
        ServerTimes {
            source: Some("Ollama durations"),
            queue_ns: duration(answer, "load_duration", 1.0),
            prefill_ns: duration(answer, "prompt_eval_duration", 1.0),
            decode_ns: duration(answer, "eval_duration", 1.0),
            total_ns: duration(answer, "total_duration", 1.0),
            ..ServerTimes::default()
        },
    );
    to.facts.input_tokens = number(answer, "/prompt_eval_count").or(to.facts.input_tokens);
}

fn drafting(to: &mut Gathered, drafted: Option<u64>, accepted: Option<u64>, rounds: u64) {
    let Some(drafted) = drafted.filter(|&drafted| drafted > 0) else { return };
    let known = to.facts.speculation.get_or_insert_with(Speculation::default);
    known.drafted = drafted;
    known.accepted = accepted.unwrap_or(0).min(drafted);
    known.rounds = rounds.max(known.rounds);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Queue, prefill, decode and total in milliseconds.
    fn times(object: &Value) -> (ServerTimes, [Option<u64>; 4]) {
        let mut gathered = Gathered::default();
        read(object, &mut gathered);
        let times = gathered.facts.times;
        let ms = [times.queue_ns, times.prefill_ns, times.decode_ns, times.total_ns];
        (times, ms.map(|ns| ns.map(|ns| ns / 1_000_000)))
    }

    #[test]
    fn every_server_is_read_in_its_own_units() {
        let groq = json!({"queue_time": 0.01, "prompt_time": 0.02, "completion_time": 0.03, "total_time": 0.05});
        let cases = [
            (
                json!({"timings": {"prompt_ms": 20.0, "predicted_ms": 30.5, "cache_n": 1}}),
                "llama.cpp timings",
                [None, Some(20), Some(30), None],
            ),
            (
                json!({"metrics": {"queue_time_ms": 10, "time_to_first_token_ms": 20.0, "generation_time_ms": 30.0}}),
                "vLLM metrics",
                [Some(10), Some(20), Some(30), None],
            ),
            (json!({"usage": groq}), "Groq usage", [Some(10), Some(20), Some(30), Some(50)]),
            (
                json!({"x_groq": {"usage": groq}}),
                "Groq usage",
                [Some(10), Some(20), Some(30), Some(50)],
            ),
            (
                json!({"time_info": groq}),
                "Cerebras time_info",
                [Some(10), Some(20), Some(30), Some(50)],
            ),
            (
                json!({"perf_metrics": {"server-time-to-first-token": 0.02, "server-processing-time": 0.05}}),
                "Fireworks perf_metrics",
                [None, Some(20), Some(30), Some(50)],
            ),
            (
                json!({"perf_metrics": {"prefill-queue-duration": 0.004, "generation-queue-duration": 0.006,
                    "tokenizer-duration": 0.005, "prefill-duration": 0.015, "generation-duration": 0.03}}),
                "Fireworks perf_metrics",
                [Some(10), Some(20), Some(30), None],
            ),
            (
                json!({"stats": {"time_to_first_token": 0.02, "generation_time": 0.03}}),
                "LM Studio stats",
                [None, Some(20), Some(30), None],
            ),
            (
                json!({"stats": {"time_to_first_token_seconds": 0.02, "tokens_per_second": 100.0, "total_output_tokens": 3}}),
                "LM Studio stats",
                [None, Some(20), Some(30), None],
            ),
            (
                json!({"meta_info": {"queue_time": 0.01, "first_token_latency": 0.03, "e2e_latency": 0.06}}),
                "SGLang meta_info",
                [Some(10), Some(20), Some(30), Some(60)],
            ),
            (
                json!({"total_duration": 70_000_000, "load_duration": 10_000_000, "prompt_eval_duration": 20_000_000, "eval_duration": 30_000_000}),
                "Ollama durations",
                [Some(10), Some(20), Some(30), Some(70)],
            ),
        ];
        for (object, source, expected) in cases {
            let (times, ms) = times(&object);
            assert_eq!((times.source, ms), (Some(source), expected), "{object}");
        }
    }

    #[test]
    fn headers_are_read() {
        let mut times = ServerTimes::default();
        header("openai-processing-ms", "120", &mut times);
        assert_eq!(
            (times.source, times.head_ns),
            (Some("openai-processing-ms"), Some(120_000_000))
        );
        let mut times = ServerTimes::default();
        header("server-timing", "cdn;dur=5, queue;desc=\"q\";dur=1.5, prefill;dur=2", &mut times);
        assert_eq!((times.queue_ns, times.prefill_ns), (Some(1_500_000), Some(2_000_000)));
        header("server-timing", "cdn;dur=5", &mut times);
        header("openai-processing-ms", "soon", &mut times);
        assert_eq!((times.source, times.head_ns), (Some("Server-Timing"), None));
    }

    #[test]
    fn what_is_no_duration_is_not_said() {
        for number in [json!(-1), json!("3"), json!(1e300), json!(null)] {
            let (times, _) = times(&json!({"timings": {"prompt_ms": number}}));
            assert!(!times.is_known(), "{number}");
        }
    }

    #[test]
    fn drafting_is_read() {
        let objects = [
            json!({"timings": {"draft_n": 10, "draft_n_accepted": 7, "draft_rounds": 4}}),
            json!({"metrics": {"speculative_decoding": {"num_draft_tokens": 10, "num_accepted_draft_tokens": 7, "num_spec_steps": 4}}}),
            json!({"sglext": {"spec_tokens_details": {"spec_num_proposed_drafts": 10, "spec_num_correct_drafts": 7, "spec_verify_ct": 4}}}),
        ];
        for object in objects {
            let mut gathered = Gathered::default();
            read(&object, &mut gathered);
            let known = gathered.facts.speculation.unwrap();
            assert_eq!((known.drafted, known.accepted, known.rounds), (10, 7, 4), "{object}");
        }
    }
}
