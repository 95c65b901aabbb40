//! One call, from its arrival to its end. A task of its own owns it, so that a client that hangs up loses nothing of the record:
//! the engine is told to stop, and the call is written down when it has.

use std::sync::Arc;

use axum::http::StatusCode;
use dwell_engine::backend::{self, Backend, Event, Finish, Generation, Outcome, Request};
use dwell_probes::cache::CacheUse;
use dwell_probes::call::{Ending, ToolRequest};
use dwell_probes::phase::Phase;
use dwell_probes::time::Stamp;
use dwell_probes::timeline::Timeline;
use dwell_wire::conversation::Link;
use dwell_wire::extension::Extension;
use dwell_wire::openai::{Error, FinishReason, TokenLikelihood, TokenLogprob, ToolCall, Usage};
use dwell_wire::sse;

use super::client::Client;
use super::so_far::{self, Since};
use super::voice::{Close, Said, Voice};
use super::{refusal, work};
use crate::record::{Ended, Recorder, keys};

/// A call that was understood and announced to the ledger.
pub(super) struct Call {
    /// Writes it down.
    pub(super) recorder: Recorder,
    /// Whoever waits for the answer.
    pub(super) client: Client,
    /// Writes the answer.
    pub(super) voice: Voice,
    /// The conversation so far; `None` for raw prompts.
    pub(super) last: Option<Link>,
    /// What its answer says of its times counts from there; `None` where it says nothing.
    pub(super) since: Option<Since>,
}

impl Call {
    /// Has the backend answer and the client told, to the end.
    pub(super) async fn run(
        mut self,
        backend: Arc<dyn Backend>,
        request: Request,
        timeline: Timeline,
    ) {
        let submitted = Stamp::now();
        // Rendering and tokenising a long conversation takes milliseconds.
        let submission =
            tokio::task::spawn_blocking(move || backend.submit(request, timeline)).await;
        let generation = match submission {
            Ok(Ok(generation)) => generation,
            Ok(Err(error)) => return self.refuse(&refusal::refused(error)),
            Err(_) => {
                let message = "the engine failed while it read the request".to_owned();
                return self.refuse(&Error::Internal { message });
            }
        };
        let mut said = Said::default();
        let (outcome, gone) = self.listen(generation, &mut said).await;
        let Some(outcome) = outcome else {
            let message = "the engine ended without an answer".to_owned();
            return self.refuse(&Error::Internal { message });
        };
        if gone {
            self.write_down(Ending::HungUp, 499, outcome, &said);
            return;
        }
        match &outcome.finish {
            Ok(Finish::Stop) => self.close(FinishReason::Stop, outcome, &mut said, submitted),
            Ok(Finish::Length) => self.close(FinishReason::Length, outcome, &mut said, submitted),
            Ok(Finish::ToolCalls) => {
                self.close(FinishReason::ToolCalls, outcome, &mut said, submitted);
            }
            // We did not ask for it, so the engine is being stopped.
            Ok(Finish::Cancelled) => self.fail(&Error::ShuttingDown, outcome, &said),
            Err(reason) => {
                let message = format!("the engine failed: {reason}");
                self.fail(&Error::Internal { message }, outcome, &said);
            }
        }
    }

    /// Passes on what the engine says until it is done; stops it when nobody listens. Also says whether that was so.
    async fn listen(
        &mut self,
        mut generation: Generation,
        said: &mut Said,
    ) -> (Option<Outcome>, bool) {
        let mut gone = false;
        loop {
            let event = tokio::select! {
                event = generation.events.recv() => event,
                () = self.client.gone(), if !gone => {
                    gone = true;
                    generation.cancel.cancel();
                    continue;
                }
            };
            match event {
                Some(Event::Prefill { processed, total }) => self.keep_alive(processed, total),
                Some(Event::Logprobs(tokens)) => said.logprobs.extend(tokens.into_iter().map(told)),
                Some(Event::Text(text)) => self.say(&text, said),
                Some(Event::Reasoning(text)) => self.think(&text, said),
                Some(Event::ToolCall { id, name }) => self.say_call(id, name, said),
                Some(Event::Arguments(json)) => self.say_arguments(&json, said),
                Some(Event::Done(outcome)) => return (Some(*outcome), gone),
                None => return (None, gone),
            }
        }
    }

    /// Tells a client that waits for a long prompt how far it is, in the form of `mlx_lm.server`.
    fn keep_alive(&mut self, processed: u32, total: u32) {
        if self.voice.streams {
            self.tell_times(None);
            self.client.stream(sse::comment(&format!("keepalive {processed}/{total}")));
        }
    }

    fn say(&mut self, text: &str, said: &mut Said) {
        let (tokens, offset) = said.untold();
        self.stream(|voice| voice.say(text, tokens, offset));
        said.content.push_str(text);
    }

    /// Sends how likely tokens were that no text has come of yet.
    fn tell_logprobs(&mut self, said: &mut Said) {
        let (tokens, offset) = said.untold();
        if !tokens.is_empty() {
            self.stream(|voice| voice.say("", tokens, offset));
        }
    }

