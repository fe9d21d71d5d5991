//! Reads the file: strict, and with the place of what is wrong.

use std::path::Path;

use serde_saphyr::DuplicateKeyPolicy;

use super::Config;
use crate::fault::{Class, Fault, Result};

/// A key that lies within this much of a known one (1 is equal) is taken for a slip of the fingers.
const NEAR: f64 = 0.7;

/// Keys of the design that a later Lakehold will know: no slip, so nothing is suggested.
const NOT_YET: &[&str] = &["recipients", "retention"];

/// Reads any document as strictly as the configuration: unknown keys are errors with a suggestion and a place.
///
/// # Errors
/// As [`parse`].
pub fn parse_strictly<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| fault_of(path, error.without_snippet()))
}

/// Reads a configuration. `path` is only what errors call it.
///
/// # Errors
/// `Config`, with file, line and column: `config.unknown-key` (with the nearest key), `config.duplicate-key`,
/// `config.missing-key`, `config.version`, `config.value` and `config.syntax`.
pub fn parse(path: &Path, text: &str) -> Result<Config> {
    let config: Config = parse_strictly(path, text)?;
    if config.version == 1 {
        return Ok(config);
    }
    let detail = format!("version {} is not one that this program reads", config.version);
    Err(Fault::new(Class::Config, "config.version", format!("read {}", path.display()), detail)
        .hint("write `version: 1`, or upgrade lakehold if a newer one wrote this file"))
}

fn fault_of(path: &Path, error: &serde_saphyr::Error) -> Fault {
    use serde_saphyr::Error;
    let place = match error.location() {
        Some(at) if at.line() > 0 => format!("{}:{}:{}", path.display(), at.line(), at.column()),
        _ => path.display().to_string(),
    };
    let fault = |code, detail: String| Fault::new(Class::Config, code, format!("read {place}"), detail);
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let fault = fault("config.unknown-key", format!("unknown key `{field}`"));
            if NOT_YET.contains(&field.as_str()) {
                return fault.hint(format!("`{field}` is not in this build yet: take it out"));
            }
            match nearest(field, expected) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint(format!("known here: {}", expected.join(", "))),
            }
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            let fault = fault("config.value", format!("`{variant}` is none of {}", expected.join(", ")));
            match nearest(variant, expected) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault,
            }
        }
        Error::SerdeMissingField { field: "version", .. } => {
            fault("config.version", "the file does not say its `version`".into())
                .hint("begin it with `version: 1`")
        }
        Error::SerdeMissingField { field, .. } => {
            fault("config.missing-key", format!("`{field}` is missing"))
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or("a key".into(), |key| format!("key `{key}`"));
            fault("config.duplicate-key", format!("{key} stands here twice")).hint("keep one of them")
        }
        Error::Eof { .. } => {
            fault("config.version", "the file is empty".into()).hint("begin it with `version: 1`")
        }
        other => fault(code_of(other), message(other)),
    }
}

fn code_of(error: &serde_saphyr::Error) -> &'static str {
    match error {
        serde_saphyr::Error::ExternalMessage { .. } => "config.syntax",
        _ => "config.value",
    }
}

/// The message without its place, which stands before it already.
fn message(error: &serde_saphyr::Error) -> String {
    let text = match error {
        serde_saphyr::Error::Message { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let first = text.lines().next().unwrap_or_default();
    let cut = [" at line ", " (line "].iter().filter_map(|mark| first.find(mark)).min();
    first[..cut.unwrap_or(first.len())].trim_start_matches("error: ").to_owned()
}

/// The known word that a person most probably meant.
pub(super) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let score = |known: &&str| strsim::jaro_winkler(&typed.to_lowercase(), known);
    let best = known.iter().copied().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(&best) >= NEAR).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Fault {
        let fault = parse(Path::new("x.yaml"), text).unwrap_err();
        assert_eq!(fault.exit_code(), 2, "{fault}");
        fault
    }

    #[test]
    fn unknown_keys_have_a_place_and_a_suggestion() {
        let fault =
            refused("version: 1\nenvironments:\n  prod:\n    databricks: {host: https://x, tokn: env:T}\n");
        assert_eq!(fault.code, "config.unknown-key");
        assert!(fault.context.contains("x.yaml:4:"), "{fault}");
        assert!(fault.detail.contains("`tokn`"), "{fault}");
        assert_eq!(fault.hint.as_deref(), Some("did you mean `token`?"));
        let fault = refused("version: 1\nenviroments: {}\n");
        assert!(fault.context.contains("x.yaml:2:1"), "{fault}");
        assert_eq!(fault.hint.as_deref(), Some("did you mean `environments`?"));
        let fault = refused("version: 1\nzzz: 1\n");
        assert!(fault.hint.unwrap().starts_with("known here: version, store"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, code, line) in [
            ("version: 1\nversion: 1\n", "config.duplicate-key", ":2:"),
            ("version: 1\nenvironments:\n  a: {}\n  a: {}\n", "config.duplicate-key", ":4:"),
            ("version: one\n", "config.value", ":1:"),
            ("version: 1\nenvironments:\n  Prod: {}\n", "config.value", ":3:"),
            ("version: 1\nenvironments:\n  p: {rpo: soon}\n", "config.value", ":3:"),
            ("version: 1\nenvironments:\n  p: {limits: {share: much}}\n", "config.value", ":3:"),
            ("version: 1\nenvironments:\n  p: {protection: typed}\n", "config.value", ":3:"),
            ("version: 1\nstore: \"x\n", "config.syntax", "x.yaml:"),
            ("version: 2\n", "config.version", "x.yaml"),
            ("store: x\n", "config.version", "x.yaml"),
            ("", "config.version", "x.yaml"),
        ] {
            let fault = refused(text);
            assert_eq!(fault.code, code, "{text:?}: {fault}");
            assert!(fault.context.contains(line), "{text:?}: {fault}");
        }
    }

    #[test]
    fn a_secret_in_plain_text_is_refused_and_not_repeated() {
        let fault =
            refused("version: 1\nenvironments:\n  p:\n    databricks: {host: https://x, token: dapi12345}\n");
        assert!(!fault.to_string().contains("dapi"), "{fault}");
        assert!(fault.to_string().contains("env:NAME or file:PATH"), "{fault}");
    }

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        let config = parse(
            Path::new("x.yaml"),
            "version: 1\nenvironments:\n  p: {rpo: 1d 12h, rto: 90m, databricks: {host: https://x}}\n",
        )
        .unwrap();
        let p = config.environments.values().next().unwrap();
        assert_eq!(p.rpo.unwrap().0.as_secs(), 36 * 3600);
        assert_eq!(p.rto.unwrap().0.as_secs(), 90 * 60);
    }
}
