//! A headless Chromium, driven by `look.mjs`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// One page in a browser of its own. Every look ends with [`Browser::close`].
pub struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    origin: String,
}

/// How the page is looked at.
#[derive(Clone, Copy)]
pub struct View {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

pub const DESK: View = View { width: 1280, height: 900, dark: false };
pub const DESK_AT_NIGHT: View = View { dark: true, ..DESK };
pub const PHONE: View = View { width: 360, height: 740, dark: false };

impl Browser {
    /// Opens a page.
    pub fn open(url: &str, view: View) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/look.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node, as tests/page/run wants it");
        let (commands, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let origin = url.split('/').take(3).collect::<Vec<_>>().join("/");
        let mut browser = Self { child, commands, answers, origin };
        let View { width, height, dark } = view;
        let status = browser.tell(json!({"verb": "open", "url": url, "width": width, "height": height, "dark": dark}));
        assert_eq!(status, 200, "{url}");
        browser
    }

    /// Opens a page and waits for its first data.
    pub fn open_live(url: &str, view: View) -> Self {
        let mut browser = Self::open(url, view);
        browser.wait("document.body.dataset.link === 'live'");
        browser
    }

    /// The value of an expression.
    pub fn see(&mut self, expression: &str) -> Value {
        self.tell(json!({"verb": "evaluate", "expression": expression}))
    }

    /// The visible text of an element.
    pub fn text(&mut self, selector: &str) -> String {
        let found = self.see(&format!("document.querySelector({}).innerText", Value::from(selector)));
        found.as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        self.tell(json!({"verb": "wait", "expression": expression}));
    }

    pub fn press(&mut self, key: &str) {
        self.tell(json!({"verb": "press", "key": key}));
    }

    /// Leaves a picture beside the browser's modules.
    pub fn shoot(&mut self, name: &str, full: bool) {
        self.tell(json!({"verb": "shoot", "name": name, "full": full}));
    }

    /// Fails if axe finds anything.
    pub fn is_accessible(&mut self, what: &str) {
        let found = self.tell(json!({"verb": "check"}));
        assert!(found["passes"].as_u64().unwrap() > 10, "axe has looked at little: {found}");
        assert_eq!(found["violations"], json!([]), "{what}");
    }

    /// All requests of the page so far.
    pub fn requests(&mut self) -> Vec<String> {
        let record = self.tell(json!({"verb": "record"}));
        serde_json::from_value(record["requests"].clone()).unwrap()
    }

    /// Ends the look. The page must have asked nobody but its own origin, and complained of nothing.
    pub fn close(self) {
        self.close_expecting(|_| false);
    }

    /// The same, where some of the browser's complaints are what the test is about.
    pub fn close_expecting(mut self, expected: impl Fn(&str) -> bool) {
        let record = self.tell(json!({"verb": "record"}));
        let requests = record["requests"].as_array().unwrap();
        assert!(!requests.is_empty(), "requests are not seen");
        for request in requests {
            let request = request.as_str().unwrap();
            let own = request.starts_with(&format!("{}/", self.origin)) || request.starts_with("data:,");
            assert!(own, "a request to another origin: {request}");
        }
        let messages = record["messages"].as_array().unwrap();
        let complaints: Vec<&Value> =
            messages.iter().filter(|message| !expected(message.as_str().unwrap_or_default())).collect();
        assert!(complaints.is_empty(), "the console says {complaints:?}");
    }

    fn tell(&mut self, command: Value) -> Value {
        let commands = self.commands.as_mut().expect("open until it is dropped");
        writeln!(commands, "{command}").expect("look.mjs has ended");
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("look.mjs has ended: {command}"));
        assert_eq!(answer["error"], Value::Null, "{command}");
        answer["ok"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input ends the browser.
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}
