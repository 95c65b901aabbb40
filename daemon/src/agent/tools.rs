//! The agent's tools: what the model is told about them, and what they do. They read the code base that they are given and
//! nothing else, so that no argument reaches a file outside of it.

use serde_json::{Value, json};

use super::code_base::File;
use super::search;

/// At most this many lines of a file or folder come back.
const MAX_LINES: usize = 40;

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    SearchCode,
    FindSymbol,
    ReadFile,
    ListFiles,
}

impl Tool {
    /// In the order in which they are offered.
    const ALL: [Self; 4] = [Self::SearchCode, Self::FindSymbol, Self::ReadFile, Self::ListFiles];

    const fn name(self) -> &'static str {
        match self {
            Self::SearchCode => "search_code",
            Self::FindSymbol => "find_symbol",
            Self::ReadFile => "read_file",
            Self::ListFiles => "list_files",
        }
    }

    /// Its only parameter and what that means.
    const fn parameter(self) -> (&'static str, &'static str) {
        match self {
            Self::SearchCode => ("pattern", "Text or words to look for"),
            Self::FindSymbol => ("name", "Name of a class, function or constant"),
            Self::ReadFile => ("path", "Path from the root of the code base"),
            Self::ListFiles => ("directory", "Folder; `.` is the root"),
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::SearchCode => "Find lines of code that match a pattern",
            Self::FindSymbol => "Show the definition of a symbol",
            Self::ReadFile => "Show a file",
            Self::ListFiles => "List the files in a folder",
        }
    }
}

/// The tools in OpenAI's form.
pub(super) fn schemas() -> Vec<Value> {
    let schema = |tool: Tool| {
        let (parameter, meaning) = tool.parameter();
        json!({
            "type": "function",
            "function": {
                "name": tool.name(),
                "description": tool.description(),
                "parameters": {
                    "type": "object",
                    "properties": { parameter: { "type": "string", "description": meaning } },
                    "required": [parameter],
                },
            },
        })
    };
    Tool::ALL.into_iter().map(schema).collect()
}

/// Why a tool could not be run; the model reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ToolError {
    /// No such tool.
    #[error("there is no tool {0}; use search_code, find_symbol, read_file or list_files")]
    Unknown(String),
    /// The arguments are not a JSON object with the parameter as text.
    #[error("{tool} takes a JSON object with the text `{parameter}`")]
    Arguments {
        /// The tool.
        tool: &'static str,
        /// The parameter that it needs.
        parameter: &'static str,
    },
    /// No such file.
    #[error("no such file: {0}")]
    NoFile(String),
    /// No such folder.
    #[error("no such folder: {0}")]
    NoFolder(String),
}

/// Runs the tool `name` with `arguments` as JSON text.
pub(super) fn run(files: &[File], name: &str, arguments: &str) -> Result<String, ToolError> {
    let tool = Tool::ALL
        .into_iter()
        .find(|tool| tool.name() == name)
        .ok_or_else(|| ToolError::Unknown(name.to_owned()))?;
    let parameter = tool.parameter().0;
    let arguments: Value = serde_json::from_str(arguments).unwrap_or(Value::Null);
    let value = arguments
        .get(parameter)
        .and_then(Value::as_str)
        .ok_or(ToolError::Arguments { tool: tool.name(), parameter })?;
    match tool {
        Tool::SearchCode => Ok(or_none(&search::matches(files, value), value)),
        Tool::FindSymbol => Ok(or_none(&search::definition(files, value), value)),
        Tool::ReadFile => read(files, value),
        Tool::ListFiles => list(files, value),
    }
}

fn or_none(lines: &[String], what: &str) -> String {
    if lines.is_empty() { format!("no matches for {what}") } else { lines.join("\n") }
}

/// A path without `./` and slashes at its ends. `..` stays and so names no file.
fn normal(path: &str) -> &str {
    let path = path.trim().trim_matches('/');
    let path = path.strip_prefix("./").unwrap_or(path);
    if path == "." { "" } else { path }
}

/// The file with this path, else the only one whose path ends with it.
fn read(files: &[File], path: &str) -> Result<String, ToolError> {
    let wanted = normal(path);
    let below =
        |file: &&File| file.path.strip_suffix(wanted).is_some_and(|folder| folder.ends_with('/'));
    let file = files.iter().find(|file| file.path == wanted).or_else(|| {
        let mut alike = files.iter().filter(below);
        alike.next().filter(|_| !wanted.is_empty() && alike.next().is_none())
    });
    let file = file.ok_or_else(|| ToolError::NoFile(path.to_owned()))?;
    Ok(file.text.lines().take(MAX_LINES).collect::<Vec<_>>().join("\n"))
}

/// The files below a folder.
fn list(files: &[File], folder: &str) -> Result<String, ToolError> {
    let wanted = normal(folder);
    let below = |file: &&File| {
        wanted.is_empty()
            || file.path.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('/'))
    };
    let paths: Vec<&str> =
        files.iter().filter(below).map(|file| file.path).take(MAX_LINES).collect();
    if paths.is_empty() {
        Err(ToolError::NoFolder(folder.to_owned()))
    } else {
        Ok(paths.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::code_base::SAMPLE;
    use super::*;

    #[test]
    fn every_offered_tool_runs_with_its_only_required_parameter() {
        for schema in schemas() {
            let function = &schema["function"];
            let parameter = function["parameters"]["required"][0].as_str().unwrap();
            assert_eq!(function["parameters"]["properties"][parameter]["type"], "string");
            let arguments = json!({ parameter: "orders" }).to_string();
            let result = run(SAMPLE, function["name"].as_str().unwrap(), &arguments);
            assert!(
                !matches!(result, Err(ToolError::Unknown(_) | ToolError::Arguments { .. })),
                "{result:?}"
            );
        }
    }

    #[test]
    fn nothing_outside_of_the_code_base_is_read() {
        for path in [
            "/etc/passwd",
            "../Cargo.toml",
            "accounts/../../Cargo.toml",
            "",
            "/",
            "orders/../manage.py",
        ] {
            let arguments = json!({ "path": path }).to_string();
            assert_eq!(
                run(SAMPLE, "read_file", &arguments),
                Err(ToolError::NoFile(path.to_owned()))
            );
        }
    }

    #[test]
    fn files_are_read_by_path_or_by_a_name_that_is_unique() {
        let read = |path: &str| run(SAMPLE, "read_file", &json!({ "path": path }).to_string());
        assert!(read("./orders/notify.py").unwrap().starts_with("\"\"\"Tells customers"));
        assert!(read("notify.py").unwrap().starts_with("\"\"\"Tells customers"));
        assert_eq!(read("views.py"), Err(ToolError::NoFile("views.py".to_owned())));
    }

    #[test]
    fn folders_are_listed() {
        let list =
            |folder: &str| run(SAMPLE, "list_files", &json!({ "directory": folder }).to_string());
        assert_eq!(list("shop/").unwrap(), "shop/settings.py\nshop/urls.py");
        assert_eq!(list(".").unwrap().lines().count(), SAMPLE.len());
        assert_eq!(list("sho"), Err(ToolError::NoFolder("sho".to_owned())));
    }

    #[test]
    fn wrong_arguments_say_what_is_needed() {
        for arguments in ["", "[]", "{\"query\": \"x\"}", "{\"pattern\": 3}"] {
            let error = run(SAMPLE, "search_code", arguments).unwrap_err();
            assert_eq!(
                error.to_string(),
                "search_code takes a JSON object with the text `pattern`"
            );
        }
        assert!(run(SAMPLE, "rm", "{}").unwrap_err().to_string().contains("no tool rm"));
    }
}
