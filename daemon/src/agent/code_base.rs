//! The code that the agent's tools look at: the sample code base compiled into the program, held in memory. There is no way
//! from here to the file system.

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Its path from the code base's root, with `/`.
    pub(super) path: &'static str,
    /// Its text.
    pub(super) text: &'static str,
}

impl File {
    /// Line numbers, counted from 1, and lines without their ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &'static str)> + use<> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        &[$(File { path: $path, text: include_str!(concat!("../../sample/", $path)) }),+]
    };
}

/// The sample code base, sorted by path: a small book shop written with Django.
pub(super) const SAMPLE: &[File] = files![
    "README.md",
    "accounts/models.py",
    "accounts/permissions.py",
    "accounts/serializers.py",
    "accounts/views.py",
    "catalog/models.py",
    "catalog/search.py",
    "catalog/views.py",
    "manage.py",
    "orders/models.py",
    "orders/notify.py",
    "orders/serializers.py",
    "orders/services.py",
    "orders/views.py",
    "shop/settings.py",
    "shop/urls.py",
    "tests/test_orders.py",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn walk(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_compiled_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sample");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.retain(|path| !path.contains("__pycache__"));
        found.sort_unstable();
        let listed: Vec<&str> = SAMPLE.iter().map(|file| file.path).collect();
        assert_eq!(listed, found);
    }
}
