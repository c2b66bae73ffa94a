//! Owns reading Rust text far enough to tell which paths it names: comments, strings and test
//! modules fall away, `use` trees are spread out, `super` and `self` are resolved. It knows no
//! rule about them.

use std::path::Path;

/// One source file of the library.
pub struct Source {
    /// Its module path inside the crate; empty for `lib.rs`.
    pub module: Vec<String>,
    tokens: Vec<Token>,
    test_modules: Vec<Vec<String>>,
}

/// A path named by a source.
pub struct Reference {
    /// The parts; without the leading `crate` when [`inside_crate`](Self::inside_crate).
    pub path: Vec<String>,
    /// Whether it starts at the crate: `crate::`, `self::` or `super::`.
    pub inside_crate: bool,
    /// Whether it was written with `self::`, as a room does that re-exports what its children define.
    pub of_own_children: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Ident(String),
    PathSep,
    Open,
    Close,
    Other(char),
}

impl Source {
    /// Reads a file below `src`; `None` for binaries.
    pub fn of_file(inside_src: &Path, text: &str) -> Option<Self> {
        let mut module: Vec<String> = inside_src
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if module[0] == "bin" {
            return None;
        }
        if module == ["lib"] {
            module.clear();
        }
        let mut tokens = tokenize(&without_comments_and_strings(text));
        let names = cut_test_modules(&mut tokens);
        let test_modules = names
            .into_iter()
            .map(|name| {
                let mut path = module.clone();
                path.push(name);
                path
            })
            .collect();
        Some(Self {
            module,
            tokens,
            test_modules,
        })
    }

    /// Modules declared as `#[cfg(test)] mod name;`: their files are tests.
    pub fn test_modules(&self) -> Vec<Vec<String>> {
        self.test_modules.clone()
    }
}

/// Every path of two or more parts that the source names, and every leaf of its `use` trees.
pub fn references(source: &Source) -> Vec<Reference> {
    let tokens = &source.tokens;
    let mut found = Vec::new();
    let mut module = source.module.clone();
    // For every open brace: whether it opened an inline module.
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Open => {
                braces.push(false);
                at += 1;
            }
            Token::Close => {
                if braces.pop() == Some(true) {
                    module.pop();
                }
                at += 1;
            }
            Token::Ident(word) if word == "mod" => match (tokens.get(at + 1), tokens.get(at + 2)) {
                (Some(Token::Ident(name)), Some(Token::Open)) => {
                    module.push(name.clone());
                    braces.push(true);
                    at += 3;
                }
                _ => at += 1,
            },
            Token::Ident(_) => {
                let mut paths = Vec::new();
                at = spread(tokens, at, &mut Vec::new(), &mut paths);
                found.extend(
                    paths
                        .iter()
                        .filter(|path| path.len() > 1)
                        .map(|path| resolve(path, &module)),
                );
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads one path, `use` groups spread out, and returns the index after it.
fn spread(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    into: &mut Vec<Vec<String>>,
) -> usize {
    let depth = prefix.len();
    loop {
        match tokens.get(at) {
            Some(Token::Ident(part)) => {
                prefix.push(part.clone());
                at += 1;
            }
            Some(Token::Other('*')) => {
                prefix.push("*".into());
                at += 1;
            }
            Some(Token::Open) if !prefix.is_empty() => {
                at += 1;
                while at < tokens.len() && tokens[at] != Token::Close {
                    at = match &tokens[at] {
                        Token::Ident(_) | Token::Other('*') => spread(tokens, at, prefix, into),
                        _ => at + 1,
                    };
                }
                prefix.truncate(depth);
                return at + 1;
            }
            _ => break,
        }
        if tokens.get(at) != Some(&Token::PathSep) {
            break;
        }
        at += 1;
    }
    if prefix.len() > depth {
        into.push(prefix.clone());
    }
    prefix.truncate(depth);
    // `as name`: the new name is no reference.
    if tokens.get(at) == Some(&Token::Ident("as".into())) && depth > 0 {
        at += 2;
    }
    at
}

fn resolve(path: &[String], module: &[String]) -> Reference {
    let mut here: Vec<String> = module.to_vec();
    let mut rest = path;
    let start = path[0].as_str();
    match start {
        "crate" => {
            here.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                here.pop();
                rest = &rest[1..];
            }
        }
        _ => {
            return Reference {
                path: path.to_vec(),
                inside_crate: false,
                of_own_children: false,
            };
        }
    }
    here.extend(rest.iter().filter(|part| *part != "self").cloned());
    Reference {
        path: here,
        inside_crate: true,
        of_own_children: start == "self",
    }
}

fn tokenize(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(next) = chars.next_if(|next| next.is_alphanumeric() || *next == '_') {
                word.push(next);
            }
            tokens.push(Token::Ident(word));
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push(Token::PathSep);
        } else if c == '{' {
            tokens.push(Token::Open);
        } else if c == '}' {
            tokens.push(Token::Close);
        } else if !c.is_whitespace() {
            tokens.push(Token::Other(c));
        }
    }
    tokens
}

