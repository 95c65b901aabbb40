//! One plain sentence on where the time goes: the largest share, the second, and what would change it. What was inferred is
//! called so.

use crate::category::Category;
use crate::phase::Phase;

use super::RunReport;

/// From this share on, generation is what there is to talk about, whatever else adds up.
const DOMINANT_PERCENT: u64 = 70;
/// Shares below this are not worth a word.
const MENTIONABLE_PERCENT: u64 = 5;

/// The sentence.
pub(super) fn verdict(report: &RunReport) -> String {
    if report.wall_ns == 0 {
        return "Nothing was measured: no time has passed in it.".to_owned();
    }
    let wall = duration(report.wall_ns);
    if report.spans == 0 {
        return format!(
            "Nothing inside these {wall} was measured: no model call went through dwell and no span was heard."
        );
    }
    // What an unanswered call took is no advice on where to save.
    if let Some(why) = unanswered(report) {
        return format!("No model call was answered: {why}.");
    }
    let mut shares = shares(report);
    shares.sort_by_key(|share| std::cmp::Reverse(share.ns));
    let [first, second, ..] = shares.as_slice() else {
        return format!("All of {wall} went by unexplained.");
    };
    let second = if percent(second.ns, report.wall_ns) < MENTIONABLE_PERCENT {
        String::new()
    } else {
        format!(", {} {}", second.name, second.share_of(report.wall_ns))
    };
    let mut sentence = format!(
        "{} took {} of {wall} ({}{}){second}: {}.",
        capitalised(first.name),
        first.share_of(report.wall_ns),
        duration(first.ns),
        first.remark(),
        consequence(first.kind, report),
    );
    if report.dropped > 0 {
        sentence.pop();
        sentence.push_str("; some spans were lost, so that all of this is rough.");
    }
    sentence
}

/// Why the last call failed, when none was answered.
fn unanswered(report: &RunReport) -> Option<&str> {
    let failed = report.calls.iter().all(|call| call.error.is_some() && call.output_tokens == 0);
    report.calls.last().filter(|_| failed)?.error.as_deref()
}

/// What a share is about: a category, or two that only together tell something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    One(Category),
    Overhead,
}

struct Share {
    kind: Kind,
    name: &'static str,
    ns: u64,
    inferred_ns: u64,
}

impl Share {
    fn share_of(&self, wall_ns: u64) -> String {
        let about = if self.inferred_ns > 0 { "about " } else { "" };
        format!("{about}{} %", percent(self.ns, wall_ns))
    }

    fn remark(&self) -> String {
        match self.inferred_ns {
            0 => String::new(),
            all if all == self.ns => ", inferred".to_owned(),
            part => format!(", {} of it inferred", duration(part)),
        }
    }
}

/// Every share; moving bytes and the framework are one where they outweigh everything else together.
fn shares(report: &RunReport) -> Vec<Share> {
    let share = |category: Category| Share {
        kind: Kind::One(category),
        name: plain_name(category),
        ns: report.account[category],
        inferred_ns: report.inferred[category],
    };
    let pair = [Category::Http, Category::Framework];
    let ns = report.account[Category::Http].saturating_add(report.account[Category::Framework]);
    let generation = percent(report.account[Category::Generation], report.wall_ns);
    let worth_a_word =
        |one: Category| percent(report.account[one], report.wall_ns) >= MENTIONABLE_PERCENT;
    let both = pair.into_iter().all(worth_a_word);
    let together = both && generation < DOMINANT_PERCENT && ns > report.wall_ns.saturating_sub(ns);
    let alone = Category::ALL.into_iter().filter(|one| !(together && pair.contains(one)));
    let mut shares: Vec<Share> = alone.map(share).collect();
    if together {
        let inferred_ns = report.inferred[pair[0]].saturating_add(report.inferred[pair[1]]);
        shares.push(Share { kind: Kind::Overhead, name: "HTTP and framework", ns, inferred_ns });
    }
    shares
}

const fn plain_name(category: Category) -> &'static str {
    match category {
        Category::Generation => "generation",
        Category::Speculation => "speculation",
        Category::Tool => "tools",
        Category::Http => "HTTP",
        Category::Framework => "the framework",
        Category::Queue => "queueing",
        Category::Human => "waiting for a person",
        Category::Unknown => "something unknown",
    }
}

