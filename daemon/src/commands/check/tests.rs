//! From a store to an exit code: save, run on, check; and the forms that CI systems read.

use clap::Parser;
use dwell_probes::call::Ending;
use dwell_probes::regression::Conditions;
use dwell_probes::time::Stamp;

use super::*;
use crate::commands::baseline::{BaselineCommand, baseline};
use crate::commands::test_store::{Store, answered};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Parser)]
struct Checked {
    #[command(flatten)]
    args: CheckArgs,
}

#[derive(Parser)]
struct Kept {
    #[command(subcommand)]
    command: BaselineCommand,
}

impl Store {
    fn keep(&self, arguments: &[&str]) -> Result<ExitCode> {
        let all = ["baseline"].iter().chain(arguments);
        baseline(&Kept::parse_from(all).command, &self.args())
    }

    /// The exit code.
    fn check(&self, arguments: &[&str]) -> u8 {
        let all = ["check"].iter().chain(arguments);
        let code = check(&Checked::parse_from(all).args, &self.args()).unwrap();
        (0..3).find(|known| code == ExitCode::from(*known)).unwrap()
    }
}

#[test]
fn exit_codes_say_same_slower_and_no_telling() {
    let store = Store(tempfile::tempdir().unwrap());
    assert_eq!(store.check(&["main"]), 2);
    store.add(1, 40, 1000.0);
    store.keep(&["save", "main", "--filter", "agent=coder <1>"]).unwrap();
    let kept = Baselines::new(store.0.path()).load("main").unwrap();
    assert_eq!(
        kept.conditions,
        [Conditions::this([].into())],
        "the store says under what runs were made"
    );
    // Nothing new since.
    assert_eq!(store.check(&["main"]), 2);
    store.add(2, 40, 1000.0);
    assert_eq!(store.check(&["main"]), 0);
    store.keep(&["save", "same", "--last", "40"]).unwrap();
    store.add(3, 40, 1300.0);
    assert_eq!(store.check(&["main", "--last", "40"]), 1);
    assert_eq!(store.check(&["main", "--last", "2"]), 2);
    for format in ["json", "junit", "github", "markdown"] {
        assert_eq!(store.check(&["main", "--last", "40", "--format", format]), 1);
    }
    assert_eq!(store.check(&["main", "--last", "40", "--fail-on", "p50(wall) > +50%"]), 0);
    assert_eq!(store.check(&["main", "--last", "40", "--fail-on", "p50(wall) > +10%"]), 1);
    assert_eq!(store.check(&["main", "--against", "same"]), 0);
    let file = store.0.path().join("main.json");
    let path = file.to_str().unwrap();
    store.keep(&["export", "main", path]).unwrap();
    store.keep(&["rm", "main"]).unwrap();
    assert_eq!(store.check(&["main"]), 2);
    assert_eq!(store.check(&[path, "--last", "40"]), 1);
    store.keep(&["import", path, "--as", "again"]).unwrap();
    assert_eq!(store.check(&["again", "--last", "40"]), 1);
    assert!(store.keep(&["save", "none", "--filter", "agent=nobody"]).is_err());
}

#[test]
fn runs_older_than_the_baseline_are_held_against_it_only_when_asked_for() {
    let store = Store(tempfile::tempdir().unwrap());
    store.add(1, 40, 1500.0);
    store.add(2, 40, 1000.0);
    store.keep(&["save", "fast", "--last", "30"]).unwrap();
    assert_eq!(store.check(&["fast"]), 2, "none is newer");
    assert_eq!(store.check(&["fast", "--last", "50"]), 1, "the other ten, and slow ones");
    store.add(3, 40, 1000.0);
    assert_eq!(store.check(&["fast"]), 0);
    store.keep(&["save", "other", "--last", "40"]).unwrap();
    let filtered = ["fast", "--against", "other", "--filter"];
    assert_eq!(store.check(&[&filtered[..], &["model=m"]].concat()), 0);
    assert_eq!(store.check(&[&filtered[..], &["agent=nobody"]].concat()), 2);
}

#[test]
fn a_call_that_was_tried_again_is_time_and_no_work() {
    let store = Store(tempfile::tempdir().unwrap());
    let now = Stamp::now().0;
    let each = |at: u64| answered(&at.to_string(), Stamp(now - at * 1_000_000_000), SECOND);
    let retried = |at: u64| {
        let (run, mut call) = each(at);
        let mut again = call.clone();
        call.ending = Ending::Failed("429".into());
        call.end = Some(call.start.plus(400_000_000));
        again.id.push('b');
        again.start = again.start.plus(500_000_000);
        [(run.clone(), call), (run, again)]
    };
    store.write((0..5).flat_map(retried));
    let (failed, mut by_failed) = each(9);
    by_failed.ending = Ending::Failed("503".into());
    store.write([(failed, by_failed)]);
    let samples = Reader::open(store.0.path()).unwrap().samples(Stamp(0), 40).unwrap();
    assert_eq!(samples.len(), 5);
    assert!(samples.iter().all(|run| run.calls.len() == 1 && run.wall_ns > 900_000_000));
    let choice = Kept::parse_from(["baseline", "save", "main"]).command;
    let BaselineCommand::Save { choice, .. } = choice else { unreachable!() };
    let reader = Reader::open(store.0.path()).unwrap();
    assert_eq!(choice.runs(&reader, |_| true).unwrap().1, 1, "one was left out");
}

#[test]
fn the_forms_name_what_grew_and_escape_what_they_must() {
    let store = Store(tempfile::tempdir().unwrap());
    store.add(1, 40, 1000.0);
    let reader = || Reader::open(store.0.path()).unwrap();
    let before = reader().samples(Stamp(0), 40).unwrap();
    store.add(2, 40, 1300.0);
    let after = reader().samples(Stamp(0), 40).unwrap();
    let options = Options::default();
    let found = compare(&before, &after, &options);
    let other = |tokens: &str| {
        vec![Conditions::this([("draft_tokens".to_owned(), tokens.to_owned())].into())]
    };
    let differences = differences(&other("3"), &other("<5>"));
    let compared = Compared { check: &found, baseline: "main", differences, options: &options };
    let junit = regression::junit(&compared);
    assert!(junit.contains("<property name=\"draft_tokens now\" value=\"&lt;5&gt;\"/>"), "{junit}");
    assert!(junit.contains("coder &lt;1&gt;") && junit.contains("<failure message="), "{junit}");
    assert_eq!(junit.matches("<testcase").count(), found.series[0].findings.len());
    let github = regression::github(&compared);
    assert!(github.starts_with("::error title=dwell%3A wall of coder <1>"), "{github}");
    assert!(github.contains("%25") && github.contains("p50 wall +0."), "{github}");
    let markdown = regression::markdown(&compared);
    assert!(
        markdown.contains("slower than the baseline `main`") && markdown.contains("coder &lt;1>"),
        "{markdown}"
    );
    let text = regression::check(&compared, Screen::PLAIN);
    assert!(
        text.contains("p50 wall +0.")
            && text.contains("worse, step")
            && text.contains("`dwell where run-2-"),
        "{text}"
    );
    for shown in [&github, &markdown, &text] {
        assert!(shown.contains("compared although: draft_tokens was 3, is "), "{shown}");
    }
    let json = as_json(&compared);
    assert_eq!(json["differences"][0]["before"][0], "3");
    assert!(json["series"][0]["sentence"].as_str().unwrap().starts_with("p50 wall"), "{json}");
    assert_eq!(
        (&json["verdict"], &json["series"][0]["findings"][0]["kind"]),
        (&"worse".into(), &"step".into())
    );
}
