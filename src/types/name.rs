//! Which names collections and pipelines may have: one rule for every door.

/// Longest name in bytes: it must do as a file name.
pub const NAME_BYTES_MAX: usize = 255;

/// 1–255 of `A-Z a-z 0-9 _ . -`, not beginning with a full stop; else says why not, to be read after the name.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty".to_string());
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {NAME_BYTES_MAX} are allowed", name.len()));
    }
    if name.starts_with('.') {
        return Err("it begins with a full stop".to_string());
    }
    match name.chars().find(|char| !(char.is_ascii_alphanumeric() || "_.-".contains(*char))) {
        Some(char) => Err(format!("it contains {char:?}; letters, digits, '_', '.' and '-' are allowed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_as_file_names() {
        for good in ["a", "products.v1", "A_b-9", &"x".repeat(255)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "größe", "a\0", &"x".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
