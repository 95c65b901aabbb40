//! Colours: one table for the categories, used on every screen.

use dwell_probes::category::Category;

use super::Screen;

/// The categories' colours in the 256-colour palette, picked to be told apart on dark and light ground.
pub const fn colour(category: Category) -> u8 {
    match category {
        Category::Generation => 33,
        Category::Speculation => 134,
        Category::Tool => 172,
        Category::Http => 37,
        Category::Framework => 71,
        Category::Queue => 167,
        Category::Human => 179,
        Category::Unknown => 245,
    }
}

impl Screen {
    /// Text in a category's colour.
    pub(super) fn category(self, category: Category, text: &str) -> String {
        self.code(&format!("38;5;{}", colour(category)), text)
    }

    /// Text that stands out.
    pub(super) fn strong(self, text: &str) -> String {
        self.code("1", text)
    }

    /// Text of less weight.
    pub(super) fn faint(self, text: &str) -> String {
        self.code("2", text)
    }

    /// Text that says that all is well.
    pub(super) fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    /// Text that says that something is wrong.
    pub(super) fn bad(self, text: &str) -> String {
        self.code("31", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_category_has_its_own_colour() {
        let colours: BTreeSet<u8> = Category::ALL.into_iter().map(colour).collect();
        assert_eq!(colours.len(), Category::ALL.len());
    }

    #[test]
    fn a_plain_screen_gets_no_codes() {
        assert_eq!(Screen::PLAIN.category(Category::Tool, "x"), "x");
        let screen = Screen { colours: true };
        assert_eq!(screen.category(Category::Tool, "x"), "\x1b[38;5;172mx\x1b[0m");
        assert_eq!(screen.bad(""), "");
    }
}
