//! The account of a run as text: the head, the categories with their phases, the tools, the calls, the drafting, and the
//! sentence that says it in words. At most 80 columns.

use std::collections::BTreeMap;

use dwell_probes::cache::Change;
use dwell_probes::category::Category;
use dwell_probes::phase::Phase;
use dwell_probes::relay::GatewayTime;
use dwell_probes::report::{CallReport, RunReport};
use dwell_probes::run::RunState;

use super::format::{bar, clip, count, duration, per_cent, share, speed};
use super::table::{Align, columns};
use super::{Screen, remarks};

/// The widest line.
const WIDTH: usize = 80;
/// Cells of a bar that stands for the whole run.
const BAR: u32 = 24;
/// More calls than these are told by their number only.
const MAX_CALLS: usize = 12;
/// What takes less than one part in so many of the wall time is left out where there is more to tell.
const WORTH_A_LINE: u64 = 100;
/// What marks a time that was concluded, not measured.
const INFERRED: &str = "~";

/// Everything there is to say about a run.
pub fn full(report: &RunReport, screen: Screen) -> String {
    below(head(report, screen), report, screen)
}

/// Everything there is to say about several runs together, below a title.
pub fn total(title: &str, report: &RunReport, screen: Screen) -> String {
    let title = format!("{title}  {} wall", duration(report.wall_ns));
    below(vec![screen.strong(&clip(&title, WIDTH))], report, screen)
}

