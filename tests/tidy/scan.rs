//! Rust source as this test needs it: the paths, method calls and macro calls outside tests.

use std::{
    fs,
    iter::Peekable,
    path::{Path, PathBuf},
    str::CharIndices,
};

/// A name and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// What one file names, without its test code.
#[derive(Debug, Default)]
pub(crate) struct Source {
    pub(crate) file: String,
    /// Paths of two names or more. Those of this crate begin with `crate`, however they are written.
    pub(crate) paths: Vec<Name>,
    /// Methods called, as in `.name(`.
    pub(crate) methods: Vec<Name>,
    /// Macros called, as in `name!`.
    pub(crate) macros: Vec<Name>,
    /// Files that are tests as a whole: `#[cfg(test)] mod name;`, by the name of the module.
    test_files: Vec<String>,
}

/// Every file below `src`, but for those that are tests as a whole.
pub(crate) fn crate_sources(src: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    list(src, &mut files);
    files.sort();
    let parent = src.parent().expect("src lies in the package");
    let mut sources: Vec<Source> = files
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("a source file can be read");
            let file = path.strip_prefix(parent).expect("listed below src");
            Source::parse(&file.to_string_lossy(), &text)
        })
        .collect();
    let tests: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            let dir = source
                .module()
                .iter()
                .fold("src".to_owned(), |dir, name| dir + "/" + name);
            source
                .test_files
                .iter()
                .map(move |name| format!("{dir}/{name}"))
        })
        .collect();
    sources.retain(|source| {
        !tests.iter().any(|test| {
            source.file == format!("{test}.rs") || source.file.starts_with(&format!("{test}/"))
        })
    });
    sources
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a source folder can be listed") {
        let path = entry.expect("a source folder can be listed").path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    /// Reads the text of `file`, a path such as `src/broker/mod.rs`.
    pub(crate) fn parse(file: &str, text: &str) -> Self {
        let mut source = Self {
            file: file.to_owned(),
            ..Self::default()
        };
        let tokens = without_tests(tokens(text), &mut source.test_files);
        source.read(&tokens);
        source
    }

    /// The module of the crate's root that the file belongs to; `None` for the root itself.
    pub(crate) fn root_module(&self) -> Option<&str> {
        let inner = self.file.strip_prefix("src/")?.trim_end_matches(".rs");
        let name = inner.split('/').next()?;
        (name != "lib").then_some(name)
    }

    /// The file's module as names from the root.
    fn module(&self) -> Vec<String> {
        let inner = self.file.trim_start_matches("src/").trim_end_matches(".rs");
        let mut names: Vec<_> = inner.split('/').map(str::to_owned).collect();
        if names
            .last()
            .is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str()))
        {
            names.pop();
        }
        names
    }

    fn read(&mut self, tokens: &[Name]) {
        let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
        // Inline modules, each with the depth of braces at which it ends.
        let mut module = self.module();
        let mut inline = Vec::new();
        let mut depth = 0usize;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        module.pop();
                    }
                }
                "mod" if is(at + 2, "{") => {
                    module.push(tokens[at + 1].text.clone());
                    inline.push(depth);
                }
                "use" => {
                    at = self.read_use(tokens, at + 1, &[], &module);
                    continue;
                }
                "." if is(at + 2, "(") && is_name(&tokens[at + 1].text) => {
                    self.methods.push(tokens[at + 1].clone());
                }
                text if is_name(text) && is(at + 1, "!") && !is(at + 2, "=") => {
                    self.macros.push(token.clone());
                }
                text if is_name(text) && is(at + 1, "::") => {
                    let start = at;
                    let mut names = vec![text];
                    while is(at + 1, "::") && tokens.get(at + 2).is_some_and(|t| is_name(&t.text)) {
                        at += 2;
                        names.push(&tokens[at].text);
                    }
                    self.add_path(&names, &module, tokens[start].line);
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads one branch of a `use` tree, from `at` on, and returns where it ends.
    fn read_use(
        &mut self,
        tokens: &[Name],
        mut at: usize,
        prefix: &[&str],
        module: &[String],
    ) -> usize {
        let mut names = prefix.to_vec();
        let mut line = tokens.get(at).map_or(0, |token| token.line);
        while let Some(token) = tokens.get(at) {
            match token.text.as_str() {
                "{" => {
                    at += 1;
                    while tokens.get(at).is_some_and(|token| token.text != "}") {
                        at = self.read_use(tokens, at, &names, module);
                        if tokens.get(at).is_some_and(|token| token.text == ",") {
                            at += 1;
                        }
                    }
                    return at + 1;
                }
                "as" => at += 1,
                "," | ";" | "}" => break,
                text if is_name(text) => {
                    // `{self, …}` names the prefix itself.
                    if text != "self" || names.is_empty() {
                        names.push(text);
                    }
                    line = token.line;
                }
                _ => {}
            }
            at += 1;
        }
        self.add_path(&names, module, line);
        at
    }

    fn add_path(&mut self, names: &[&str], module: &[String], line: usize) {
        let mut names = names;
        let mut base: Vec<&str> = Vec::new();
        if let Some(&("self" | "super")) = names.first() {
            base = module.iter().map(String::as_str).collect();
            while let Some((&first @ ("self" | "super"), rest)) = names.split_first() {
                if first == "super" {
                    base.pop();
                }
                names = rest;
            }
            base.insert(0, "crate");
        }
        base.extend(names);
        let text = base.join("::");
        self.paths.push(Name { text, line });
    }
}

