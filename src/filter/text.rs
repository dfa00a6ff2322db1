//! Comparing text as filters do: without its case, unless the field says otherwise.
//!
//! Case is folded character by character, one for one, so that `_` of a pattern is one character of the
//! text as it is written. Nothing is allocated, and the work is linear in the text whatever the pattern.

use std::cmp::Ordering;

use super::PatternPart;

/// Characters of a piece of a pattern that is searched for bit by bit: as many as a word has bits.
pub(super) const WILD_PIECE_CHARS_MAX: usize = 64;

/// Whether case matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Matters,
    Folded,
}

impl Case {
    /// The character that stands for all those that are the same but for their case.
    fn fold(self, character: char) -> char {
        match self {
            Self::Matters => character,
            Self::Folded if character.is_ascii() => character.to_ascii_lowercase(),
            Self::Folded => {
                let mut lower = character.to_lowercase();
                match (lower.next(), lower.next()) {
                    (Some(only), None) => only,
                    _ => character,
                }
            }
        }
    }

    pub(super) fn fold_text(self, text: &str) -> String {
        text.chars().map(|character| self.fold(character)).collect()
    }

    /// Compares a text, which need not be folded, with one that is: by the numbers of their characters.
    pub(super) fn compare(self, text: &str, folded: &str) -> Ordering {
        if self == Self::Matters {
            return text.cmp(folded);
        }
        // Most text is ASCII, where a byte is a character; what follows the first that is not is
        // compared by characters.
        let mut same = 0;
        for (left, right) in text.bytes().zip(folded.bytes()) {
            if !left.is_ascii() || !right.is_ascii() {
                let left = text[same..].chars().map(|character| self.fold(character));
                return left.cmp(folded[same..].chars());
            }
            match left.to_ascii_lowercase().cmp(&right) {
                Ordering::Equal => same += 1,
                other => return other,
            }
        }
        text.len().cmp(&folded.len())
    }
}

/// A pattern of `LIKE`, made ready.
#[derive(Clone, Debug)]
pub(super) struct Like {
    case: Case,
    /// What the text begins with.
    first: Piece,
    /// What comes after that in this order, each piece somewhere behind the one before it.
    middle: Vec<Finder>,
    /// What the text ends with; `None` if the first piece is the whole text.
    last: Option<Piece>,
}

/// Characters in a row; `None` is any one.
type Piece = Vec<Option<char>>;

impl Like {
    /// Makes a pattern ready; `None` if a piece of it between two runs has more than
    /// [`WILD_PIECE_CHARS_MAX`] characters and any-one characters among them.
    pub(super) fn new(parts: &[PatternPart], case: Case) -> Option<Self> {
        let mut pieces = vec![Piece::new()];
        for part in parts {
            let piece = pieces.last_mut()?;
            match part {
                PatternPart::Text(text) => {
                    piece.extend(text.chars().map(|character| Some(case.fold(character))));
                }
                PatternPart::AnyOne => piece.push(None),
                PatternPart::AnyRun => pieces.push(Piece::new()),
            }
        }
        let mut pieces = pieces.into_iter();
        let first = pieces.next()?;
        let last = pieces.next_back();
        let middle = pieces.map(Finder::new).collect::<Option<_>>()?;
        Some(Self {
            case,
            first,
            middle,
            last,
        })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let folded = |character| self.case.fold(character);
        let mut rest = text.chars();
        if !begins_with(&mut rest.by_ref().map(folded), self.first.iter()) {
            return false;
        }
        let Some(last) = &self.last else {
            return rest.next().is_none();
        };
        if !begins_with(&mut rest.by_ref().rev().map(folded), last.iter().rev()) {
            return false;
        }
        let mut rest = rest.map(folded);
        self.middle.iter().all(|piece| piece.find(&mut rest))
    }
}

fn begins_with<'p>(
    text: &mut impl Iterator<Item = char>,
    mut piece: impl Iterator<Item = &'p Option<char>>,
) -> bool {
    piece.all(|wanted| match (text.next(), wanted) {
        (Some(found), Some(wanted)) => found == *wanted,
        (Some(_), None) => true,
        (None, _) => false,
    })
}

