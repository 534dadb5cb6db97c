//! Texts put in the place of others in a stream of bytes (`sub_filter`).
//!
//! Pieces come as they come, so that the beginning of a text at the end of a piece is held back until it
//! is known whether it goes on. Where several texts begin at one place the one named first counts; case
//! does not, as in nginx.

/// Puts texts in the place of others.
#[derive(Debug)]
pub(crate) struct Substituter {
    pairs: Vec<Pair>,
    /// The bytes that one of the texts begins with.
    first: Box<[bool; 256]>,
    often: Often,
    /// What came and may be the beginning of a text.
    held: Vec<u8>,
}

#[derive(Debug)]
struct Pair {
    text: Box<[u8]>,
    replacement: Box<[u8]>,
}

/// How often a text is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Often {
    Once,
    Always,
}

/// What is at one place.
enum Here {
    /// This one of the texts.
    Text(usize),
    /// The beginning of one, as far as is known.
    Perhaps,
    Nothing,
}

/// Whether more may come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    MayCome,
    None,
}

impl Substituter {
    /// Makes one of texts and their replacements; empty texts are nowhere.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>, often: Often) -> Substituter {
        let pairs = pairs.into_iter().filter(|(text, _)| !text.is_empty());
        let pairs = pairs.map(|(text, replacement)| Pair {
            text: text.to_ascii_lowercase().into(),
            replacement: replacement.into(),
        });
        let mut made =
            Substituter { pairs: pairs.collect(), first: Box::new([false; 256]), often, held: Vec::new() };
        made.note_first();
        made
    }

    fn note_first(&mut self) {
        self.first.fill(false);
        for pair in &self.pairs {
            self.first[usize::from(pair.text[0])] = true;
            self.first[usize::from(pair.text[0].to_ascii_uppercase())] = true;
        }
    }

    /// Takes the next piece; returns what is known of the result.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(piece);
        self.substitute(&bytes, Rest::MayCome)
    }

    /// Returns what was held back: nothing more comes.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.held);
        self.substitute(&bytes, Rest::None)
    }

    fn substitute(&mut self, bytes: &[u8], rest: Rest) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        // What is before it is in the result.
        let mut done = 0;
        let mut place = 0;
        while place < bytes.len() {
            if !self.first[usize::from(bytes[place])] {
                place += 1;
                continue;
            }
            match self.look(&bytes[place..], rest) {
                Here::Nothing => place += 1,
                Here::Perhaps => break,
                Here::Text(number) => {
                    out.extend_from_slice(&bytes[done..place]);
                    place += self.pairs[number].text.len();
                    done = place;
                    out.extend_from_slice(&self.pairs[number].replacement);
                    if self.often == Often::Once {
                        self.pairs.remove(number);
                        self.note_first();
                    }
                }
            }
        }
        out.extend_from_slice(&bytes[done..place]);
        self.held = bytes[place..].to_vec();
        out
    }

    fn look(&self, bytes: &[u8], rest: Rest) -> Here {
        for (number, Pair { text, .. }) in self.pairs.iter().enumerate() {
            let common = text.len().min(bytes.len());
            if !bytes[..common].eq_ignore_ascii_case(&text[..common]) {
                continue;
            }
            if common == text.len() {
                return Here::Text(number);
            }
            if rest == Rest::MayCome {
                return Here::Perhaps;
            }
        }
        Here::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the result for the text in one piece, in pieces of each size, and bytewise.
    #[track_caller]
    fn check(pairs: &[(&str, &str)], often: Often, text: &str, expected: &str) {
        for size in 1..=text.len().max(1) {
            let pairs = pairs.iter().map(|&(text, by)| (text.as_bytes().to_vec(), by.as_bytes().to_vec()));
            let mut substituter = Substituter::new(pairs, often);
            let mut found: Vec<u8> =
                text.as_bytes().chunks(size).flat_map(|piece| substituter.push(piece)).collect();
            found.extend(substituter.finish());
            assert_eq!(std::str::from_utf8(&found).unwrap(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn text_is_found_across_pieces_and_whatever_its_case() {
        check(&[("hello", "bye")], Often::Always, "Hello, hellhello HELLO hell", "bye, hellbye bye hell");
    }

    #[test]
    fn once_is_once_for_each_text() {
        check(&[("a", "1"), ("b", "2")], Often::Once, "aabbab", "1a2bab");
    }

    #[test]
    fn text_that_begins_inside_a_failed_one_is_found() {
        check(&[("aab", "X")], Often::Always, "aaaaab aab aa", "aaaX X aa");
        check(&[("abcd", "1"), ("bc", "2")], Often::Always, "abcx abcd", "a2x 1");
    }

    #[test]
    fn first_named_counts_where_several_begin() {
        check(&[("ab", "1"), ("abc", "2")], Often::Always, "abc ab", "1c 1");
        check(&[("abc", "2"), ("ab", "1")], Often::Always, "abc ab", "2 1");
    }

    #[test]
    fn nothing_is_looked_for_in_what_was_put_in() {
        check(&[("a", "aa"), ("", "never")], Often::Always, "ba", "baa");
    }
}