/// Drops each item under a `cfg` that names `test`, and notes modules that are files of their own.
fn without_tests(tokens: Vec<Name>, test_files: &mut Vec<String>) -> Vec<Name> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let is_attribute = tokens[at].text == "#" && text_at(&tokens, at + 1) == "[";
        if !is_attribute {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = end_of_group(&tokens, at + 1);
        let attribute = &tokens[at..end];
        let is_test = text_at(attribute, 2) == "cfg"
            && attribute.iter().any(|token| token.text == "test")
            && !attribute.iter().any(|token| token.text == "not");
        at = end;
        if !is_test {
            continue;
        }
        while text_at(&tokens, at) == "#" {
            at = end_of_group(&tokens, at + 1);
        }
        // The item ends at its `;` or its block, whichever comes first.
        let start = at;
        while at < tokens.len() && !["{", ";"].contains(&tokens[at].text.as_str()) {
            at = if ["(", "["].contains(&tokens[at].text.as_str()) {
                end_of_group(&tokens, at)
            } else {
                at + 1
            };
        }
        let is_use = tokens[start..at].iter().any(|token| token.text == "use");
        if text_at(&tokens, at) == "{" {
            at = end_of_group(&tokens, at);
            at += usize::from(is_use && text_at(&tokens, at) == ";");
        } else {
            if let Some(module) = tokens[start..at]
                .iter()
                .position(|token| token.text == "mod")
            {
                test_files.push(text_at(&tokens, start + module + 1).to_owned());
            }
            at += 1;
        }
    }
    kept
}

fn text_at(tokens: &[Name], at: usize) -> &str {
    tokens.get(at).map_or("", |token| &token.text)
}

/// Where the bracket at `at` is closed, and one further.
fn end_of_group(tokens: &[Name], at: usize) -> usize {
    let mut depth = 0usize;
    for (end, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return end + 1;
        }
    }
    tokens.len()
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single signs; comments and literals are dropped, a literal leaves a `""`.
fn tokens(text: &str) -> Vec<Name> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut seen = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        line += text[seen..start].matches('\n').count();
        seen = start;
        let rest = &text[start..];
        let token = if rest.starts_with("//") {
            skip_to(&mut chars, start + rest.find('\n').unwrap_or(rest.len()));
            continue;
        } else if rest.starts_with("/*") {
            skip_to(&mut chars, start + comment_len(rest));
            continue;
        } else if let Some(len) = literal_len(rest) {
            skip_to(&mut chars, start + len);
            "\"\""
        } else if c.is_alphabetic() || c == '_' {
            let len = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            skip_to(&mut chars, start + len);
            &rest[..len]
        } else if rest.starts_with("::") {
            chars.next();
            "::"
        } else if c.is_whitespace() {
            continue;
        } else {
            &rest[..c.len_utf8()]
        };
        tokens.push(Name {
            text: token.to_owned(),
            line,
        });
    }
    tokens
}

fn skip_to(chars: &mut Peekable<CharIndices<'_>>, end: usize) {
    while chars.next_if(|&(at, _)| at < end).is_some() {}
}

/// Length of the comment that `rest` begins with; comments nest.
fn comment_len(rest: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < rest.len() {
        let bytes = &rest.as_bytes()[at..];
        if bytes.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of the text, character or lifetime that `rest` begins with, if it does.
fn literal_len(rest: &str) -> Option<usize> {
    let after_prefix = rest.trim_start_matches(['b', 'c', 'r']);
    let prefix = &rest[..rest.len() - after_prefix.len()];
    if prefix.len() > 2 {
        return None;
    }
    if prefix.ends_with('r') {
        let hashes = after_prefix.len() - after_prefix.trim_start_matches('#').len();
        let body = after_prefix[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let len = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + len);
    }
    let quote = after_prefix
        .chars()
        .next()
        .filter(|quote| ['"', '\''].contains(quote))?;
    let body = &after_prefix[1..];
    if quote == '\'' && !body.starts_with('\\') {
        // A lifetime has no closing quote after one character.
        let first = body.chars().next()?;
        if !body[first.len_utf8()..].starts_with('\'') {
            let is_more = |c: char| !c.is_alphanumeric() && c != '_';
            return Some(prefix.len() + 1 + body.find(is_more).unwrap_or(body.len()));
        }
    }
    let mut is_escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return Some(prefix.len() + 1 + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}