/// Finds a piece, reading each character of the text once.
#[derive(Clone, Debug)]
enum Finder {
    /// For a short piece: one bit for each of its characters tells whether the piece up to there
    /// matches the text that ends here (Shift-And).
    Bits(Box<Bits>),
    /// For a long piece: how much of it still matches when its next character does not
    /// (Knuth-Morris-Pratt).
    Borders {
        piece: Vec<char>,
        borders: Vec<usize>,
    },
}

#[derive(Clone, Debug)]
struct Bits {
    len: usize,
    /// Places of any-one characters.
    any: u64,
    /// The places of each ASCII character.
    ascii: [u64; 128],
    /// The places of the others.
    others: Vec<(char, u64)>,
}

impl Finder {
    fn new(piece: Piece) -> Option<Self> {
        if piece.len() > WILD_PIECE_CHARS_MAX {
            let piece: Vec<char> = piece.into_iter().collect::<Option<_>>()?;
            let borders = borders(&piece);
            return Some(Self::Borders { piece, borders });
        }
        let mut bits = Bits {
            len: piece.len(),
            any: 0,
            ascii: [0; 128],
            others: Vec::new(),
        };
        for (place, character) in piece.into_iter().enumerate() {
            let bit = 1 << place;
            match character {
                None => bits.any |= bit,
                Some(character) => match bits.ascii.get_mut(character as usize) {
                    Some(places) => *places |= bit,
                    None => bits.others.push((character, bit)),
                },
            }
        }
        Some(Self::Bits(Box::new(bits)))
    }

    /// Takes characters off `text` up to the end of the first place where the piece stands; all of them
    /// if it does not.
    fn find(&self, text: &mut impl Iterator<Item = char>) -> bool {
        match self {
            Self::Bits(bits) if bits.len == 0 => true,
            Self::Bits(bits) => {
                let end = 1 << (bits.len - 1);
                let mut matching = 0u64;
                text.any(|character| {
                    matching = (matching << 1 | 1) & bits.places(character);
                    matching & end != 0
                })
            }
            Self::Borders { piece, borders } => {
                let mut matching = 0;
                text.any(|character| {
                    while matching > 0 && piece[matching] != character {
                        matching = borders[matching - 1];
                    }
                    matching += usize::from(piece[matching] == character);
                    matching == piece.len()
                })
            }
        }
    }
}

impl Bits {
    fn places(&self, character: char) -> u64 {
        let places = match self.ascii.get(character as usize) {
            Some(places) => *places,
            None => self
                .others
                .iter()
                .filter(|(other, _)| *other == character)
                .fold(0, |places, (_, bit)| places | bit),
        };
        places | self.any
    }
}

