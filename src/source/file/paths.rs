//! Paths and patterns: `data/*.jsonl`.
use std::path::Path;

use super::file_source::io_error;
use crate::source::SourceError;

/// The files that `path` names: itself, or what its last part matches, in order of name.
///
/// Paths without a pattern are returned whether they exist or not: opening tells. With `must_exist` a pattern
/// that matches nothing is an error.
pub(super) fn expand(path: &str, must_exist: bool) -> Result<Vec<String>, SourceError> {
    let (folder, pattern) = path.rsplit_once('/').map_or(("", path), |(folder, last)| (folder, last));
    if !pattern.contains(['*', '?']) {
        let is_there = must_exist || Path::new(path).exists();
        return Ok(if is_there { vec![path.to_string()] } else { Vec::new() });
    }
    let listed = match folder {
        "" if path.starts_with('/') => "/",
        "" => ".",
        folder => folder,
    };
    let entries =
        std::fs::read_dir(listed).map_err(|source| io_error("listing", Path::new(listed), source))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io_error("listing", Path::new(listed), source))?;
        // A name that is not UTF-8 cannot be a partition's name.
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Like a shell, `*` does not match hidden files, which is where half-written ones hide.
        let is_hidden = name.starts_with('.') && !pattern.starts_with('.');
        if !is_hidden && matches(pattern, &name) && entry.path().is_file() {
            found.push(match path.strip_suffix(pattern) {
                Some(prefix) => format!("{prefix}{name}"),
                None => name,
            });
        }
    }
    found.sort_unstable();
    if found.is_empty() && must_exist {
        return Err(SourceError::Fatal {
            problem: format!("no file matches {path:?}"),
            remedy: "correct source.file.path, or put a file there".to_string(),
        });
    }
    Ok(found)
}

/// Does `name` match a pattern of literal text, `*` and `?`?
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // Where the last star was, and how much of the name it has taken: only that one needs to be tried again.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(&c) if c == '?' || c == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => match &mut star {
                None => return false,
                Some((star_at, taken)) => {
                    *taken += 1;
                    at = *star_at + 1;
                    in_name = *taken;
                }
            },
        }
    }
    pattern[at..].iter().all(|&c| c == '*')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_a_shell() {
        for (pattern, name, expected) in [
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "a.json", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
            ("?.x", "é.x", true),
            ("?.x", ".x", false),
            ("*", "", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_come_in_order_of_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.jsonl", "a.jsonl", ".hidden.jsonl", "c.txt"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let prefix = folder.path().to_str().unwrap();
        let found = expand(&format!("{prefix}/*.jsonl"), true).unwrap();
        assert_eq!(found, [format!("{prefix}/a.jsonl"), format!("{prefix}/b.jsonl")]);
        assert!(
            expand(&format!("{prefix}/*.parquet"), true).unwrap_err().to_string().contains("no file matches")
        );
        assert!(expand(&format!("{prefix}/*.parquet"), false).unwrap().is_empty());
    }
}
