//! Writes JSON part by part: objects whose members are this program's own, lists of whatever there is.

/// A JSON object under construction. Member names are written as they are: they must need no escaping.
pub(super) struct Object {
    json: Vec<u8>,
    empty: bool,
}

impl Object {
    /// An object that continues `json`.
    pub(super) fn open(mut json: Vec<u8>) -> Self {
        json.push(b'{');
        Self { json, empty: true }
    }

    pub(super) fn close(mut self) -> Vec<u8> {
        self.json.push(b'}');
        self.json
    }

    fn name(&mut self, name: &'static str) {
        self.json.extend_from_slice(if self.empty { b"\"" } else { b",\"" });
        self.json.extend_from_slice(name.as_bytes());
        self.json.extend_from_slice(b"\":");
        self.empty = false;
    }

    /// A member whose value is what `write` appends.
    pub(super) fn member(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        write(&mut self.json);
    }

    pub(super) fn raw(&mut self, name: &'static str, json: &str) {
        self.name(name);
        self.json.extend_from_slice(json.as_bytes());
    }

    pub(super) fn optional_raw(&mut self, name: &'static str, json: Option<&str>) {
        if let Some(json) = json {
            self.raw(name, json);
        }
    }

    pub(super) fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        serde_json::to_writer(&mut self.json, text).expect("a text is JSON, and memory takes it");
    }

    pub(super) fn optional_text(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(super) fn number(&mut self, name: &'static str, number: impl serde::Serialize) {
        self.name(name);
        serde_json::to_writer(&mut self.json, &number).expect("an integer is JSON, and memory takes it");
    }

    pub(super) fn nested(&mut self, name: &'static str, members: impl FnOnce(&mut Self)) {
        self.name(name);
        let mut inner = Self::open(std::mem::take(&mut self.json));
        members(&mut inner);
        self.json = inner.close();
    }
}

/// Appends what `write` makes of each part, with commas between.
pub(super) fn push_parts<T>(
    json: &mut Vec<u8>,
    parts: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    for (index, part) in parts.enumerate() {
        if index > 0 {
            json.push(b',');
        }
        write(json, part);
    }
}