/// For each length of a beginning of the piece, from 1: the longest shorter beginning that it ends with.
fn borders(piece: &[char]) -> Vec<usize> {
    let mut borders = vec![0; piece.len()];
    let mut border = 0;
    for place in 1..piece.len() {
        while border > 0 && piece[border] != piece[place] {
            border = borders[border - 1];
        }
        border += usize::from(piece[border] == piece[place]);
        borders[place] = border;
    }
    borders
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::filter::{Expression, Filter, Test};

    fn like(pattern: &str) -> Option<Like> {
        like_as(pattern, Case::Folded)
    }

    fn like_as(pattern: &str, case: Case) -> Option<Like> {
        let filter: Filter = format!("a LIKE '{pattern}'").parse().unwrap();
        let Expression::Condition(condition) = filter.root() else {
            panic!("{pattern} is one condition");
        };
        let Test::Like(pattern) = &condition.test else {
            panic!("{pattern} is a pattern");
        };
        Like::new(&pattern.parts, case)
    }

    /// The plain meaning of a pattern, in exponential time.
    fn is_like(parts: &[PatternPart], text: &[char]) -> bool {
        let Some((part, parts)) = parts.split_first() else {
            return text.is_empty();
        };
        match part {
            PatternPart::AnyRun => (0..=text.len()).any(|at| is_like(parts, &text[at..])),
            PatternPart::AnyOne => !text.is_empty() && is_like(parts, &text[1..]),
            PatternPart::Text(wanted) => {
                let wanted: Vec<char> = wanted.to_lowercase().chars().collect();
                text.starts_with(&wanted) && is_like(parts, &text[wanted.len()..])
            }
        }
    }

    #[test]
    fn runs_are_any_text_and_underscores_one_character() {
        for (pattern, matching, others) in [
            ("", vec![""], vec!["a"]),
            ("%", vec!["", "a", "ab"], vec![]),
            ("_", vec!["a", "ü", "%"], vec!["", "ab"]),
            ("a%", vec!["a", "A", "abc"], vec!["", "ba"]),
            ("%a", vec!["a", "bA"], vec!["", "ab"]),
            ("a%b", vec!["ab", "axb", "aBb"], vec!["a", "b", "abx"]),
            ("ab%ba", vec!["abba", "abxba"], vec!["aba", "ab"]),
            ("%b_d%", vec!["bcd", "abbcdd", "bbbxd"], vec!["bd", "bcc"]),
            ("%ab%ab%", vec!["abab", "xabxabx"], vec!["ab", "aab"]),
            (r"100\%", vec!["100%"], vec!["1000", "100"]),
            (r"a\_b", vec!["a_b"], vec!["axb"]),
            ("ÄB%", vec!["äbc", "Äb"], vec!["abc"]),
        ] {
            let like = like(pattern).unwrap();
            for text in matching {
                assert!(like.matches(text), "{text:?} LIKE {pattern:?}");
            }
            for text in others {
                assert!(!like.matches(text), "{text:?} LIKE {pattern:?}");
            }
        }
    }

    #[test]
    fn case_matters_where_the_field_says_so() {
        let like = like_as("aB%", Case::Matters).unwrap();
        assert!(like.matches("aBc"));
        assert!(!like.matches("abc"));
        assert_eq!(Case::Matters.compare("a", "A"), Ordering::Greater);
        assert_eq!(Case::Folded.compare("A", "a"), Ordering::Equal);
    }

    #[test]
    fn a_long_piece_is_found_too_and_refused_only_with_underscores_in_its_middle() {
        let long = "ab".repeat(40) + "c";
        let text = "ab".repeat(100) + "c and more";
        assert!(like(&format!("%{long}%")).unwrap().matches(&text));
        assert!(!like(&format!("%{long}x%")).unwrap().matches(&text));
        assert!(like(&format!("{long}_%")).is_some());
        assert!(like(&format!("%_{long}")).is_some());
        assert!(like(&format!("%{long}_%")).is_none());
    }

    /// Would take hours if the work were that of trying each place.
    #[test]
    fn a_pattern_made_to_be_slow_is_not() {
        let text = "a".repeat(1 << 20);
        for pattern in [
            format!("%{}b%", "a".repeat(100_000)),
            "%a".repeat(40_000) + "b%",
            format!("%{}b%", "_".repeat(60)),
        ] {
            assert!(!like(&pattern).unwrap().matches(&text));
        }
    }

    proptest! {
        #[test]
        fn patterns_mean_what_they_plainly_mean(
            pattern in "[abÄ%_]{0,8}",
            text in "[abBäÄ]{0,10}",
        ) {
            let filter: Filter = format!("a LIKE '{pattern}'").parse().unwrap();
            let Expression::Condition(condition) = filter.root() else { unreachable!() };
            let Test::Like(pattern) = &condition.test else { unreachable!() };
            let like = Like::new(&pattern.parts, Case::Folded).unwrap();
            let lower: Vec<char> = text.to_lowercase().chars().collect();
            prop_assert_eq!(like.matches(&text), is_like(&pattern.parts, &lower));
        }

        #[test]
        fn text_is_compared_by_its_folded_characters(left in "[aBzÄäé€]{0,6}", right in "[aBzÄäé€]{0,6}") {
            let folded = Case::Folded.fold_text(&right);
            let plainly = left.to_lowercase().chars().cmp(right.to_lowercase().chars());
            prop_assert_eq!(Case::Folded.compare(&left, &folded), plainly);
        }
    }
}
