//! The screens of `dwell models`.

use std::path::Path;

use super::check;
use crate::terminal::Screen;
use crate::terminal::models::{
    Drafting, Fit, MemoryUse, Row, Speed, View, Vocabularies, check as check_screen, check_json,
    list, pulled,
};

fn row(name: &str, bytes: u64, model_type: &str, bits: &str) -> Row {
    Row {
        name: name.to_owned(),
        bytes,
        model_type: Some(model_type.to_owned()),
        quantisation: Some(bits.to_owned()),
        lacking: None,
        problem: None,
        folder: None,
    }
}

#[test]
fn the_list_says_what_is_wrong_below_each_model() {
    let rows = [
        row("builtin", 2_050_000, "qwen2", "4-bit"),
        row("mlx-community/Qwen3-30B-A3B-Instruct-2507-5bit", 21_000_000_000, "qwen3_moe", "5-bit"),
        Row {
            lacking: Some("it has no tokenizer.json".to_owned()),
            model_type: None,
            quantisation: None,
            ..row("mlx-community/Qwen2.5-14B-Instruct-4bit", 1_200_000_000, "", "")
        },
        Row {
            problem: Some(
                "the model `a/b` has model_type `mamba`, which is not supported; supported: qwen2"
                    .to_owned(),
            ),
            ..row("a/b", 999, "mamba", "none")
        },
    ];
    let cache = Path::new("/home/somebody/.cache/huggingface/hub");
    check("models_list.txt", &list(&rows, cache, Screen::PLAIN));
}

#[test]
fn a_download_says_how_to_use_what_came() {
    let folder = Path::new("/hub/models--a--b/snapshots/0123456789abcdef0123456789abcdef01234567");
    check("models_pulled.txt", &pulled("a/b", 8_310_000_000, 7_000_000_000, folder, Screen::PLAIN));
    let again = pulled("a/b", 8_310_000_000, 0, folder, Screen::PLAIN);
    assert!(again.starts_with("a/b is here already"));
}

fn fit(name: &str, stored: u64, per_token: u64) -> Fit {
    Fit {
        name: name.to_owned(),
        model_type: "qwen2".to_owned(),
        quantisation: "4-bit".to_owned(),
        on_gpu: true,
        unpacked: false,
        stored_bytes: stored,
        weights_bytes: stored,
        kv_bytes_per_token: per_token,
        kv_bytes: per_token * 8192,
        most_context_tokens: Some(32_768),
        problem: None,
    }
}

/// A 14B model with a 0.5B one on an M4.
fn pair() -> View {
    View {
        models: vec![
            fit("mlx-community/Qwen2.5-14B-Instruct-4bit", 8_310_000_000, 196_608),
            fit("mlx-community/Qwen2.5-0.5B-Instruct-4bit", 278_000_000, 12_288),
        ],
        context_tokens: 8192,
        memory: MemoryUse {
            needed_bytes: 10_299_000_000,
            usable_bytes: 18_000_000_000,
            source: "three quarters of 24 GB, which a GPU may use".to_owned(),
            longest_context_tokens: 45_000,
        },
        vocabularies: Some(Vocabularies {
            rows: [152_064, 151_936],
            agree: Some(true),
            difference: None,
        }),
        speed: Some(Speed {
            bandwidth_bytes_per_second: 120e9,
            source: "Apple's figure for Apple M4".to_owned(),
            short_tokens_per_second: 15.2,
            tokens_per_second: 12.7,
            drafting: Some(Drafting {
                draft_tokens: 3,
                most_tokens_per_second: 44.6,
                pays_from_acceptance: Some(0.12),
            }),
        }),
    }
}

#[test]
fn a_pair_that_fits() {
    let view = pair();
    assert!(view.all_well());
    check("models_fit.txt", &check_screen(&view, Screen::PLAIN));
    let facts = check_json(&view);
    assert_eq!(
        (&facts["fits"], &facts["speed"]["drafting"]["draft_tokens"]),
        (&true.into(), &3.into())
    );
    assert_eq!(facts["verdict"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_pair_with_everything_wrong() {
    let mut view = pair();
    view.context_tokens = 100_000;
    view.memory.needed_bytes = 29_000_000_000;
    view.models[1].problem = Some("the model `b` has what is not supported".to_owned());
    view.vocabularies = Some(Vocabularies {
        rows: [152_064, 152_064],
        agree: Some(false),
        difference: Some("token 17 is \"a\" and \"b\"".to_owned()),
    });
    if let Some(drafting) = view.speed.as_mut().and_then(|speed| speed.drafting.as_mut()) {
        drafting.pays_from_acceptance = None;
    }
    assert!(!view.all_well());
    check("models_no_fit.txt", &check_screen(&view, Screen::PLAIN));
}

#[test]
fn what_is_not_known_is_not_guessed() {
    let mut view = pair();
    view.memory.needed_bytes = 17_000_000_000;
    view.vocabularies = Some(Vocabularies { rows: [10, 10], agree: None, difference: None });
    view.speed = None;
    assert!(view.all_well());
    check("models_unknown.txt", &check_screen(&view, Screen::PLAIN));
}
