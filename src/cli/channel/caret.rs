//! A filter that is wrong, with a caret under the character where it is.

use super::super::output::note;

/// Shows on standard error where a filter is wrong, on a terminal and in a pipe alike.
pub(super) fn show(filter: &str, character: usize) {
    let [filter, caret] = lines(filter, character);
    note(&filter);
    note(&caret);
}

/// The character, from 1, that a sentence says a filter is wrong at.
pub(super) fn character(sentence: &str) -> Option<usize> {
    let (_, place) = sentence.split_once("the filter is wrong at character ")?;
    let digits = place.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|&character| character > 0)
}

/// The part of a filter that is around a character, on one line, and under it the caret.
fn lines(filter: &str, character: usize) -> [String; 2] {
    let count = filter.chars().count();
    // The place behind the last character is where something is missing.
    let before = (character.max(1) - 1).min(count);
    let from = before.saturating_sub(CHARS_BEFORE);
    let mut shown = String::from(INDENT);
    if from > 0 {
        shown.push('…');
    }
    let mut caret = " ".repeat(shown.chars().count() + before - from);
    caret.push('^');
    let part = filter.chars().skip(from).take(before - from + CHARS_BEHIND);
    // What ends a line would take the caret out of its place.
    shown.extend(part.map(|c| if c.is_control() { ' ' } else { c }));
    if before + CHARS_BEHIND < count {
        shown.push('…');
    }
    [shown, caret]
}

const INDENT: &str = "  ";
/// What is shown of a long filter fits into a line of a terminal.
const CHARS_BEFORE: usize = 50;
const CHARS_BEHIND: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_character() {
        for (filter, character, caret) in [
            ("Amount__c > 'x'", 13, "              ^"),
            ("Amount__c >", 12, "             ^"),
            ("?", 1, "  ^"),
            ("Größe__c ? 1", 10, "           ^"),
            ("", 1, "  ^"),
            // More than it has: a sentence is not trusted.
            ("A = 1", 99, "       ^"),
        ] {
            assert_eq!(
                lines(filter, character),
                [format!("  {filter}"), caret.to_owned()]
            );
        }
    }

    #[test]
    fn of_a_long_filter_the_part_around_it_is_shown_on_one_line() {
        let filter = format!("{}\n?{}", "é".repeat(200), "ü".repeat(200));
        let [shown, caret] = lines(&filter, 202);
        assert_eq!(shown, format!("  …{} ?{}…", "é".repeat(49), "ü".repeat(23)));
        let place = caret.chars().count() - 1;
        assert_eq!(shown.chars().nth(place), Some('?'));
    }

    #[test]
    fn the_character_is_found_in_what_a_gateway_says() {
        let sentence = "/event/A__chn: /event/B__e cannot be a member: the filter is wrong at \
                        character 13: the field is a number (code) rpcId: 7";
        assert_eq!(character(sentence), Some(13));
        for other in [
            "no such channel",
            "the filter is wrong at character x",
            "the filter is wrong at character 0: found",
            "the filter is wrong at character 99999999999999999999",
        ] {
            assert_eq!(character(other), None, "{other}");
        }
    }
}