fn below(head: Vec<String>, report: &RunReport, screen: Screen) -> String {
    let parts = [
        head,
        categories(report, screen),
        tools(report, screen),
        calls(report, screen),
        models(report, screen),
        recomputing(report),
        drafting(report),
        relaying(report),
        foot(report, screen),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter(|lines| !lines.is_empty()).map(|lines| lines.join("\n")).collect();
    format!("{}\n", parts.join("\n\n"))
}

/// One line of at most `width` characters: how the wall time is split, largest part first. Small parts that do not fit are
/// left out.
pub fn split(report: &RunReport, width: usize, screen: Screen) -> String {
    const SEPARATOR: &str = " · ";
    let mut parts: Vec<(Category, u64)> = report.account.iter().filter(|&(_, ns)| ns > 0).collect();
    // A stable sort: equal parts stay in display order.
    parts.sort_by_key(|&(_, ns)| std::cmp::Reverse(ns));
    let mut line = String::new();
    let mut used = 0;
    for (category, ns) in parts {
        let mark = if report.inferred[category] > 0 { INFERRED } else { "" };
        let text = format!("{} {mark}{}", category.name(), share(ns, report.wall_ns));
        let separator = if line.is_empty() { "" } else { SEPARATOR };
        used += separator.chars().count() + text.chars().count();
        if used > width {
            break;
        }
        line.push_str(separator);
        line.push_str(&screen.category(category, &text));
    }
    line
}

fn head(report: &RunReport, screen: Screen) -> Vec<String> {
    let run = &report.run;
    let mut title = run.id.clone();
    for part in [&run.agent, &run.name].into_iter().flatten() {
        title.push_str("  ");
        title.push_str(part);
    }
    let state = match run.state {
        RunState::Open => "open",
        RunState::Finished => "",
        RunState::Unfinished => "unfinished",
    };
    let room = WIDTH - if state.is_empty() { 0 } else { state.len() + 2 };
    let title = screen.strong(&clip(&title, room));
    let first = if state.is_empty() { title } else { format!("{title}  {}", screen.bad(state)) };
    let tool_calls: u64 = report.tools.iter().map(|tool| tool.calls).sum();
    let facts = [
        format!("{} wall", duration(report.wall_ns)),
        count(report.calls.len(), "model call"),
        count(usize::try_from(tool_calls).unwrap_or(usize::MAX), "tool call"),
        started(&run.started_at),
    ];
    let mut lines = vec![first, screen.faint(&facts.join(" · "))];
    if run.state == RunState::Unfinished {
        lines.push("It broke off: this is what was recorded until then.".to_owned());
    }
    lines
}

/// `2026-11-20T20:46:12.123Z` without its fraction and its T.
fn started(at: &str) -> String {
    let (seconds, _) = at.split_once('.').unwrap_or((at, ""));
    format!("{} UTC", seconds.trim_end_matches('Z').replace('T', " "))
}

fn categories(report: &RunReport, screen: Screen) -> Vec<String> {
    let wall = report.wall_ns;
    let mut lines = Vec::new();
    let mut absent = Vec::new();
    // What was inferred is told behind the bars, and all bars have the same scale.
    let cells = if report.inferred.total() > 0 { BAR - 4 } else { BAR };
    for (category, ns) in report.account.iter() {
        if ns == 0 {
            absent.push(category.name());
            continue;
        }
        lines.push(category_line(report, (category, ns), cells, screen));
        lines.extend(phases(report, category).map(|line| screen.faint(&line)));
    }
    if report.account.total() > 0 {
        let parallel = if report.parallelism > 1.005 {
            format!("  {:.2} things at once on average", report.parallelism)
        } else {
            String::new()
        };
        lines.push(format!("{:<15}  {:>11}  {:>7}{parallel}", "total", duration(wall), "100 %"));
    }
    lines.extend(at_work(report, screen));
    if !absent.is_empty() {
        lines.push(screen.faint(&format!("nothing in {}", absent.join(", "))));
    }
    lines
}

/// A line for each phase: of the model's work all, of the rest those that took a time worth a line.
fn phases(report: &RunReport, category: Category) -> impl Iterator<Item = String> {
    let every = matches!(category, Category::Generation | Category::Speculation);
    let least = if every { 1 } else { (report.wall_ns / WORTH_A_LINE).max(1) };
    let own = move |phase: Phase, ns: u64| phase.category() == category && ns >= least;
    report.phases.iter().filter(move |&(&phase, &ns)| own(phase, ns)).map(|(&phase, &ns)| {
        let (time, share) = (duration(ns), share(ns, report.wall_ns));
        let line = format!("  {:<13}  {time:>11}  {share:>7}  {}", phase.name(), remark(phase));
        line.trim_end().to_owned()
    })
}

/// How the time from the first to the last call or tool is split, where a good part of the run lies outside of it.
fn at_work(report: &RunReport, screen: Screen) -> Vec<String> {
    let phase = |phase: Phase| report.phases.get(&phase).copied().unwrap_or(0);
    let edges_ns = phase(Phase::Startup).saturating_add(phase(Phase::Shutdown));
    let wall_ns = report.wall_ns.saturating_sub(edges_ns);
    if wall_ns == 0 || edges_ns.saturating_mul(10) < report.wall_ns {
        return Vec::new();
    }
    let mut work = RunReport { wall_ns, ..report.clone() };
    work.account[Category::Framework] = work.account[Category::Framework].saturating_sub(edges_ns);
    vec![
        format!("without startup and shutdown, {}:", duration(wall_ns)),
        format!("  {}", split(&work, WIDTH - 2, screen)),
    ]
}

/// What a phase's name does not tell.
const fn remark(phase: Phase) -> &'static str {
    match phase {
        Phase::Startup => "before the first call or tool",
        Phase::Shutdown => "after the last call or tool",
        Phase::Mcp => "MCP apart from tool calls",
        Phase::Client => "in the client's library, around its requests",
        Phase::Retry => "on connections that had been closed",
        Phase::Tunnel => "open connections that are not read",
        Phase::Pause => "between an answer and the next message",
        _ => "",
    }
}

fn category_line(
    report: &RunReport,
    (category, ns): (Category, u64),
    cells: u32,
    screen: Screen,
) -> String {
    let inferred = report.inferred[category];
    let (mark, note) = match inferred {
        0 => ("", String::new()),
        part if part >= ns => (INFERRED, "  inferred".to_owned()),
        part => ("", format!("  {} inferred", duration(part))),
    };
    let time = format!("{mark}{}", duration(ns));
    let bar = bar(ns, report.wall_ns, cells);
    let line = format!(
        "{}  {time:>11}  {:>7}  {}{note}",
        screen.category(category, &format!("{:<15}", category.name())),
        share(ns, report.wall_ns),
        screen.category(category, &bar),
    );
    line.trim_end().to_owned()
}

fn tools(report: &RunReport, screen: Screen) -> Vec<String> {
    if report.tools.is_empty() {
        return Vec::new();
    }
    let mut rows = vec![["tool", "calls", "time", ""].map(str::to_owned).to_vec()];
    rows.extend(report.tools.iter().map(|tool| {
        let (mark, note) = if tool.inferred { (INFERRED, "inferred") } else { ("", "") };
        vec![
            clip(&tool.name, 40),
            tool.calls.to_string(),
            format!("{mark}{}", duration(tool.wall_ns)),
            note.to_owned(),
        ]
    }));
    let lines = columns(&[Align::Left, Align::Right, Align::Right], &rows);
    with_faint_head(lines, screen)
}

