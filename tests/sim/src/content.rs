//! Bodies of notebooks and files: made from a seed when they are read, kept only once written.
//!
//! Source and Jupyter form convert into each other cell by cell; outputs exist only in the latter,
//! which is why a notebook can be too large as JUPYTER and small as SOURCE (reference section 2.5).

use bytes::Bytes;
use serde_json::{Value, json};

use crate::population::names;
use crate::rng::Rng;
use crate::tree::Language;

/// Where the bytes of an entry come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    /// Directories and entries of other services have none.
    None,
    /// So many bytes from a seed; for notebooks the size is approximate.
    Seeded { seed: u64, size: u32 },
    /// A notebook of a few lines with more than 10 MB of outputs.
    HeavyOutputs { seed: u64 },
    /// A file so large that it is only ever streamed.
    Large { seed: u64, size: u64 },
    /// Written by a client: bytes of a file, source of a notebook without its first line.
    Written(Bytes),
    /// A notebook imported as JUPYTER, with its outputs.
    Jupyter(Bytes),
}

const SEPARATOR: &str = "COMMAND ----------";

/// The first line that makes a source file a notebook.
pub(crate) fn marker(language: Language) -> String {
    format!("{} Databricks notebook source", language.comment())
}

/// Removes the first line if it is the marker of some language, and says which.
pub(crate) fn strip_marker(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let first = first.trim_end_matches('\r');
    [Language::Python, Language::Sql, Language::Scala].into_iter().any(|l| first == marker(l)).then_some(rest)
}

/// A file's bytes, whole. Large ones are streamed with [`chunks`] instead.
pub(crate) fn file(body: &Body) -> Bytes {
    match body {
        Body::None => Bytes::new(),
        Body::Written(b) | Body::Jupyter(b) => b.clone(),
        Body::Seeded { seed, size } => Bytes::from(filler(*seed, *size as usize)),
        Body::HeavyOutputs { .. } | Body::Large { .. } => {
            chunks(body).flat_map(|c| c.to_vec()).collect::<Vec<u8>>().into()
        }
    }
}

/// Size of a file.
pub(crate) fn size(body: &Body) -> u64 {
    match body {
        Body::None | Body::HeavyOutputs { .. } => 0,
        Body::Written(b) | Body::Jupyter(b) => b.len() as u64,
        Body::Seeded { size, .. } => u64::from(*size),
        Body::Large { size, .. } => *size,
    }
}

/// A file's bytes piece by piece.
pub(crate) fn chunks(body: &Body) -> Box<dyn Iterator<Item = Bytes> + Send> {
    const PIECE: u64 = 1 << 16;
    match body {
        Body::Large { seed, size } => {
            let (seed, size) = (*seed, *size);
            Box::new((0..size.div_ceil(PIECE)).map(move |i| {
                let n = usize::try_from(PIECE.min(size - i * PIECE)).unwrap_or(0);
                let mut rng = Rng::of(seed, "piece", i);
                let mut piece: Vec<u8> = Vec::with_capacity(n + 8);
                while piece.len() < n {
                    piece.extend_from_slice(&rng.next().to_le_bytes());
                }
                piece.truncate(n);
                Bytes::from(piece)
            }))
        }
        other => Box::new(std::iter::once(file(other))),
    }
}

/// Text of exactly so many bytes: lines as of a data file.
fn filler(seed: u64, size: usize) -> Vec<u8> {
    let mut rng = Rng::of(seed, "file", 0);
    let mut out = String::with_capacity(size + 80);
    while out.len() < size {
        out.push_str(&format!(
            "{},{},{},{:.2}\n",
            rng.pick(names::TEAMS),
            rng.pick(names::THINGS),
            rng.below(100_000),
            rng.below(1_000_000) as f64 / 100.0
        ));
    }
    out.truncate(size);
    out.into_bytes()
}

/// Source of a notebook without its first line.
pub(crate) fn source(body: &Body, language: Language) -> String {
    match body {
        Body::Written(b) => String::from_utf8_lossy(b).into_owned(),
        Body::Jupyter(b) => from_jupyter(b, language).unwrap_or_default(),
        Body::Seeded { seed, size } => cells(*seed, *size as usize, language),
        Body::HeavyOutputs { seed } => cells(*seed, 400, language),
        Body::Large { size, .. } => cells(1, usize::try_from(*size).unwrap_or(0), language),
        Body::None => String::new(),
    }
}

/// Code of about so many bytes, in cells.
fn cells(seed: u64, size: usize, language: Language) -> String {
    let mut rng = Rng::of(seed, "notebook", 0);
    let comment = language.comment();
    let mut out = String::with_capacity(size + 200);
    out.push_str(&format!("{comment} {} for {}\n", rng.pick(names::THINGS), rng.pick(names::TEAMS)));
    let mut line = 0;
    while out.len() < size {
        line += 1;
        if line % 12 == 0 {
            out.push_str(&format!("\n{comment} {SEPARATOR}\n\n"));
        }
        let (thing, stage, n) = (rng.pick(names::THINGS), rng.pick(names::STAGES), rng.below(100_000));
        out.push_str(&match language {
            Language::Python => {
                format!("df_{n} = spark.table(\"main.{stage}.{thing}\").where(\"id > {n}\")\n")
            }
            Language::Sql => format!("SELECT {n} AS n, count(*) FROM main.{stage}.{thing};\n"),
            Language::Scala => format!("val df{n} = spark.table(\"main.{stage}.{thing}\").limit({n})\n"),
            Language::R => format!("df_{n} <- sql(\"SELECT * FROM main.{stage}.{thing} LIMIT {n}\")\n"),
        });
    }
    out
}

