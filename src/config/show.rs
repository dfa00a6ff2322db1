//! Settings in the form of a configuration file, for people who ask what is in force.

use std::fmt::Write;

use super::{keys::KEYS, load::Effective};

impl Effective {
    /// Every setting with its value and the layer that set it. It is a configuration file: read
    /// back, it gives the same settings.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for (key, layer) in KEYS.iter().zip(&self.layers) {
            if key.section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = key.section;
                push(&mut text, format_args!("{gap}[{section}]\n"));
            }
            push(&mut text, format_args!("# {}\n", key.doc));
            let name = key.name;
            match key.show(&self.settings) {
                Some(value) => push(&mut text, format_args!("{name} = {value}  # {layer}\n")),
                None => push(&mut text, format_args!("# {name} is not set  # {layer}\n")),
            }
        }
        text
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a string takes everything");
}
