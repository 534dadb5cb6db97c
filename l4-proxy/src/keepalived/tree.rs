//! Lines into statements and blocks.
//!
//! A statement ends with its line, with the `{` that opens its block, or with the `}` that closes
//! the block around it. A `{` may stand on the line after its statement.

use std::sync::Arc;

use super::complaint::{Complaint, Line, Word};
use super::lexer::{self, Token};

/// A statement: its words, and what is in its braces if it has any.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// At least one.
    pub(crate) words: Vec<Word>,
    pub(crate) body: Option<Vec<Node>>,
    /// Names of statements in its braces that were there and could not be understood.
    pub(crate) refused: Vec<String>,
}

impl Node {
    fn new(words: Vec<Word>) -> Node {
        Node { words, body: None, refused: Vec::new() }
    }

    /// The first word.
    pub(crate) fn name(&self) -> &str {
        &self.words[0].text
    }

    /// The text of a word, the name being 0.
    pub(crate) fn text(&self, index: usize) -> Option<&str> {
        self.words.get(index).map(|word| word.text.as_str())
    }

    /// An error about the whole statement.
    pub(crate) fn blame(&self, message: impl Into<String>) -> Complaint {
        let (first, last) = (&self.words[0], &self.words[self.words.len() - 1]);
        let end = if Arc::ptr_eq(&first.line, &last.line) { last.span.end } else { first.span.end };
        Complaint::at(&first.line, first.span.start..end, message)
    }

    /// The statements in its braces.
    pub(crate) fn children(&self) -> &[Node] {
        self.body.as_deref().unwrap_or_default()
    }

    /// Whether its braces say something of that name, be it understood or not.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.child(name).is_some() || self.refused.iter().any(|refused| refused == name)
    }

    /// The last statement of this name in its braces.
    pub(crate) fn child(&self, name: &str) -> Option<&Node> {
        self.children().iter().rfind(|child| child.name() == name)
    }
}

/// The statements with what is in their braces, as one text that knows nothing of blanks, comments and files.
pub(crate) fn plain(nodes: &[Node]) -> String {
    let mut text = String::new();
    for node in nodes {
        let words = node.words.iter().map(|word| format!("{:?} ", word.text));
        text.extend(words);
        if let Some(body) = &node.body {
            text.push_str(&format!("{{\n{}}}", plain(body)));
        }
        text.push('\n');
    }
    text
}

/// The statements of a text whose lines these are.
pub(crate) fn statements(lines: &[Arc<Line>], complaints: &mut Vec<Complaint>) -> Vec<Node> {
    let mut tree = Tree { open: vec![Level::default()], complaints };
    for line in lines {
        let mut words = Vec::new();
        for token in lexer::tokens(line, tree.complaints) {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open(brace) => tree.open(std::mem::take(&mut words), brace),
                Token::Close(brace) => {
                    tree.statement(std::mem::take(&mut words));
                    tree.close(&brace);
                }
            }
        }
        tree.statement(words);
    }
    tree.end()
}

struct Tree<'a> {
    /// The blocks around the present line, the file first.
    open: Vec<Level>,
    complaints: &'a mut Vec<Complaint>,
}

#[derive(Default)]
struct Level {
    /// The statement that the block belongs to; none for the file, and for a stray block.
    owner: Option<Node>,
    brace: Option<Word>,
    nodes: Vec<Node>,
}

impl Tree<'_> {
    fn level(&mut self) -> &mut Level {
        if self.open.is_empty() {
            self.open.push(Level::default());
        }
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn statement(&mut self, words: Vec<Word>) {
        if !words.is_empty() {
            self.level().nodes.push(Node::new(words));
        }
    }

    fn open(&mut self, words: Vec<Word>, brace: Word) {
        let owner = if words.is_empty() {
            self.level().nodes.pop_if(|node| node.body.is_none())
        } else {
            Some(Node::new(words))
        };
        let owner = owner.filter(|_| self.open.len() <= DEPTH_MAX);
        if self.open.len() > DEPTH_MAX {
            self.complaints.push(brace.blame("the blocks are nested too deeply"));
        } else if owner.is_none() {
            self.complaints.push(brace.blame("unexpected '{': it belongs to no statement"));
        }
        self.open.push(Level { owner, brace: Some(brace), nodes: Vec::new() });
    }

    fn close(&mut self, brace: &Word) {
        if self.open.len() == 1 {
            self.complaints.push(brace.blame("unexpected '}': no block is open"));
            return;
        }
        if let Some(Level { owner: Some(owner), nodes, .. }) = self.open.pop() {
            self.level().nodes.push(Node { body: Some(nodes), ..owner });
        }
    }

    fn end(mut self) -> Vec<Node> {
        while self.open.len() > 1 {
            if let Some(Level { owner, brace: Some(brace), nodes }) = self.open.pop() {
                let name = owner.as_ref().map_or("this", Node::name);
                let message = format!("the block of {name} is not closed: a '}}' is missing");
                self.complaints.push(
                    owner.as_ref().map_or_else(|| brace.blame(&message), |owner| owner.blame(&message)),
                );
                if let Some(owner) = owner {
                    self.level().nodes.push(Node { body: Some(nodes), ..owner });
                }
            }
        }
        self.open.pop().map(|level| level.nodes).unwrap_or_default()
    }
}

/// The deepest block that means anything is the fourth.
const DEPTH_MAX: usize = 16;
