//! The name of a model on the hub: `owner/name`, perhaps with a branch, tag or commit behind an `@`.

use std::fmt;
use std::str::FromStr;

/// The revision that is meant where none is said.
pub const DEFAULT_REVISION: &str = "main";

/// The longest owner or name that the hub allows, in characters.
const LONGEST: usize = 96;

/// A repository and one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelId {
    /// Whose it is.
    pub owner: String,
    /// What it is called.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
}

impl ModelId {
    /// `owner/name`, without the revision.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The same repository at another revision.
    pub fn at(self, revision: &str) -> Result<Self, String> {
        check_revision(revision)?;
        Ok(Self { revision: revision.to_owned(), ..self })
    }

    /// The commit that the revision names by itself.
    pub fn commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(self.revision.as_str())
    }
}

/// Whether that is the full hash of a commit.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if self.revision == DEFAULT_REVISION { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

impl FromStr for ModelId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let (owner, name) = repository.split_once('/').ok_or("an id is OWNER/NAME")?;
        for part in [owner, name] {
            check_part(part)?;
        }
        check_revision(revision)?;
        Ok(Self { owner: owner.to_owned(), name: name.to_owned(), revision: revision.to_owned() })
    }
}

/// The hub's own rules, which also keep an id from leaving the cache's folder.
fn check_part(part: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if part.is_empty() || part.len() > LONGEST {
        return Err(format!("owner and name have 1 to {LONGEST} characters"));
    }
    if !part.chars().all(allowed) {
        return Err("owner and name have letters, digits, `-`, `_` and `.` only".to_owned());
    }
    if part.contains("--")
        || part.contains("..")
        || part.starts_with(['-', '.'])
        || part.ends_with(['-', '.'])
    {
        return Err("owner and name have no `--` or `..`, and no `-` or `.` at an end".to_owned());
    }
    Ok(())
}

fn check_revision(revision: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let sound = revision.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    if sound && revision.chars().all(allowed) {
        Ok(())
    } else {
        Err(format!("`{revision}` is no branch, tag or commit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_shown() {
        for text in ["mlx-community/Qwen2.5-14B-Instruct-4bit", "a/b@v1.0", "a/b@refs/pr/1"] {
            assert_eq!(text.parse::<ModelId>().unwrap().to_string(), text);
        }
        let id: ModelId = "a/b".parse().unwrap();
        assert_eq!((id.revision.as_str(), id.commit()), (DEFAULT_REVISION, None));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(id.at(commit).unwrap().commit(), Some(commit));
    }

    #[test]
    fn what_could_leave_the_cache_is_no_id() {
        for text in [
            "",
            "a",
            "a/",
            "/b",
            "../b",
            "a/..",
            "a/b/c",
            "a b/c",
            "a--b/c",
            "-a/b",
            "a/b@",
            "a/b@..",
            "a/b@x/../y",
            "~/b",
        ] {
            assert!(text.parse::<ModelId>().is_err(), "{text}");
        }
        assert!(format!("a/{}", "b".repeat(97)).parse::<ModelId>().is_err());
    }
}
