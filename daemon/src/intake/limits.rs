//! How much of a span's attributes is kept: nothing endless, and of addresses no keys. Which ones is `known`'s.

/// The most attributes of one span.
pub(super) const ATTRIBUTES: usize = 128;

/// The longest text of a value or a name, in bytes.
pub(super) const TEXT_BYTES: usize = 1024;

/// The most values in a list.
pub(super) const LIST: usize = 64;

/// How deep lists may lie in lists.
pub(super) const DEPTH: usize = 4;

/// The longest beginning of at most [`TEXT_BYTES`] bytes.
pub(super) fn shortened(mut text: String) -> String {
    if text.len() > TEXT_BYTES {
        let end = (0..=TEXT_BYTES).rev().find(|&end| text.is_char_boundary(end));
        text.truncate(end.unwrap_or_default());
    }
    text
}

/// Whether an attribute of this name holds an address, whose query may hold a key.
pub(super) fn is_address(name: &str) -> bool {
    matches!(name, "url.full" | "url.path" | "http.url")
}

/// An address without user, query and fragment.
pub(super) fn bare_address(address: &str) -> String {
    let bare = address.split(['?', '#']).next().unwrap_or_default();
    match bare.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        let long = "ä".repeat(TEXT_BYTES);
        let cut = shortened(format!("x{long}"));
        assert_eq!(cut.len(), TEXT_BYTES - 1);
        assert_eq!(shortened("short".to_owned()), "short");
    }

    #[test]
    fn addresses_lose_what_may_hold_a_key() {
        assert_eq!(bare_address("https://me:pw@host:1/a/b?key=x#y"), "https://host:1/a/b");
        assert_eq!(bare_address("https://host?key=x@z"), "https://host");
        assert_eq!(bare_address("/a?b"), "/a");
    }
}
