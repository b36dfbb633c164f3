//! Secrets as references: what the file holds is where to find them, never they.
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a secret is: `${env:NAME}` or `file:PATH`. Resolved when the pipeline starts, not when its file is
/// checked.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// An environment variable of the server.
    Env(String),
    /// A file; white space at its end is not part of the secret.
    File(PathBuf),
}

/// A secret's text. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text is not a reference. It is not repeated: it may be the secret.
    #[error("a secret is given as ${{env:NAME}} or file:PATH, not as text")]
    Literal,
    /// The variable's name is empty or has characters that names don't have.
    #[error("${{env:…}} names no environment variable: letters, digits and _ are allowed")]
    BadName,
    /// The variable is not set.
    #[error("environment variable {name} is not set; set it for the server, then start the pipeline again")]
    NotSet {
        /// Its name.
        name: String,
    },
    /// The file cannot be read.
    #[error("secret file {path:?} cannot be read")]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Secret {
    /// Does `text` have the form of a reference?
    pub fn is_reference(text: &str) -> bool {
        text.starts_with("${env:") || text.starts_with("file:")
    }

    /// The secret itself.
    pub fn resolve(&self) -> Result<SecretText, SecretError> {
        match self {
            Self::Env(name) => {
                std::env::var(name).map(SecretText).map_err(|_| SecretError::NotSet { name: name.clone() })
            }
            Self::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(SecretText(text.trim_end().to_string())),
                Err(source) => Err(SecretError::File { path: path.clone(), source }),
            },
        }
    }
}

impl SecretText {
    /// The text, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
/// The reference, for writing a specification back; it holds no secret.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "${{env:{name}}}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}
impl FromStr for Secret {
    type Err = SecretError;
    fn from_str(text: &str) -> Result<Self, SecretError> {
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            return Ok(Self::File(path.into()));
        }
        let name = text
            .strip_prefix("${env:")
            .and_then(|rest| rest.strip_suffix('}'))
            .ok_or(SecretError::Literal)?;
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_name { Ok(Self::Env(name.to_string())) } else { Err(SecretError::BadName) }
    }
}
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Where a secret is: ${env:NAME} or file:PATH. Literal secrets are refused.",
            "pattern": r"^(\$\{env:[A-Za-z0-9_]+\}|file:.+)$",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_references_and_never_print() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        let secret: Secret = format!("file:{}", path.display()).parse().unwrap();
        assert_eq!(secret.resolve().unwrap().expose(), "hunter2");
        assert_eq!(format!("{secret:?} {:?}", secret.resolve().unwrap()), "*** ***");
        let missing: Secret = "${env:PROXIMADB_TEST_SURELY_NOT_SET}".parse().unwrap();
        assert!(
            missing.resolve().unwrap_err().to_string().contains("PROXIMADB_TEST_SURELY_NOT_SET is not set")
        );
        let literal = "hunter2".parse::<Secret>().unwrap_err().to_string();
        assert!(!literal.contains("hunter2"), "{literal}");
        assert!("${env:}".parse::<Secret>().is_err());
    }
}
