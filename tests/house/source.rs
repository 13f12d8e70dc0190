//! As much of Rust's grammar as the rules need: the tokens of a source without comments, literals and tests, and the paths that
//! are in them.

/// A name, a number, `::`, or a single sign.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A path from elsewhere: one name of a `use`, or one written out in the code.
#[derive(Debug, Clone)]
pub struct Import {
    pub path: Vec<String>,
    /// What the path is called in this file; empty for one that is written out.
    pub alias: String,
    pub is_public: bool,
    pub line: usize,
}

/// What the rules look at in one file.
pub struct Source {
    pub tokens: Vec<Token>,
    pub imports: Vec<Import>,
    /// Modules that it declares for the program; their files stand below it.
    pub modules: Vec<String>,
    /// Modules that it declares for tests only.
    pub test_modules: Vec<String>,
}

impl Source {
    pub fn parse(text: &str) -> Self {
        let all = tokens(text);
        let tokens = without_tests(&all);
        let (modules, every) = (modules(&tokens), modules(&all));
        let test_modules = every.into_iter().filter(|name| !modules.contains(name)).collect();
        Self { imports: imports(&tokens), tokens, modules, test_modules }
    }

    /// How often a name stands in the code outside `use`.
    pub fn uses_of(&self, name: &str) -> usize {
        outside_uses(&self.tokens).iter().filter(|token| token.text == name).count()
    }

    /// The names behind one of these keywords, where an item is declared.
    pub fn declared(&self) -> Vec<&str> {
        let is_keyword = |text: &str| ["struct", "enum", "union", "trait", "type"].contains(&text);
        self.tokens.windows(2).filter(|pair| is_keyword(&pair[0].text)).map(|pair| pair[1].text.as_str()).collect()
    }

    /// The functions that return nothing, with their lines.
    pub fn functions_without_result(&self) -> Vec<(&str, usize)> {
        let starts = (0..self.tokens.len()).filter(|at| self.tokens[*at].text == "fn");
        starts.filter_map(|at| self.function_without_result(at)).collect()
    }

    fn function_without_result(&self, at: usize) -> Option<(&str, usize)> {
        let name = self.tokens.get(at + 1).filter(|token| is_name(&token.text))?;
        let parameters = self.behind_generics(at + 2);
        let mut depth = 0;
        let end = (parameters..self.tokens.len()).find(|at| {
            depth += match self.tokens[*at].text.as_str() {
                "(" => 1,
                ")" => -1,
                _ => 0,
            };
            depth == 0
        })?;
        let has_result = self.tokens.get(end + 1).is_some_and(|token| token.text == "-");
        (!has_result).then_some((name.text.as_str(), name.line))
    }

    /// Where the parameters of a function begin whose generics, if it has any, begin here.
    fn behind_generics(&self, start: usize) -> usize {
        let mut depth = 0;
        (start..self.tokens.len())
            .find(|at| {
                let is_arrow = self.tokens[at - 1].text == "-";
                depth += match self.tokens[*at].text.as_str() {
                    "<" => 1,
                    ">" if !is_arrow => -1,
                    _ => 0,
                };
                depth == 0 && self.tokens[*at].text == "("
            })
            .unwrap_or(self.tokens.len())
    }

    /// The types of the blocks `impl Type`, with their lines.
    pub fn inherent_impls(&self) -> Vec<(&str, usize)> {
        let starts = (0..self.tokens.len()).filter(|at| self.is_item(*at, "impl"));
        starts.filter_map(|at| self.inherent_impl(at)).collect()
    }

    fn is_item(&self, at: usize, keyword: &str) -> bool {
        let before = at.checked_sub(1).map_or("}", |before| &self.tokens[before].text);
        self.tokens[at].text == keyword && ["{", "}", ";", "]", "unsafe"].contains(&before)
    }

    fn inherent_impl(&self, at: usize) -> Option<(&str, usize)> {
        let (mut depth, mut name) = (0, None);
        for (before, token) in self.tokens[at..].iter().zip(&self.tokens[at + 1..]) {
            match token.text.as_str() {
                "<" => depth += 1,
                ">" if before.text != "-" => depth -= 1,
                "for" if depth == 0 => return None,
                "{" | "where" => break,
                text if depth == 0 && is_name(text) => name = Some(text),
                _ => {}
            }
        }
        name.map(|name| (name, self.tokens[at].line))
    }
}

pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(source: &str) -> Vec<Token> {
    let (mut rest, mut line, mut found) = (source, 1, Vec::new());
    while !rest.is_empty() {
        let blank = blank_len(rest);
        let len = if blank > 0 { blank } else { token_len(rest) };
        if blank == 0 {
            found.push(Token { text: rest[..len].to_owned(), line });
        }
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    found
}

/// The length of what is no token at the beginning: white space, a comment, a text, a character.
fn blank_len(rest: &str) -> usize {
    let behind = |from: usize, end: &str| rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len());
    let raw = rest.trim_start_matches(['b', 'c']).strip_prefix('r').map(|raw| raw.trim_start_matches('#'));
    match rest {
        _ if rest.starts_with(char::is_whitespace) => rest.len() - rest.trim_start().len(),
        _ if rest.starts_with("//") => behind(0, "\n"),
        _ if rest.starts_with("/*") => behind(2, "*/"),
        _ if rest.starts_with(['"', '\'']) || rest.starts_with("b\"") || rest.starts_with("b'") => quoted_len(rest),
        _ if raw.is_some_and(|raw| raw.starts_with('"')) => {
            let start = rest.find('"').unwrap_or_default();
            behind(start + 1, &format!("\"{}", "#".repeat(rest[..start].matches('#').count())))
        }
        _ => 0,
    }
}

/// The length of a text or character; of a lifetime, that of its sign and name.
fn quoted_len(rest: &str) -> usize {
    let start = usize::from(rest.starts_with('b'));
    let (quote, inner) = rest[start..].split_at(1);
    let mut letters = inner.char_indices();
    let is_lifetime = quote == "'" && !inner.starts_with('\\') && inner.chars().nth(1) != Some('\'');
    if is_lifetime {
        return start + 1 + name_len(inner);
    }
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            _ if quote.starts_with(letter) => return start + 1 + at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn token_len(rest: &str) -> usize {
    match name_len(rest) {
        0 if rest.starts_with("::") => 2,
        0 => rest.chars().next().map_or(0, char::len_utf8),
        len => len,
    }
}

/// The length of the name or number at the beginning.
fn name_len(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

/// The tokens without the items that `#[cfg(test)]` keeps for tests.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if starts_with(&tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = item_end(tokens, at + 7);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn starts_with(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// The end of the item that begins there: of a `use`, its `;`, else that or its block's end.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let is_use = tokens[start..].iter().take_while(|token| token.text != ";").any(|token| token.text == "use");
    let (mut depth, mut at) = (0, start);
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        let ends = tokens[at].text == ";" || (tokens[at].text == "}" && !is_use);
        at += 1;
        if depth == 0 && ends {
            break;
        }
    }
    at
}

/// The modules that stand in files of their own.
fn modules(tokens: &[Token]) -> Vec<String> {
    let declared = tokens.windows(3).filter(|three| three[0].text == "mod" && three[2].text == ";");
    declared.map(|three| three[1].text.clone()).collect()
}

fn outside_uses(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "use" => at = item_end(tokens, at),
            _ => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    kept
}

fn imports(tokens: &[Token]) -> Vec<Import> {
    let mut found = Vec::new();
    for at in (0..tokens.len()).filter(|at| tokens[*at].text == "use") {
        let mut before = tokens[..at].iter().rev().take_while(|token| ![";", "{", "}"].contains(&token.text.as_str()));
        let is_public = before.any(|token| token.text == "pub");
        use_tree(tokens, at + 1, &[], is_public, &mut found);
    }
    found.extend(written_out(&outside_uses(tokens)));
    found
}

/// Takes in the names of a `use` from `at`; says where it ends.
fn use_tree(tokens: &[Token], mut at: usize, prefix: &[String], is_public: bool, found: &mut Vec<Import>) -> usize {
    let (mut path, mut alias, line) = (prefix.to_vec(), None, tokens[at].line);
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "," | "}" | ";" => break,
            "::" | "*" => {}
            "as" => {
                at += 1;
                alias = Some(tokens[at].text.clone());
            }
            "{" => {
                while tokens[at].text != "}" {
                    at = use_tree(tokens, at + 1, &path, is_public, found);
                }
                return at + 1;
            }
            name => path.push(name.to_owned()),
        }
        at += 1;
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    if path.len() > prefix.len() || tokens[at - 1].text == "self" || tokens[at - 1].text == "*" {
        let alias = alias.or_else(|| path.last().cloned()).unwrap_or_default();
        found.push(Import { path, alias, is_public, line });
    }
    at
}

fn written_out(tokens: &[Token]) -> Vec<Import> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let (line, mut path) = (tokens[at].line, vec![tokens[at].text.clone()]);
        let is_start = is_name(&path[0]) && at.checked_sub(1).is_none_or(|before| tokens[before].text != "::");
        at += 1;
        while is_start && at + 1 < tokens.len() && tokens[at].text == "::" && is_name(&tokens[at + 1].text) {
            path.push(tokens[at + 1].text.clone());
            at += 2;
        }
        if path.len() > 1 {
            found.push(Import { path, alias: String::new(), is_public: false, line });
        }
    }
    found
}
