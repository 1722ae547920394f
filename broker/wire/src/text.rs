//! The bytes of strings, told apart in one pass: nearly every string is ASCII and has nothing in it that is forbidden anywhere.

/// U+0000.
pub(crate) const NUL: u8 = 1;
/// An ASCII control character, U+0000 among them.
pub(crate) const CONTROL: u8 = 1 << 1;
/// `+` or `#`.
pub(crate) const WILDCARD: u8 = 1 << 2;
/// Part of a character beyond ASCII.
const BEYOND_ASCII: u8 = 1 << 3;

const fn class(byte: u8) -> u8 {
    match byte {
        0 => NUL | CONTROL,
        b'+' | b'#' => WILDCARD,
        _ if byte.is_ascii_control() => CONTROL,
        _ if !byte.is_ascii() => BEYOND_ASCII,
        _ => 0,
    }
}

/// [`class`] of every byte.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
};

/// What is somewhere in a text.
#[derive(Clone, Copy)]
pub(crate) struct Contents(u8);

impl Contents {
    pub(crate) fn of(text: &[u8]) -> Self {
        Self(text.iter().fold(0, |seen, &byte| seen | CLASSES[usize::from(byte)]))
    }

    /// Whether any of these classes is in it.
    pub(crate) const fn has(self, classes: u8) -> bool {
        self.0 & classes != 0
    }

    /// Whether `text`, of which these are the contents, has a control character, of ASCII or beyond (U+0080 to U+009F).
    pub(crate) fn has_control(self, text: &str) -> bool {
        self.has(CONTROL) || self.has(BEYOND_ASCII) && text.chars().any(char::is_control)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn says_of_a_text_what_looking_for_each_would(
            text in "[a-z/]{0,20}([\0\u{1}\u{7f}\u{80}\u{9f}+#\u{a0}äあ🩺 ]|[a-z/]{0,9}|.){0,4}",
        ) {
            let contents = Contents::of(text.as_bytes());
            prop_assert_eq!(contents.has(NUL), text.contains('\0'));
            prop_assert_eq!(contents.has(WILDCARD), text.contains(['+', '#']));
            prop_assert_eq!(contents.has(NUL | WILDCARD), text.contains(['\0', '+', '#']));
            prop_assert_eq!(contents.has(BEYOND_ASCII), !text.is_ascii());
            prop_assert_eq!(contents.has_control(&text), text.chars().any(char::is_control));
        }
    }
}
