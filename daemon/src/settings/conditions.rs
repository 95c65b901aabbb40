//! The settings that shape how long answers take, by name, as runs are stamped with them. Keys and anything else secret are none of them.

use std::collections::BTreeMap;

use super::{EngineChoice, Settings};
use crate::hub::Model;

impl Settings {
    /// Them, as they were asked for. What an engine made of it, it says itself.
    pub fn conditions(&self) -> BTreeMap<String, String> {
        let usual = || "usual".to_owned();
        let number = |number: Option<u64>| number.map_or_else(usual, |number| number.to_string());
        let mut told = BTreeMap::new();
        let mut tell = |name: &str, value: String| drop(told.insert(name.to_owned(), value));
        let (model, draft) = match &self.engine {
            EngineChoice::None => (None, None),
            EngineChoice::BuiltIn { draft } => {
                (Some("builtin".to_owned()), draft.then(|| "builtin-draft".to_owned()))
            }
            EngineChoice::Models { target, draft } => {
                (Some(name(target)), draft.as_ref().map(name))
            }
        };
        if let Some(model) = model {
            tell("model", model);
            tell("draft_model", draft.unwrap_or_else(|| "none".to_owned()));
            tell("draft_tokens", number(self.draft_tokens.map(u64::from)));
            tell("cache_memory", number(self.cache_memory));
            tell("context", number(self.context.map(u64::from)));
            tell("parallel", self.parallel.to_string());
            tell("held_conversations", if self.holds { "on" } else { "off" }.to_owned());
        }
        tell("tracing", if self.tracing { "on" } else { "off" }.to_owned());
        for upstream in &self.upstreams.list {
            let scheme = if upstream.tls { "https" } else { "http" };
            let url = format!("{scheme}://{}{}", upstream.authority(), upstream.base);
            tell(&format!("upstream {}", upstream.name), url);
        }
        told
    }
}

fn name(model: &Model) -> String {
    match model {
        Model::Folder(folder) => folder.display().to_string(),
        Model::Hub(id) => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Upstream;

    #[test]
    fn what_shapes_latency_is_told_and_keys_are_not() {
        let mut settings = Settings::alone("x".into());
        settings.engine = EngineChoice::BuiltIn { draft: true };
        settings.draft_tokens = Some(3);
        settings.upstreams.list =
            vec![Upstream::new("cloud", "https://api.example.com/v1").unwrap()];
        let told = settings.conditions();
        assert_eq!((told["model"].as_str(), told["draft_tokens"].as_str()), ("builtin", "3"));
        assert_eq!(told["cache_memory"], "usual");
        assert_eq!(told["upstream cloud"], "https://api.example.com/v1");
        let alone = Settings::alone("x".into()).conditions();
        assert_eq!(alone.keys().collect::<Vec<_>>(), ["tracing"]);
    }
}