/// A notebook as SOURCE export gives it: the marker, then the cells; outputs are lost (section 3.3).
pub(crate) fn as_source(body: &Body, language: Language) -> Bytes {
    Bytes::from(format!("{}\n{}", marker(language), source(body, language)))
}

/// A notebook as JUPYTER export gives it.
pub(crate) fn as_jupyter(body: &Body, language: Language, name: &str, outputs: bool) -> Bytes {
    if let Body::Jupyter(bytes) = body {
        if outputs {
            return bytes.clone();
        }
        let mut notebook: Value = serde_json::from_slice(bytes).unwrap_or_default();
        for cell in notebook["cells"].as_array_mut().into_iter().flatten() {
            if cell["cell_type"] == "code" {
                cell["outputs"] = json!([]);
            }
        }
        return Bytes::from(notebook.to_string());
    }
    let text = source(body, language);
    let separator = format!("\n{} {SEPARATOR}\n", language.comment());
    let mut cells: Vec<Value> = text
        .split(separator.as_str())
        .map(|cell| {
            let lines: Vec<&str> = cell.trim_matches('\n').split_inclusive('\n').collect();
            json!({"cell_type": "code", "execution_count": 0, "metadata": {}, "outputs": [], "source": lines})
        })
        .collect();
    if outputs
        && matches!(body, Body::HeavyOutputs { .. })
        && let Some(cell) = cells.first_mut()
    {
        cell["outputs"] =
            json!([{"output_type": "stream", "name": "stdout", "text": ["x".repeat(11 << 20)]}]);
    }
    Bytes::from(json!({
        "cells": cells,
        "metadata": {
            "application/vnd.databricks.v1+notebook": {"language": language.api().to_lowercase(), "notebookName": name, "dashboards": [], "widgets": {}, "notebookMetadata": {"pythonIndentUnit": 4}},
            "language_info": {"name": language.api().to_lowercase()},
        },
        "nbformat": 4, "nbformat_minor": 0,
    }).to_string())
}

/// Language of a Jupyter notebook; Python if it does not say.
pub(crate) fn jupyter_language(bytes: &[u8]) -> Option<Language> {
    let notebook: Value = serde_json::from_slice(bytes).ok()?;
    notebook["cells"].as_array()?;
    let meta = &notebook["metadata"];
    let name = meta["application/vnd.databricks.v1+notebook"]["language"]
        .as_str()
        .or_else(|| meta["language_info"]["name"].as_str())
        .or_else(|| meta["kernelspec"]["language"].as_str());
    Some(name.and_then(|n| Language::parse(&n.to_uppercase())).unwrap_or(Language::Python))
}

/// Source of a Jupyter notebook; markdown becomes magic comments as the server does it.
fn from_jupyter(bytes: &[u8], language: Language) -> Option<String> {
    let notebook: Value = serde_json::from_slice(bytes).ok()?;
    let comment = language.comment();
    let cells: Vec<String> = notebook["cells"]
        .as_array()?
        .iter()
        .map(|cell| {
            let text = match &cell["source"] {
                Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect::<String>(),
                other => other.as_str().unwrap_or_default().to_owned(),
            };
            if cell["cell_type"] != "markdown" {
                return text;
            }
            let lines: Vec<String> = text.lines().map(|l| format!("{comment} MAGIC {l}")).collect();
            format!("{comment} MAGIC %md\n{}", lines.join("\n"))
        })
        .collect();
    let mut text = cells.join(&format!("\n\n{comment} {SEPARATOR}\n\n"));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let body = Body::Seeded { seed: 7, size: 5000 };
        assert_eq!(file(&body), file(&body));
        assert_eq!(file(&body).len(), 5000);
        assert_ne!(file(&body), file(&Body::Seeded { seed: 8, size: 5000 }));
    }

    #[test]
    fn a_large_file_is_as_long_as_it_says() {
        let body = Body::Large { seed: 3, size: 200_001 };
        assert_eq!(chunks(&body).map(|c| c.len()).sum::<usize>(), 200_001);
        assert_eq!(file(&body).len(), 200_001);
    }

    #[test]
    fn outputs_make_jupyter_too_large_but_not_source() {
        let body = Body::HeavyOutputs { seed: 1 };
        assert!(as_jupyter(&body, Language::Python, "n", true).len() > 10 << 20);
        assert!(as_jupyter(&body, Language::Python, "n", false).len() < 1 << 20);
        assert!(as_source(&body, Language::Python).starts_with(b"# Databricks notebook source\n"));
    }

    #[test]
    fn cells_survive_jupyter_and_back() {
        let body = Body::Seeded { seed: 5, size: 3000 };
        let jupyter = as_jupyter(&body, Language::Sql, "n", false);
        assert_eq!(jupyter_language(&jupyter), Some(Language::Sql));
        let back = source(&Body::Jupyter(jupyter), Language::Sql);
        assert_eq!(back.matches("SELECT").count(), source(&body, Language::Sql).matches("SELECT").count());
    }
}