fn with_faint_head(mut lines: Vec<String>, screen: Screen) -> Vec<String> {
    if let Some(head) = lines.first_mut() {
        *head = screen.faint(head);
    }
    lines
}

fn calls(report: &RunReport, screen: Screen) -> Vec<String> {
    if report.calls.is_empty() {
        return Vec::new();
    }
    let drafts = report.calls.iter().any(|call| accepted(call).is_some());
    // Where nothing was drafted, the models' names get the room.
    let (columns_shown, name_width) = if drafts { (8, 20) } else { (7, 30) };
    let head = ["call", "model", "first token", "time", "in", "out", "tok/s", "accepted"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let shown = report.calls.iter().take(MAX_CALLS).enumerate();
    rows.extend(shown.clone().map(|(index, call)| call_row(index + 1, call, name_width)));
    for row in &mut rows {
        row.truncate(columns_shown);
    }
    let aligns = [
        Align::Right,
        Align::Left,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
        Align::Right,
    ];
    let mut lines = with_faint_head(columns(&aligns, &rows), screen);
    lines.extend(remarks::calls(shown, WIDTH, screen));
    let hidden = report.calls.len().saturating_sub(MAX_CALLS);
    if hidden > 0 {
        lines.push(format!("and {} more, which --json shows", count(hidden, "call")));
    }
    lines.extend(remarks::joined(report, WIDTH));
    lines
}

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// The model, and whose it is when it is not the engine's.
fn model(call: &CallReport) -> String {
    match call.upstream.as_str() {
        "engine" | "" => call.model.clone(),
        upstream => format!("{} @ {upstream}", call.model),
    }
}

/// The share of drafted tokens that were accepted, when there were any.
fn accepted(call: &CallReport) -> Option<f64> {
    let drafting = call.speculation.as_ref().filter(|drafting| drafting.drafted > 0)?;
    Some(drafting.accepted as f64 / drafting.drafted as f64)
}

fn call_row(number: usize, call: &CallReport, name_width: usize) -> Vec<String> {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    vec![
        number.to_string(),
        clip(&model(call), name_width),
        or_unknown(call.ttft_ns.map(duration)),
        duration(call.wall_ns),
        call.input_tokens.to_string(),
        call.output_tokens.to_string(),
        or_unknown(call.tokens_per_second.map(speed).or_else(|| whole_speed(call))),
        or_unknown(accepted(call).map(per_cent)),
    ]
}

/// The models beside each other, where a run asked several or one at several servers: which of them is faster.
fn models(report: &RunReport, screen: Screen) -> Vec<String> {
    let mut by_model: BTreeMap<String, Vec<&CallReport>> = BTreeMap::new();
    for call in report.calls.iter().filter(|call| call.error.is_none()) {
        by_model.entry(model(call)).or_default().push(call);
    }
    if by_model.len() < 2 {
        return Vec::new();
    }
    let head = ["model", "calls", "median call", "all calls", "out", "tok/s of all"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(by_model.into_iter().map(|(model, mut calls)| {
        calls.sort_by_key(|call| call.wall_ns);
        let median = calls.get(calls.len() / 2).map_or(0, |call| call.wall_ns);
        let ns = calls.iter().fold(0_u64, |sum, call| sum.saturating_add(call.wall_ns));
        let tokens = calls.iter().fold(0_u64, |sum, call| sum.saturating_add(call.output_tokens));
        vec![
            clip(&model, 30),
            calls.len().to_string(),
            duration(median),
            duration(ns),
            tokens.to_string(),
            speed(tokens as f64 * 1e9 / ns.max(1) as f64),
        ]
    }));
    let right = Align::Right;
    let lines = columns(&[Align::Left, right, right, right, right, right], &rows);
    with_faint_head(lines, screen)
}

/// The speed of an answer that came in one piece: its tokens over all of its time, which reading the prompt is a part of.
fn whole_speed(call: &CallReport) -> Option<String> {
    let whole = call.ttft_ns.is_none() && call.error.is_none() && call.output_tokens > 0;
    let seconds = call.wall_ns as f64 / 1e9;
    (whole && seconds > 0.0)
        .then(|| format!("{INFERRED}{}", speed(call.output_tokens as f64 / seconds)))
}

/// Prompt tokens that were run again although their text was the same, where that took time worth a line.
fn recomputing(report: &RunReport) -> Vec<String> {
    let parts = report.calls.iter().filter_map(|call| call.cache.as_ref());
    let mut by_cause: BTreeMap<Change, (u64, u64)> = BTreeMap::new();
    for part in parts.flat_map(|cache| &cache.recomputed) {
        let (tokens, ns) = by_cause.entry(part.change).or_default();
        *tokens += part.tokens;
        *ns = ns.saturating_add(part.ns);
    }
    let ns = by_cause.values().fold(0_u64, |sum, (_, ns)| sum.saturating_add(*ns));
    if ns == 0 || ns.saturating_mul(WORTH_A_LINE) < report.wall_ns {
        return Vec::new();
    }
    let tokens: u64 = by_cause.values().map(|(tokens, _)| tokens).sum();
    let mut causes: Vec<(Change, u64)> =
        by_cause.into_iter().map(|(change, (_, ns))| (change, ns)).collect();
    causes.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let causes: Vec<&str> = causes.into_iter().map(|(change, _)| change.words()).collect();
    let text = format!(
        "recomputed  {}, {} ({}), after {}",
        count(usize::try_from(tokens).unwrap_or(usize::MAX), "prompt token"),
        duration(ns),
        share(ns, report.wall_ns),
        causes.join(", "),
    );
    vec![clip(&text, WIDTH)]
}

/// What drafting gave over all calls.
fn drafting(report: &RunReport) -> Vec<String> {
    let Some(all) = &report.speculation else { return Vec::new() };
    let (Some(rate), Some(length)) = (all.acceptance_rate(), all.acceptance_length()) else {
        return Vec::new();
    };
    let mut lines = vec![format!(
        "drafting  {} of {} tokens accepted ({}), {length:.2} tokens per round, {}",
        all.accepted,
        all.drafted,
        per_cent(rate),
        count(usize::try_from(all.rounds).unwrap_or(usize::MAX), "round"),
    )];
    let by_position: Vec<String> = all
        .accepted_by_position
        .iter()
        .zip(&all.compared_by_position)
        .filter(|&(_, &compared)| compared > 0)
        .map(|(&accepted, &compared)| per_cent(accepted as f64 / compared as f64))
        .collect();
    if by_position.len() > 1 {
        let text = format!("accepted by position, once compared: {}", by_position.join("  "));
        lines.push(format!("          {}", clip(&text, WIDTH - 10)));
    }
    lines
}

/// What dwell itself took of relayed calls: its work, and apart from it what neither that nor waiting for others explains.
fn relaying(report: &RunReport) -> Vec<String> {
    let relayed = report.calls.iter().filter_map(|call| call.relay.as_ref());
    // Of an upgraded connection it is not measured.
    let relayed = relayed.filter(|relay| relay.tunnel.is_none());
    let times: Vec<_> = relayed.map(|relay| relay.gateway).collect();
    if times.is_empty() {
        return Vec::new();
    }
    let sum =
        |of: fn(&GatewayTime) -> u64| duration(times.iter().map(of).fold(0, u64::saturating_add));
    vec![format!(
        "relaying  {} of dwell's own work in {}, {} unexplained",
        sum(GatewayTime::work_ns),
        count(times.len(), "call"),
        sum(|time| time.residual_ns),
    )]
}

fn foot(report: &RunReport, screen: Screen) -> Vec<String> {
    let mut lines = wrap(&report.verdict, WIDTH);
    for line in &mut lines {
        *line = screen.strong(line);
    }
    if report.inferred.total() > 0
        || report.calls.iter().any(|call| whole_speed(call).is_some())
        || report.tools.iter().any(|tool| tool.inferred)
    {
        let note = format!("{INFERRED} inferred: concluded from what was measured around it");
        lines.push(screen.faint(&note));
    }
    if report.dropped > 0 {
        lines.push(screen.bad(&format!(
            "{} dropped, so that this account is not complete",
            count(usize::try_from(report.dropped).unwrap_or(usize::MAX), "record")
        )));
    }
    lines
}

/// Breaks a text at blanks so that lines fit; a longer word stands alone.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
