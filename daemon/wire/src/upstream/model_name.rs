//! Finds the model in a request while it arrives: the value of `model` at the top level of a JSON object, wherever it stands and
//! however the bytes are cut. Nothing else is kept or checked.

/// The longest key or model name that is read, in bytes.
const LONGEST: usize = 1024;

/// What is known of the model so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sought {
    /// It may still come.
    #[default]
    Open,
    /// Its name.
    Found(String),
    /// The request names none.
    Absent,
}

/// Looks for the model.
#[derive(Clone, Debug, Default)]
pub struct ModelName {
    depth: u32,
    place: Place,
    /// The string under way at the top level, as it is written.
    text: Vec<u8>,
    in_string: bool,
    escaped: bool,
    /// The latest key at the top level is `model`.
    is_model: bool,
    found: Sought,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Key,
    Value,
}

impl ModelName {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Sought {
        let mut rest = bytes;
        while self.found == Sought::Open {
            // Most of a long request lies inside of strings further in.
            if self.in_string && self.depth > 1 && !self.escaped {
                let next = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
                rest = rest.get(next.unwrap_or(rest.len())..).unwrap_or_default();
            }
            let Some((&byte, behind)) = rest.split_first() else { break };
            self.take(byte);
            rest = behind;
        }
        self.found.clone()
    }

    fn take(&mut self, byte: u8) {
        if self.in_string {
            self.take_in_string(byte);
            return;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            // Only an object has keys.
            _ if self.depth == 0 && byte != b'{' => self.found = Sought::Absent,
            b'"' => {
                self.in_string = true;
                self.text.clear();
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth -= 1;
                if self.depth == 0 {
                    self.found = Sought::Absent;
                }
            }
            b':' if self.depth == 1 => self.place = Place::Value,
            b',' if self.depth == 1 => self.place = Place::Key,
            _ => {}
        }
    }

    fn take_in_string(&mut self, byte: u8) {
        if byte == b'"' && !self.escaped {
            self.in_string = false;
            if self.depth == 1 {
                self.end_string();
            }
            return;
        }
        self.escaped = byte == b'\\' && !self.escaped;
        if self.depth == 1 && self.text.len() < LONGEST {
            self.text.push(byte);
        }
    }

    fn end_string(&mut self) {
        match self.place {
            Place::Key => self.is_model = self.text == b"model",
            Place::Value if self.is_model => {
                let quoted = [b"\"", self.text.as_slice(), b"\""].concat();
                let name = serde_json::from_slice::<String>(&quoted).ok();
                let name = name.filter(|name| !name.is_empty());
                self.found = name.map_or(Sought::Absent, Sought::Found);
            }
            Place::Value => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Sought {
        ModelName::default().push(json.as_bytes())
    }

    #[test]
    fn only_the_top_levels_model_counts() {
        let json = r#" {"messages": [{"model": "no", "content": "\"model\": \"no\""}], "x": {"model": "no"},
            "metadata": "model", "model" : "a/\u0062\"" , "#;
        assert_eq!(found(json), Sought::Found("a/b\"".to_owned()));
    }

    #[test]
    fn what_names_no_model_says_so() {
        for json in
            ["{}", "[1]", "x", r#"{"model": null}"#, r#"{"model": ""}"#, r#"{"a": ["model"]}"#]
        {
            assert_eq!(found(json), Sought::Absent, "{json}");
        }
        assert_eq!(found(r#"{"messages": []"#), Sought::Open);
    }

    #[test]
    fn the_cuts_do_not_matter() {
        let json = r#"{"a\"": {"b": "}"}, "model": "m\\"}"#.as_bytes();
        for cut in 0..json.len() {
            let mut sought = ModelName::default();
            sought.push(&json[..cut]);
            assert_eq!(sought.push(&json[cut..]), Sought::Found("m\\".to_owned()));
        }
    }
}
