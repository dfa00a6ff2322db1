//! What a type is called in a sentence: `null or array of string`.

use super::program::{NullBranch, Op, Program, Step};

/// The words for the type of `step`, cut where they get long. Branches come in their order.
pub(super) fn type_text(program: &Program, step: Step) -> String {
    let mut words = Words {
        program,
        text: String::new(),
    };
    words.step(step);
    if words.text.len() > TEXT_BYTES_MAX {
        let end = words.text.floor_char_boundary(TEXT_BYTES_MAX);
        words.text.truncate(end);
        words.text.push('…');
    }
    words.text
}

/// More than the words for any type that people write, in bytes. A union may have thousands of
/// branches.
const TEXT_BYTES_MAX: usize = 200;

struct Words<'p> {
    program: &'p Program,
    text: String,
}

impl Words<'_> {
    fn step(&mut self, step: Step) {
        match step.null {
            NullBranch::None => self.op(step.op),
            NullBranch::First => {
                self.text.push_str("null or ");
                self.op(step.op);
            }
            NullBranch::Second => {
                self.op(step.op);
                self.text.push_str(" or null");
            }
        }
    }

    fn op(&mut self, op: Op) {
        if self.text.len() > TEXT_BYTES_MAX {
            return;
        }
        let program = self.program;
        match op {
            Op::Array(item) => {
                self.text.push_str("array of ");
                self.inner(program.steps[item as usize]);
            }
            Op::Map(value) => {
                self.text.push_str("map of ");
                self.inner(program.steps[value as usize]);
            }
            Op::Union(union) => {
                let branches = &program.unions[union as usize].branches;
                // No more of them are looked at than are shown.
                for (index, branch) in branches.iter().take(TEXT_BYTES_MAX).enumerate() {
                    if index > 0 {
                        self.text.push_str(" or ");
                    }
                    self.op(branch.op);
                }
            }
            Op::Record(_) | Op::Enum(_) => {
                self.text.push_str(program.type_word(op));
                self.name(program.branch_name(op));
            }
            Op::Fixed(index) => {
                self.text.push_str("fixed");
                self.name(program.branch_name(op));
                let size = program.fixed[index as usize].size;
                self.text.push_str(&format!(" of {size} bytes"));
            }
            op => self.text.push_str(program.type_word(op)),
        }
    }

    fn name(&mut self, name: &str) {
        self.text.push(' ');
        self.text.push_str(&super::outline::shown(name));
    }

    /// The type of what an array or map has.
    fn inner(&mut self, step: Step) {
        let is_union = step.null != NullBranch::None || matches!(step.op, Op::Union(_));
        if is_union {
            self.text.push('(');
            self.step(step);
            self.text.push(')');
        } else {
            self.step(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::schema;

    fn text(ty: &str) -> String {
        let schema = schema(&format!(r#"{{"name":"f","type":{ty}}}"#));
        let program = schema.program();
        type_text(program, program.steps[program.root().steps.start])
    }

    #[test]
    fn types_have_the_words_of_avro() {
        for (ty, wanted) in [
            (r#""long""#, "long"),
            (r#"["null","double"]"#, "null or double"),
            (r#"["double","null"]"#, "double or null"),
            (r#"["null","int","string"]"#, "null or int or string"),
            (
                r#"{"type":"array","items":["null",{"type":"map","values":"int"}]}"#,
                "array of (null or map of int)",
            ),
            (
                r#"["null",{"type":"record","name":"L","fields":[]}]"#,
                "null or record n.L",
            ),
            (r#"{"type":"enum","name":"E","symbols":["A"]}"#, "enum n.E"),
            (
                r#"{"type":"fixed","name":"F","size":16}"#,
                "fixed n.F of 16 bytes",
            ),
        ] {
            assert_eq!(text(ty), wanted);
        }
    }

    #[test]
    fn words_for_a_huge_type_are_cut() {
        let records: Vec<_> = (0..10_000)
            .map(|index| format!(r#"{{"type":"record","name":"R{index}","fields":[]}}"#))
            .collect();
        let text = text(&format!("[{}]", records.join(",")));
        assert!(text.starts_with("record n.R0 or record n.R1 or "), "{text}");
        assert!(text.ends_with('…') && text.len() < 210, "{text}");
    }
}
