//! Where in a JSON text a byte stands: `points[3].vector`. Read only when something is wrong, so parsing pays nothing.

/// The path of the value that ends at, or holds, the given line and column (1-based, as `serde_json` counts).
pub fn at(text: &[u8], line: usize, column: usize) -> String {
    let end = offset(text, line, column);
    let mut walk = Walk { path: Vec::new() };
    walk.run(&text[..end.min(text.len())]);
    walk.render()
}

fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let before: usize =
        text.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    before + column
}

enum Level {
    /// In an object, at this key; `None` before the first.
    Object { key: Option<String>, expects_key: bool },
    /// In a list, at this element.
    Array { index: usize },
}

struct Walk {
    path: Vec<Level>,
}

impl Walk {
    fn run(&mut self, text: &[u8]) {
        let mut position = 0;
        while let Some(byte) = text.get(position) {
            position += 1;
            match byte {
                b'{' => self.path.push(Level::Object { key: None, expects_key: true }),
                b'[' => self.path.push(Level::Array { index: 0 }),
                b'}' | b']' => {
                    self.path.pop();
                }
                b',' => match self.path.last_mut() {
                    Some(Level::Object { expects_key, .. }) => *expects_key = true,
                    Some(Level::Array { index }) => *index += 1,
                    None => {}
                },
                b'"' => {
                    let length = string_length(&text[position..]);
                    if let Some(Level::Object { key, expects_key: expects_key @ true }) = self.path.last_mut()
                    {
                        let raw = &text[position..position + length];
                        *key = Some(String::from_utf8_lossy(raw).into_owned());
                        *expects_key = false;
                    }
                    position += length + 1;
                }
                _ => {}
            }
        }
    }

    fn render(&self) -> String {
        let mut path = String::new();
        for level in &self.path {
            match level {
                Level::Object { key: Some(key), .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                }
                Level::Object { key: None, .. } => {}
                Level::Array { index } => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

/// Bytes before the closing quote.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (position, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return position,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::at;

    #[test]
    fn paths_of_places() {
        let text = br#"{"a": [1, {"b": "x,{[\"", "c": tru"#;
        assert_eq!(at(text, 1, 7), "a[0]");
        assert_eq!(at(text, 1, 20), "a[1].b");
        assert_eq!(at(text, 1, text.len()), "a[1].c");
        assert_eq!(at(b"{\"a\":\n{\"b\":\n3}}", 3, 1), "a.b");
        assert_eq!(at(b"{\"a\":\n{\"b\":\n3}}", 3, 2), "a");
        assert_eq!(at(b"", 1, 0), "");
        assert_eq!(at(b"\"\\", 1, 2), "");
    }
}
