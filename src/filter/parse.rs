//! Reads a filter. One word is looked at ahead, and the depth of parentheses is bounded, so that no text
//! takes more than its length of work, or of stack.

use super::{
    Comparison, Condition, Expression, FieldName, FilterError, Literal, LiteralValue, Pattern,
    PatternPart, Problem, Span, Test,
    token::{KEYWORDS, Token, Tokens},
};
use crate::types::limits::{FILTER_CHARS_MAX, FILTER_DEPTH_MAX, FILTER_FIELDS_MAX};

pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    if let Some((start, _)) = text.char_indices().nth(FILTER_CHARS_MAX) {
        let end = text.len();
        return Err(FilterError::new(
            text,
            Span { start, end },
            Problem::TooLong,
        ));
    }
    let mut tokens = Tokens::new(text);
    let next = tokens.next()?;
    let mut parser = Parser {
        text,
        tokens,
        next,
        depth: 0,
        fields: Vec::new(),
    };
    let root = parser.any_of()?;
    match parser.next.0 {
        Token::End => Ok(root),
        _ => Err(parser.unexpected("AND, OR or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Tokens<'a>,
    next: (Token<'a>, Span),
    depth: usize,
    /// Fields that were named, in lower case.
    fields: Vec<String>,
}

impl<'a> Parser<'a> {
    /// Conditions with `OR` between them.
    fn any_of(&mut self) -> Result<Expression, FilterError> {
        let first = self.all_of()?;
        let mut parts = vec![first];
        while self.takes_word("OR")? {
            parts.push(self.all_of()?);
        }
        Ok(one_or(parts, Expression::Or))
    }

    /// Conditions with `AND` between them.
    fn all_of(&mut self) -> Result<Expression, FilterError> {
        let first = self.one()?;
        let mut parts = vec![first];
        while self.takes_word("AND")? {
            parts.push(self.one()?);
        }
        Ok(one_or(parts, Expression::And))
    }

    /// One condition, or what is in parentheses, with `NOT` before it or without.
    fn one(&mut self) -> Result<Expression, FilterError> {
        let mut is_negated = false;
        while self.takes_word("NOT")? {
            is_negated = !is_negated;
        }
        let expression = match self.next.0 {
            Token::Open => {
                self.depth += 1;
                if self.depth > FILTER_DEPTH_MAX {
                    return Err(self.failed(Problem::TooDeep));
                }
                self.advance()?;
                let inner = self.any_of()?;
                self.expect(Token::Close, "AND, OR or `)`")?;
                self.depth -= 1;
                inner
            }
            _ => Expression::Condition(self.condition()?),
        };
        Ok(match is_negated {
            true => Expression::Not(Box::new(expression)),
            false => expression,
        })
    }

    fn condition(&mut self) -> Result<Condition, FilterError> {
        let field = self.field()?;
        let test = if let Token::Comparison(comparison) = self.next.0 {
            self.advance()?;
            let literal = self.literal("a value")?;
            self.check_goes_with(comparison, &literal)?;
            Test::Compare(comparison, literal)
        } else if self.takes_word("LIKE")? {
            Test::Like(self.pattern()?)
        } else if self.takes_word("IN")? {
            self.values(false)?
        } else if self.takes_word("NOT")? {
            if !self.takes_word("IN")? {
                return Err(self.unexpected("IN"));
            }
            self.values(true)?
        } else {
            return Err(self.unexpected("=, !=, <, <=, >, >=, LIKE, IN or NOT IN"));
        };
        Ok(Condition { field, test })
    }

    fn field(&mut self) -> Result<FieldName, FilterError> {
        let (name, mut span) = self.name("a field")?;
        let mut part = None;
        if self.next.0 == Token::Dot {
            self.advance()?;
            let (name, at) = self.name("a part of the field")?;
            span.end = at.end;
            part = Some(name.to_owned());
        }
        let known = self.text[span.start..span.end].to_ascii_lowercase();
        if !self.fields.contains(&known) {
            if self.fields.len() == FILTER_FIELDS_MAX {
                return Err(FilterError::new(self.text, span, Problem::TooManyFields));
            }
            self.fields.push(known);
        }
        let name = name.to_owned();
        Ok(FieldName { name, part, span })
    }

    fn name(&mut self, wanted: &'static str) -> Result<(&'a str, Span), FilterError> {
        match self.next {
            (Token::Word(word), span) if !is_keyword(word) => {
                self.advance()?;
                Ok((word, span))
            }
            _ => Err(self.unexpected(wanted)),
        }
    }

    fn literal(&mut self, wanted: &'static str) -> Result<Literal, FilterError> {
        let span = self.next.1;
        let value = match &self.next.0 {
            Token::Digits(value) => value.clone(),
            Token::Text(escaped) => LiteralValue::Text(self.unescaped(escaped, span)?),
            Token::Word(word) if word.eq_ignore_ascii_case("null") => LiteralValue::Null,
            Token::Word(word) if word.eq_ignore_ascii_case("true") => LiteralValue::Boolean(true),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => LiteralValue::Boolean(false),
            _ => return Err(self.unexpected(wanted)),
        };
        self.advance()?;
        Ok(Literal { value, span })
    }

    /// The values of `IN`.
    fn values(&mut self, is_negated: bool) -> Result<Test, FilterError> {
        self.expect(Token::Open, "`(` and the values")?;
        let mut values = vec![self.literal("a value")?];
        while self.next.0 == Token::Comma {
            self.advance()?;
            values.push(self.literal("a value")?);
        }
        self.expect(Token::Close, "`,` or `)`")?;
        Ok(Test::In { values, is_negated })
    }

    fn pattern(&mut self) -> Result<Pattern, FilterError> {
        let (Token::Text(escaped), span) = self.next else {
            return Err(self.unexpected("a text in single quotes"));
        };
        let mut parts = Vec::new();
        let mut text = String::new();
        for piece in self.pieces(escaped, span) {
            let piece = piece?;
            let wildcard = match piece.character {
                '%' if !piece.is_escaped => PatternPart::AnyRun,
                '_' if !piece.is_escaped => PatternPart::AnyOne,
                character => {
                    text.push(character);
                    continue;
                }
            };
            parts.extend(take_text(&mut text));
            // Two runs are one.
            if wildcard != PatternPart::AnyRun || parts.last() != Some(&PatternPart::AnyRun) {
                parts.push(wildcard);
            }
        }
        parts.extend(take_text(&mut text));
        self.advance()?;
        Ok(Pattern { parts, span })
    }

    fn unescaped(&self, escaped: &str, span: Span) -> Result<String, FilterError> {
        let pieces = self.pieces(escaped, span);
        pieces.map(|piece| Ok(piece?.character)).collect()
    }

    /// The characters of a text in quotes.
    fn pieces<'t>(
        &self,
        escaped: &'t str,
        span: Span,
    ) -> impl Iterator<Item = Result<Piece, FilterError>> + use<'a, 't> {
        let text = self.text;
        let mut rest = escaped.char_indices();
        std::iter::from_fn(move || {
            let (index, character) = rest.next()?;
            if character != '\\' {
                return Some(Ok(Piece {
                    character,
                    is_escaped: false,
                }));
            }
            let start = span.start + 1 + index;
            let mut written = String::from('\\');
            let escape = rest.next().map(|(_, escape)| escape);
            written.extend(escape);
            let meant = match escape {
                Some(escape @ ('\'' | '"' | '\\' | '%' | '_')) => Some(escape),
                Some('n' | 'N') => Some('\n'),
                Some('r' | 'R') => Some('\r'),
                Some('t' | 'T') => Some('\t'),
                Some('b' | 'B') => Some('\u{8}'),
                Some('f' | 'F') => Some('\u{c}'),
                Some('u') => {
                    let digits: String = rest.by_ref().take(4).map(|(_, digit)| digit).collect();
                    written.push_str(&digits);
                    let is_whole = digits.len() == 4;
                    let code = u32::from_str_radix(&digits, 16).ok().filter(|_| is_whole);
                    code.and_then(char::from_u32)
                }
                _ => None,
            };
            let end = start + written.len();
            let problem = Problem::Escape(written);
            let error = || FilterError::new(text, Span { start, end }, problem);
            let piece = meant.map(|character| Piece {
                character,
                is_escaped: true,
            });
            Some(piece.ok_or_else(error))
        })
    }

    /// Holds a comparison to be one that the value has.
    fn check_goes_with(
        &self,
        comparison: Comparison,
        literal: &Literal,
    ) -> Result<(), FilterError> {
        let value = match literal.value {
            LiteralValue::Null => "null",
            LiteralValue::Boolean(true) => "true",
            LiteralValue::Boolean(false) => "false",
            _ => return Ok(()),
        };
        if !comparison.is_ordering() {
            return Ok(());
        }
        let operator = comparison.as_str();
        let problem = Problem::Operator { operator, value };
        Err(FilterError::new(self.text, literal.span, problem))
    }

    /// Takes this keyword, if it is next.
    fn takes_word(&mut self, keyword: &str) -> Result<bool, FilterError> {
        let is_next = match self.next.0 {
            Token::Word(word) => word.eq_ignore_ascii_case(keyword),
            _ => false,
        };
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, token: Token<'_>, wanted: &'static str) -> Result<(), FilterError> {
        match self.next.0 == token {
            true => self.advance(),
            false => Err(self.unexpected(wanted)),
        }
    }

    fn advance(&mut self) -> Result<(), FilterError> {
        self.next = self.tokens.next()?;
        Ok(())
    }

    fn unexpected(&self, wanted: &'static str) -> FilterError {
        let found = self.next.0.shown();
        self.failed(Problem::Unexpected { found, wanted })
    }

    fn failed(&self, problem: Problem) -> FilterError {
        FilterError::new(self.text, self.next.1, problem)
    }
}

/// A character of a text. An escape takes its meaning in a pattern away.
struct Piece {
    character: char,
    is_escaped: bool,
}

fn take_text(text: &mut String) -> Option<PatternPart> {
    (!text.is_empty()).then(|| PatternPart::Text(std::mem::take(text)))
}

fn one_or(
    mut parts: Vec<Expression>,
    many: impl FnOnce(Vec<Expression>) -> Expression,
) -> Expression {
    match parts.len() {
        1 => parts.remove(0),
        _ => many(parts),
    }
}

fn is_keyword(word: &str) -> bool {
    let mut keywords = KEYWORDS.iter();
    keywords.any(|keyword| keyword.eq_ignore_ascii_case(word))
}