    fn think(&mut self, text: &str, said: &mut Said) {
        if !self.voice.has_parts() {
            // Nothing that a model says is lost, also where the API has no place for it.
            return self.say(text, said);
        }
        self.tell_logprobs(said);
        self.stream(|voice| voice.think(text));
        said.reasoning.push_str(text);
    }

    fn say_call(&mut self, id: String, name: String, said: &mut Said) {
        if !self.voice.has_parts() {
            return self.say(&name, said);
        }
        self.tell_logprobs(said);
        let call = ToolCall { id, name, arguments: String::new() };
        self.stream(|voice| voice.call(said.tool_calls.len(), &call));
        said.tool_calls.push(call);
    }

    fn say_arguments(&mut self, json: &str, said: &mut Said) {
        if !said.tool_calls.is_empty() {
            self.tell_logprobs(said);
        }
        let index = said.tool_calls.len().saturating_sub(1);
        let Some(call) = said.tool_calls.last_mut() else { return self.say(json, said) };
        call.arguments.push_str(json);
        self.stream(|voice| voice.arguments(index, json));
    }

    /// Writes into the response's head what was taken so far, if that is yet to be sent.
    fn tell_times(&mut self, timeline: Option<&Timeline>) {
        if let (Some(since), false) = (self.since, self.client.has_begun()) {
            let told = timeline.map_or_else(|| since.waiting(), |work| since.answered(work));
            so_far::add(self.client.headers(), told);
        }
    }

    /// Sends what `write` writes, to a client that wants a stream.
    fn stream(&mut self, write: impl FnOnce(&Voice) -> Vec<u8>) {
        if self.voice.streams {
            self.tell_times(None);
            let mut bytes = self.voice.begin();
            bytes.extend_from_slice(&write(&self.voice));
            self.client.stream(bytes);
        }
    }

    /// The answer is complete. The ledger is told before the client has the last bytes: its next request follows on them.
    fn close(
        mut self,
        finish: FinishReason,
        mut outcome: Outcome,
        said: &mut Said,
        submitted: Stamp,
    ) {
        self.tell_logprobs(said);
        let done = Stamp::now();
        let usage = Usage {
            prompt_tokens: outcome.prompt_tokens.into(),
            completion_tokens: outcome.output_tokens.into(),
            cached_tokens: outcome.cached_tokens.into(),
            reasoning_tokens: outcome.reasoning_tokens.into(),
        };
        let extension = Extension::from(&work::work(&outcome, submitted, done));
        let close = Close { finish, usage, extension };
        let bytes = if self.voice.streams {
            let mut bytes = self.voice.begin();
            bytes.extend_from_slice(&self.voice.end(&close));
            bytes
        } else {
            self.voice.whole(said, &close)
        };
        outcome.timeline.record(Phase::Emit, done, Stamp::now());
        self.tell_times((!self.voice.streams).then_some(&outcome.timeline));
        self.recorder.answer_links =
            keys::answer_link(self.last, &said.message()).into_iter().collect();
        self.recorder.http.finish_reasons = vec![finish.as_str().to_owned()];
        let streams = self.voice.streams;
        self.write_down(Ending::Answered, 200, outcome, said);
        if streams {
            self.client.end_stream(bytes);
        } else {
            self.client.json(StatusCode::OK, bytes);
        }
    }

    /// The engine gave up after it had taken the request.
    fn fail(mut self, error: &Error, outcome: Outcome, said: &Said) {
        self.tell_times(None);
        let begun = self.client.has_begun();
        let status = if begun { 200 } else { error.status() };
        self.write_down(Ending::Failed(error.to_string()), status, outcome, said);
        if begun {
            self.client.end_stream(Voice::fail(error));
        } else {
            self.client.respond(refusal::response(error));
        }
    }

    /// The engine never took the request, or ended without a word.
    fn refuse(mut self, error: &Error) {
        self.tell_times(None);
        let begun = self.client.has_begun();
        let status = if begun { 200 } else { error.status() };
        self.recorder.refused(error.to_string(), status);
        if begun {
            self.client.end_stream(Voice::fail(error));
        } else {
            self.client.respond(refusal::response(error));
        }
    }

    fn write_down(&mut self, ending: Ending, status: u16, outcome: Outcome, said: &Said) {
        let tools = said.tool_calls.iter();
        let tools = tools
            .map(|call| ToolRequest { id: call.id.clone(), name: call.name.clone() })
            .collect();
        self.recorder.ended(
            status,
            Ended {
                ending,
                end: Stamp::now(),
                input_tokens: outcome.prompt_tokens.into(),
                output_tokens: outcome.output_tokens.into(),
                cached_tokens: outcome.cached_tokens.into(),
                cache: (outcome.cache != CacheUse::default()).then_some(outcome.cache),
                reasoning_tokens: outcome.reasoning_tokens.into(),
                tools,
                speculation: outcome.speculation,
                timeline: outcome.timeline,
            },
        );
    }
}

/// As the API writes it.
fn told(token: backend::TokenLogprob) -> TokenLogprob {
    let likelihood =
        |backend::TokenLikelihood { bytes, logprob }| TokenLikelihood { bytes, logprob };
    TokenLogprob {
        chosen: likelihood(token.chosen),
        top: token.top.into_iter().map(likelihood).collect(),
    }
}
