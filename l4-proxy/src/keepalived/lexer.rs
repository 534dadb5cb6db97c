//! A line into words and braces.
//!
//! Words are separated by blanks. `"…"` and `'…'` protect blanks, braces and comment signs, and
//! join with what touches them. Inside of quotes a backslash writes a control character or takes
//! the meaning from the character after it; outside it does the latter for `# ! " ' \ { }` and
//! blanks and is an ordinary character otherwise, so that `\d` of a regular expression survives.

use std::sync::Arc;

use super::complaint::{Complaint, Line, Word};

/// What a line is made of.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    Word(Word),
    /// `{`
    Open(Word),
    /// `}`
    Close(Word),
}

/// The text without a comment: `#` or `!` outside of quotes, up to the end.
pub(crate) fn without_comment(text: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match (character, quote) {
            ('\\', _) => escaped = true,
            ('#' | '!', None) => return &text[..at],
            ('"' | '\'', None) => quote = Some(character),
            (_, Some(open)) if character == open => quote = None,
            _ => {}
        }
    }
    text
}

/// The words and braces of a line; complains of a quote that is not closed.
pub(crate) fn tokens(line: &Arc<Line>, complaints: &mut Vec<Complaint>) -> Vec<Token> {
    let text = line.text.as_str();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        let brace = Word { text: character.to_string(), line: Arc::clone(line), span: at..at + 1 };
        match character {
            '{' => tokens.push(Token::Open(brace)),
            '}' => tokens.push(Token::Close(brace)),
            _ if character.is_whitespace() => {}
            _ => {
                let (word, end) = word(line, at, complaints);
                tokens.push(Token::Word(word));
                at = end;
                continue;
            }
        }
        at += character.len_utf8();
    }
    tokens
}

/// The word that begins at a byte, and the byte after it.
fn word(line: &Arc<Line>, begin: usize, complaints: &mut Vec<Complaint>) -> (Word, usize) {
    let source = line.text.as_str();
    let mut text = String::new();
    let mut rest = source[begin..].chars();
    let end = loop {
        let here = source.len() - rest.as_str().len();
        match rest.next() {
            None => break here,
            Some(quote @ ('"' | '\'')) => {
                if !quoted(&mut rest, quote, &mut text) {
                    complaints.push(Complaint::at(line, here..source.len(), "the quote is not closed"));
                    break source.len();
                }
            }
            // A parameter that is not defined stays as it is, braces and all.
            Some('$') if rest.as_str().starts_with('{') => {
                let length = rest.as_str().find('}').map_or(0, |close| close + 1);
                text.push('$');
                text.push_str(&rest.as_str()[..length]);
                rest = rest.as_str()[length..].chars();
            }
            Some('\\') => match rest.clone().next() {
                Some(next @ ('#' | '!' | '"' | '\'' | '\\' | '{' | '}' | ' ')) => {
                    text.push(next);
                    rest.next();
                }
                _ => text.push('\\'),
            },
            Some('{' | '}') => break here,
            Some(character) if character.is_whitespace() => break here,
            Some(character) => text.push(character),
        }
    };
    (Word { text, line: Arc::clone(line), span: begin..end }, end)
}

/// Reads on to the closing quote; says if there was one.
fn quoted(rest: &mut std::str::Chars<'_>, quote: char, text: &mut String) -> bool {
    while let Some(character) = rest.next() {
        match character {
            _ if character == quote => return true,
            '\\' => match rest.next() {
                Some(escape) => text.push(escaped(escape, rest)),
                None => return false,
            },
            _ => text.push(character),
        }
    }
    false
}

/// What a backslash and this character stand for.
fn escaped(character: char, rest: &mut std::str::Chars<'_>) -> char {
    match character {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'c' => rest.next().map_or('\\', |letter| {
            char::from_u32(u32::from(letter.to_ascii_uppercase()) & 0x1f).unwrap_or(letter)
        }),
        'x' => number(rest, 16, usize::MAX, 0).unwrap_or('x'),
        '0'..='7' => {
            let first = character.to_digit(8).unwrap_or_default();
            number(rest, 8, 2, first).unwrap_or(character)
        }
        _ => character,
    }
}

/// The character of a number that begins with `value` and goes on for so many digits; none if there
/// is no digit at all, or no such character.
fn number(rest: &mut std::str::Chars<'_>, radix: u32, digits: usize, value: u32) -> Option<char> {
    let (mut value, mut read) = (value, 0);
    while read < digits {
        let Some(digit) = rest.clone().next().and_then(|next| next.to_digit(radix)) else { break };
        value = value.wrapping_mul(radix).wrapping_add(digit) & 0xff;
        rest.next();
        read += 1;
    }
    (read > 0 || radix == 8).then_some(value).and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lex(text: &str) -> (Vec<String>, Vec<String>) {
        let text = without_comment(text).to_owned();
        let line = Arc::new(Line { file: Path::new("f").into(), number: 1, text });
        let mut complaints = Vec::new();
        let words = tokens(&line, &mut complaints).into_iter().map(|token| match token {
            Token::Word(word) => format!("<{}>", word.text),
            Token::Open(_) => "{".to_owned(),
            Token::Close(_) => "}".to_owned(),
        });
        (words.collect(), complaints.into_iter().map(|complaint| complaint.message).collect())
    }

    #[test]
    fn lines_fall_into_words_as_keepalived_reads_them() {
        for (text, words) in [
            ("weight 1", "<weight> <1>"),
            ("weight 1 # one", "<weight> <1>"),
            ("weight 1!one", "<weight> <1>"),
            ("! nothing", ""),
            (r##"path "/#a!b""##, "<path> </#a!b>"),
            (r"path /\#a", "<path> </#a>"),
            (r#"'abcd" efg h jkl "mnop'"#, r#"<abcd" efg h jkl "mnop>"#),
            (r#"abcd" efg h jkl "mnop"#, "<abcd efg h jkl mnop>"),
            (r#"abcd "efg h" mnop"#, "<abcd> <efg h> <mnop>"),
            (r#"script "killall -0 'a b'""#, "<script> <killall -0 'a b'>"),
            (r#"regex "\x41\102\cA\tz\q""#, "<regex> <AB\u{1}\tzq>"),
            (r"regex \d+", r"<regex> <\d+>"),
            (r#"a "" b"#, "<a> <> <b>"),
            ("real_server 10.0.0.1 80 {", "<real_server> <10.0.0.1> <80> {"),
            ("TCP_CHECK{", "<TCP_CHECK> {"),
            ("virtual_ipaddress { 10.0.0.1/24 }", "<virtual_ipaddress> { <10.0.0.1/24> }"),
            ("path ${UNDEFINED}/x", "<path> <${UNDEFINED}/x>"),
        ] {
            assert_eq!(lex(text).0.join(" "), words, "{text}");
            assert_eq!(lex(text).1, Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn open_quote_is_complained_of() {
        assert_eq!(lex("path \"/a b").1, ["the quote is not closed"]);
        assert_eq!(lex("path '/a\\").1, ["the quote is not closed"]);
    }
}