/// Removes what stands under `#[cfg(test)] mod`; returns the names declared with a semicolon.
fn cut_test_modules(tokens: &mut Vec<Token>) -> Vec<String> {
    let cfg_test = [
        Token::Other('#'),
        Token::Other('['),
        Token::Ident("cfg".into()),
        Token::Other('('),
        Token::Ident("test".into()),
        Token::Other(')'),
        Token::Other(']'),
    ];
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&cfg_test) {
            at += 1;
            continue;
        }
        // Attributes and visibility may stand before `mod`; anything else ends the search.
        let rest = &tokens[at..];
        let end_of_head = rest
            .iter()
            .position(|token| matches!(token, Token::Open | Token::Other(';')))
            .unwrap_or(rest.len());
        let named = rest[..end_of_head].windows(2).find_map(|pair| match pair {
            [Token::Ident(word), Token::Ident(name)] if word == "mod" => Some(name.clone()),
            _ => None,
        });
        let Some(name) = named else {
            at += 1;
            continue;
        };
        let mut end = at + end_of_head;
        if tokens.get(end) == Some(&Token::Open) {
            let mut depth = 0;
            while let Some(token) = tokens.get(end) {
                match token {
                    Token::Open => depth += 1,
                    Token::Close => depth -= 1,
                    _ => {}
                }
                end += 1;
                if depth == 0 {
                    break;
                }
            }
        } else {
            names.push(name);
            end += 1;
        }
        tokens.drain(at..end.min(tokens.len()));
    }
    names
}

/// Blanks comments, string literals and character literals; lifetimes stay.
fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let after_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        let skipped = match rest {
            ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
            ['/', '*', ..] => block_comment(rest),
            ['b', 'r', '"' | '#', ..] | ['r', '"' | '#', ..] if !after_word => raw_string(rest),
            ['"', ..] => quoted(rest, '"'),
            ['\'', '\\', ..] => quoted(rest, '\''),
            ['\'', _, '\'', ..] => 3,
            _ => 0,
        };
        if skipped == 0 {
            out.push(chars[at]);
            at += 1;
        } else {
            out.push(' ');
            at += skipped;
        }
    }
    out
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

/// Length of a raw string, or 0 for a raw identifier such as `r#type`.
fn raw_string(rest: &[char]) -> usize {
    let start = rest.iter().position(|c| *c == 'r').map_or(0, |r| r + 1);
    let hashes = rest[start..].iter().take_while(|c| **c == '#').count();
    let open = start + hashes;
    if rest.get(open) != Some(&'"') {
        return 0;
    }
    let mut at = open + 1;
    while at < rest.len() {
        let closes = rest[at] == '"' && rest[at + 1..].iter().take(hashes).all(|c| *c == '#');
        if closes && rest.len() - at > hashes {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    at
}
