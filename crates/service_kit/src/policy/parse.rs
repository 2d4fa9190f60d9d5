//! The parser: a tokeniser over words and parentheses, then precedence climbing. Depth and length
//! are limited, because the text comes from a file that somebody wrote.

use super::expression::{CALLER_ATTRIBUTES, Expression, Operand};

/// Parentheses and `not`s may nest this deep.
const MAX_DEPTH: usize = 32;
/// Longest expression, in bytes.
const MAX_LENGTH: usize = 8192;

/// Where an expression stops making sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at column {column} of the expression")]
pub struct ParseError {
    /// What was wrong.
    pub message: String,
    /// First column is 1.
    pub column: usize,
}

struct Lexeme<'t> {
    text: &'t str,
    column: usize,
}

/// Parses an expression.
///
/// # Errors
/// With the column of the first word that does not fit.
pub fn parse(text: &str) -> Result<Expression, ParseError> {
    if text.len() > MAX_LENGTH {
        return Err(error(1, format!("more than {MAX_LENGTH} bytes")));
    }
    let lexemes = lex(text)?;
    if lexemes.is_empty() {
        return Ok(Expression::Always);
    }
    let end = text.chars().count() + 1;
    let mut parser = Parser { lexemes: &lexemes, at: 0, end };
    let expression = parser.disjunction(0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(extra) => Err(error(extra.column, format!("{:?} is not expected here", extra.text))),
    }
}

fn error(column: usize, message: impl Into<String>) -> ParseError {
    ParseError { message: message.into(), column }
}

/// Words are separated by spaces; parentheses stand alone except inside `%(name)s`.
fn lex(text: &str) -> Result<Vec<Lexeme<'_>>, ParseError> {
    let bytes = text.as_bytes();
    let mut lexemes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let column = text[..at].chars().count() + 1;
        match bytes[at] {
            b if b.is_ascii_whitespace() => at += 1,
            b'(' | b')' => {
                lexemes.push(Lexeme { text: &text[at..=at], column });
                at += 1;
            }
            _ => {
                let start = at;
                let mut quote = None;
                while at < bytes.len() {
                    let b = bytes[at];
                    if let Some(open) = quote {
                        if b == open {
                            quote = None;
                        }
                    } else if b == b'\'' || b == b'"' {
                        quote = Some(b);
                    } else if b == b'%' && bytes.get(at + 1) == Some(&b'(') {
                        match text[at..].find(")s") {
                            Some(length) => at += length + 1,
                            None => {
                                return Err(error(column, "\"%(\" without its \")s\""));
                            }
                        }
                    } else if b.is_ascii_whitespace() || b == b'(' || b == b')' {
                        break;
                    }
                    at += 1;
                }
                if quote.is_some() {
                    return Err(error(column, "a quotation mark is not closed"));
                }
                lexemes.push(Lexeme { text: &text[start..at], column });
            }
        }
    }
    Ok(lexemes)
}

struct Parser<'p, 't> {
    lexemes: &'p [Lexeme<'t>],
    at: usize,
    end: usize,
}

impl<'p, 't> Parser<'p, 't> {
    fn peek(&self) -> Option<&'p Lexeme<'t>> {
        self.lexemes.get(self.at)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|lexeme| lexeme.text.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn disjunction(&mut self, depth: usize) -> Result<Expression, ParseError> {
        let mut parts = vec![self.conjunction(depth)?];
        while self.take_word("or") {
            parts.push(self.conjunction(depth)?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn conjunction(&mut self, depth: usize) -> Result<Expression, ParseError> {
        let mut parts = vec![self.negation(depth)?];
        while self.take_word("and") {
            parts.push(self.negation(depth)?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn negation(&mut self, depth: usize) -> Result<Expression, ParseError> {
        let column = self.peek().map_or(self.end, |lexeme| lexeme.column);
        if depth > MAX_DEPTH {
            return Err(error(column, format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.take_word("not") {
            return Ok(Expression::Not(Box::new(self.negation(depth + 1)?)));
        }
        if self.take_word("(") {
            let inner = self.disjunction(depth + 1)?;
            if self.take_word(")") {
                return Ok(inner);
            }
            let column = self.peek().map_or(self.end, |lexeme| lexeme.column);
            return Err(error(column, "a closing parenthesis is missing"));
        }
        let Some(lexeme) = self.peek() else {
            return Err(error(self.end, "the expression ends where a check is expected"));
        };
        self.at += 1;
        check(lexeme)
    }
}

fn one_or(
    mut parts: Vec<Expression>,
    join: impl FnOnce(Vec<Expression>) -> Expression,
) -> Expression {
    if parts.len() == 1 { parts.remove(0) } else { join(parts) }
}

fn check(lexeme: &Lexeme<'_>) -> Result<Expression, ParseError> {
    match lexeme.text {
        "@" => return Ok(Expression::Always),
        "!" => return Ok(Expression::Never),
        _ => {}
    }
    let Some((left, right)) = split_check(lexeme.text) else {
        return Err(error(
            lexeme.column,
            format!("{:?} is not a check such as role:member", lexeme.text),
        ));
    };
    if left.is_empty() || right.is_empty() {
        return Err(error(lexeme.column, format!("{:?} lacks one of its sides", lexeme.text)));
    }
    match left {
        "role" => Ok(Expression::Role(right.to_owned())),
        "rule" => Ok(Expression::Rule(right.to_owned())),
        _ => Ok(Expression::Equal(
            operand(left, true, lexeme.column)?,
            operand(right, false, lexeme.column)?,
        )),
    }
}

/// Splits at the first colon outside quotes.
fn split_check(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ':') => return Some((&text[..index], &text[index + 1..])),
            _ => {}
        }
    }
    None
}

fn operand(text: &str, is_left: bool, column: usize) -> Result<Operand, ParseError> {
    if let Some(name) = text.strip_prefix("%(").and_then(|rest| rest.strip_suffix(")s")) {
        return match name.strip_prefix("target.").unwrap_or(name) {
            "" => Err(error(column, "\"%()s\" names no attribute")),
            name => Ok(Operand::Target(name.to_owned())),
        };
    }
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return Ok(Operand::Literal(inner.to_owned()));
        }
    }
    if !is_left || matches!(text, "True" | "False" | "None") {
        return Ok(Operand::Literal(text.to_owned()));
    }
    if CALLER_ATTRIBUTES.contains(&text) {
        Ok(Operand::Caller(text.to_owned()))
    } else {
        Err(error(
            column,
            format!("{text:?} is neither an attribute of the caller nor a quoted text"),
        ))
    }
}