/// What would make it faster.
fn consequence(kind: Kind, report: &RunReport) -> String {
    let text = match kind {
        Kind::One(Category::Generation) => return generation(report),
        Kind::One(Category::Tool) => return tool(report),
        Kind::One(Category::Speculation) => return speculation(report),
        Kind::Overhead | Kind::One(Category::Framework)
            if mostly(Phase::Startup, Category::Framework, report) =>
        {
            return format!(
                "{} went by before the first call, so that what the program loads at its start is the place to look",
                duration(report.phases.get(&Phase::Startup).copied().unwrap_or_default())
            );
        }
        Kind::Overhead => "fewer calls and a leaner agent would pay, a faster model would not",
        Kind::One(Category::Http) => "fewer calls, or a server nearer by, would pay",
        Kind::One(Category::Framework) => {
            "the agent's own code is the place to look, a faster model would not help"
        }
        Kind::One(Category::Queue) => "fewer calls at once, or another server, would pay",
        Kind::One(Category::Human) => "no machine can make that faster",
        Kind::One(Category::Unknown) if mostly(Phase::Pause, Category::Unknown, report) => {
            "it lies between an answer and the next message, and a person or the agent may have taken it; the agent's spans would tell"
        }
        Kind::One(Category::Unknown) if mostly(Phase::Tunnel, Category::Unknown, report) => {
            "a connection was open that is not read; the agent's spans would tell what went on"
        }
        Kind::One(Category::Unknown) => {
            "start the agent with `dwell run`, or let it send its spans, to see more"
        }
    };
    text.to_owned()
}

/// Whether more than half of what a category took is this phase of it.
fn mostly(phase: Phase, category: Category, report: &RunReport) -> bool {
    let ns = report.phases.get(&phase).copied().unwrap_or_default();
    ns > report.account[category] / 2
}

fn generation(report: &RunReport) -> String {
    let sum = |phases: &[Phase]| -> u64 {
        let ns = phases.iter().filter_map(|phase| report.phases.get(phase));
        ns.fold(0, |sum, ns| sum.saturating_add(*ns))
    };
    let prompt_ns = sum(&[Phase::Template, Phase::Tokenize, Phase::CacheLookup, Phase::Prefill]);
    let answer_ns = sum(&[Phase::Decode, Phase::Verify, Phase::Detokenize]);
    if prompt_ns > answer_ns {
        let caches = report.calls.iter().filter_map(|call| call.cache.as_ref());
        let again = caches.fold(0_u64, |sum, cache| sum.saturating_add(cache.recomputed_ns()));
        let prompt = duration(prompt_ns);
        if again > prompt_ns / 4 {
            return format!(
                "reading prompts alone took {prompt}, {} of it for text that had been read before, so that prompts that keep their beginning would pay",
                duration(again)
            );
        }
        format!(
            "reading prompts alone took {prompt}, so that shorter ones, or ones that keep their beginning, would pay"
        )
    } else if answer_ns > 0 {
        let tenth = duration(answer_ns / 10);
        format!("shorter answers would pay, a tenth fewer tokens about {tenth}")
    } else {
        "shorter prompts and answers would pay".to_owned()
    }
}

fn tool(report: &RunReport) -> String {
    let Some(tool) = report.tools.first() else {
        return "faster tools would pay more than a faster model".to_owned();
    };
    let about = if tool.inferred { "about " } else { "" };
    let calls = if tool.calls == 1 { "call" } else { "calls" };
    format!(
        "`{}` is the one to make faster, {about}{} in {} {calls}",
        tool.name,
        duration(tool.wall_ns),
        tool.calls
    )
}

fn speculation(report: &RunReport) -> String {
    let rate = report
        .speculation
        .as_ref()
        .and_then(|counts| (counts.drafted > 0).then(|| percent(counts.accepted, counts.drafted)));
    match rate {
        Some(rate) => format!(
            "{rate} % of the drafted tokens were accepted, so that shorter drafts or a smaller draft model would pay"
        ),
        None => "shorter drafts or a smaller draft model would pay".to_owned(),
    }
}

/// The nearest whole percent; without a remainder it would be 100 only for everything and 0 only for nothing.
fn percent(part: u64, whole: u64) -> u64 {
    let (part, whole) = (u128::from(part), u128::from(whole.max(1)));
    u64::try_from((200 * part + whole) / (2 * whole)).unwrap_or(u64::MAX)
}

/// A duration with three digits at most, in the unit that suits it.
fn duration(ns: u64) -> String {
    let ns = ns as f64;
    let (value, unit) = match ns {
        _ if ns >= 1e9 => (ns / 1e9, "s"),
        _ if ns >= 1e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e3, "us"),
    };
    let decimals = if value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
    format!("{value:.decimals$} {unit}")
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
