//! A cursor over the tokens of one statement.
//!
//! `sqlparser` supplies the tokens and parses queries and expressions. The DDL itself is read here: the
//! library knows neither volumes, masks, row filters nor most of the clauses a warehouse takes.

use sqlparser::ast::{Expr, Query};
use sqlparser::dialect::DatabricksDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// Why a statement failed: an error class of the engine, and its SQLSTATE.
#[derive(Debug, Clone, thiserror::Error)]
#[error("[{class}] {message} SQLSTATE: {state}")]
pub(crate) struct SqlError {
    pub(crate) class: String,
    pub(crate) state: &'static str,
    pub(crate) message: String,
}

impl SqlError {
    pub(crate) fn new(class: &str, state: &'static str, message: impl Into<String>) -> Self {
        Self { class: class.to_owned(), state, message: message.into() }
    }

    pub(crate) fn syntax(message: impl Into<String>) -> Self {
        Self::new("PARSE_SYNTAX_ERROR", "42601", message)
    }
}

pub(crate) type Sql<T> = Result<T, SqlError>;

/// Tokens with a position among them.
pub(crate) struct Cursor<'a> {
    text: &'a str,
    tokens: Vec<TokenWithSpan>,
    /// Byte offset of each line.
    lines: Vec<usize>,
    at: usize,
    /// What unqualified names are resolved against.
    pub(crate) catalog: String,
    pub(crate) schema: String,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, catalog: &str, schema: &str) -> Sql<Self> {
        let tokens = Tokenizer::new(&DatabricksDialect, text)
            .tokenize_with_location()
            .map_err(|e| SqlError::syntax(format!("Syntax error: {e}.")))?;
        let tokens = tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Ok(Self { text, tokens, lines, at: 0, catalog: catalog.to_owned(), schema: schema.to_owned() })
    }

    pub(crate) fn peek(&self) -> &Token {
        self.nth(0)
    }

    fn nth(&self, n: usize) -> &Token {
        self.tokens.get(self.at + n).map_or(&Token::EOF, |t| &t.token)
    }

    pub(crate) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    /// True at the end, past a final semicolon.
    pub(crate) fn done(&self) -> bool {
        match self.peek() {
            Token::EOF => true,
            Token::SemiColon => matches!(self.nth(1), Token::EOF),
            _ => false,
        }
    }

    /// Fails unless everything was read: one statement per call (section 5.4).
    pub(crate) fn end(&self) -> Sql<()> {
        if self.done() { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(crate) fn unexpected(&self) -> SqlError {
        let near = match self.peek() {
            Token::EOF => "end of input".to_owned(),
            token => format!("'{token}'"),
        };
        let (line, column) =
            self.tokens.get(self.at).map_or((0, 0), |t| (t.span.start.line, t.span.start.column));
        SqlError::syntax(format!("Syntax error at or near {near}. (line {line}, pos {column})"))
    }

    /// Whether these unquoted words come next.
    pub(crate) fn sees(&self, words: &str) -> bool {
        words.split(' ').enumerate().all(
            |(n, word)| matches!(self.nth(n), Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word)),
        )
    }

    /// Takes these words if they come next.
    pub(crate) fn take(&mut self, words: &str) -> bool {
        let there = self.sees(words);
        if there {
            self.at += words.split(' ').count();
        }
        there
    }

    pub(crate) fn expect(&mut self, words: &str) -> Sql<()> {
        if self.take(words) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(crate) fn take_token(&mut self, token: &Token) -> bool {
        let there = self.peek() == token;
        if there {
            self.at += 1;
        }
        there
    }

    pub(crate) fn expect_token(&mut self, token: &Token) -> Sql<()> {
        if self.take_token(token) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// An identifier, quoted or not.
    pub(crate) fn ident(&mut self) -> Sql<String> {
        match self.peek() {
            Token::Word(word) if word.quote_style.is_none_or(|q| q == '`') => {
                let value = word.value.clone();
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// The dotted parts of a name.
    pub(crate) fn parts(&mut self) -> Sql<Vec<String>> {
        let mut parts = vec![self.ident()?];
        while self.take_token(&Token::Period) {
            parts.push(self.ident()?);
        }
        Ok(parts)
    }

    /// A name of exactly `level` parts, completed from the current catalog and schema.
    pub(crate) fn name(&mut self, level: usize) -> Sql<String> {
        let parts = self.parts()?;
        self.complete(parts, level)
    }

    /// Completes a name from the current catalog and schema.
    pub(crate) fn complete(&self, parts: Vec<String>, level: usize) -> Sql<String> {
        if parts.len() > level {
            return Err(SqlError::new(
                "REQUIRES_SINGLE_PART_NAMESPACE",
                "42K05",
                format!("`{}` has too many parts.", parts.join("`.`")),
            ));
        }
        let defaults = [self.catalog.clone(), self.schema.clone()];
        let missing = level - parts.len();
        let skip = 2usize.saturating_sub(level - 1);
        let lead = defaults.iter().take(2 - skip).take(missing).cloned();
        Ok(lead.chain(parts).collect::<Vec<_>>().join(".").to_lowercase())
    }

    /// A string literal of any quoting.
    pub(crate) fn string(&mut self) -> Sql<String> {
        let value = match self.peek() {
            Token::SingleQuotedString(s) | Token::DoubleQuotedString(s) => s.clone(),
            Token::DollarQuotedString(s) => s.value.clone(),
            // The dialect reads double quotes as delimited identifiers elsewhere; a warehouse as strings.
            Token::Word(w) if w.quote_style == Some('"') => w.value.clone(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(value)
    }

    /// One closing angle bracket; of two that the tokenizer joined, the second stays.
    pub(crate) fn close_angle(&mut self) -> Sql<()> {
        match self.tokens.get_mut(self.at) {
            Some(t) if t.token == Token::Gt => self.at += 1,
            Some(t) if t.token == Token::ShiftRight => t.token = Token::Gt,
            _ => return Err(self.unexpected()),
        }
        Ok(())
    }

    /// `( a, b, … )`.
    pub(crate) fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Sql<T>) -> Sql<Vec<T>> {
        self.expect_token(&Token::LParen)?;
        let mut items = Vec::new();
        if self.take_token(&Token::RParen) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.take_token(&Token::RParen) {
                return Ok(items);
            }
            self.expect_token(&Token::Comma)?;
        }
    }

    /// `(k = v, …)`, where keys are strings or dotted words and the sign is optional.
    pub(crate) fn properties(&mut self) -> Sql<Vec<(String, String)>> {
        self.list(|c| {
            let key = match c.string() {
                Ok(key) => key,
                Err(_) => c.parts()?.join("."),
            };
            let _ = c.take_token(&Token::Eq);
            let value = match c.string() {
                Ok(value) => value,
                Err(_) => match c.next() {
                    Token::Number(n, _) => n,
                    Token::Word(w) if w.quote_style.is_none() => w.value.to_lowercase(),
                    _ => return Err(c.unexpected()),
                },
            };
            Ok((key, value))
        })
    }

    /// The text between two positions, without what surrounds it.
    pub(crate) fn between(&self, from: usize, to: usize) -> &'a str {
        let start = self.tokens.get(from).map_or(self.text.len(), |t| self.offset(t.span.start));
        let end = match to.checked_sub(1).and_then(|last| self.tokens.get(last)) {
            Some(last) if to > from => self.offset(last.span.end),
            _ => start,
        };
        self.text.get(start..end).unwrap_or_default().trim()
    }

    /// All that is left, as it was written.
    pub(crate) fn rest(&mut self) -> &'a str {
        let from = self.at;
        while !self.done() {
            self.at += 1;
        }
        self.between(from, self.at)
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn rewind(&mut self, at: usize) {
        self.at = at;
    }

    fn offset(&self, location: Location) -> usize {
        let line = usize::try_from(location.line).unwrap_or(1).max(1) - 1;
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        let column = usize::try_from(location.column).unwrap_or(1).max(1) - 1;
        let rest = self.text.get(start..).unwrap_or_default();
        rest.char_indices().nth(column).map_or(self.text.len(), |(i, _)| start + i)
    }

    /// An expression, with its text.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is not general over lifetimes"
    )]
    pub(crate) fn expr(&mut self) -> Sql<(&'a str, Expr)> {
        self.parsed(|p| p.parse_expr())
    }

    /// A query, with its text.
    pub(crate) fn query(&mut self) -> Sql<(&'a str, Query)> {
        self.parsed(|p| p.parse_query().map(|q| *q))
    }

    fn parsed<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
    ) -> Sql<(&'a str, T)> {
        let from = self.at;
        let rest = self.tokens.get(from..).unwrap_or_default().to_vec();
        let mut parser = Parser::new(&DatabricksDialect).with_tokens_with_locations(rest);
        let value = parse(&mut parser).map_err(|e| SqlError::syntax(format!("Syntax error: {e}.")))?;
        self.at = (from + parser.index()).min(self.tokens.len());
        Ok((self.between(from, self.at), value))
    }

    /// Leaves out STREAM before a table, and the parentheses it may have around the name: the library
    /// would take the first for an alias and the second for a function.
    pub(crate) fn without_stream(&mut self) {
        let is_stream = |t: &TokenWithSpan| matches!(&t.token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("STREAM"));
        let mut at = self.at;
        while let Some(found) = self.tokens.get(at..).and_then(|rest| rest.iter().position(is_stream)) {
            at += found;
            self.tokens.remove(at);
            if self.tokens.get(at).is_some_and(|t| t.token == Token::LParen) {
                let closing = self.tokens[at..].iter().position(|t| t.token == Token::RParen);
                if let Some(closing) = closing {
                    self.tokens.remove(at + closing);
                    self.tokens.remove(at);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(text: &str) -> Cursor<'_> {
        Cursor::new(text, "main", "default").expect("tokens")
    }

    #[test]
    fn names_are_completed_and_unescaped() {
        assert_eq!(cursor("t").name(3).expect("name"), "main.default.t");
        assert_eq!(cursor("s.t").name(3).expect("name"), "main.s.t");
        assert_eq!(cursor("`C`.s.`a``b`").name(3).expect("name"), "c.s.a`b");
        assert_eq!(cursor("s").name(2).expect("name"), "main.s");
        assert_eq!(cursor("c").name(1).expect("name"), "c");
        assert!(cursor("a.b.c.d").name(3).is_err());
    }

    #[test]
    fn the_text_of_a_query_is_kept_as_written() {
        let mut c = cursor("AS SELECT  'é' AS x,\n  b -- why\nFROM t;");
        c.expect("AS").expect("as");
        let (text, _) = c.query().expect("query");
        assert_eq!(text, "SELECT  'é' AS x,\n  b -- why\nFROM t");
        assert!(c.done());
    }

    #[test]
    fn strings_take_backslashes() {
        assert_eq!(cursor(r"'it\'s \\ fine'").string().expect("string"), r"it's \ fine");
    }
}
