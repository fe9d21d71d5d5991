//! Column types: what is written in DDL, and the three ways in which a table tells it.

use serde_json::{Map, Value, json};
use sqlparser::tokenizer::Token;

use super::cursor::{Cursor, Sql, SqlError};

/// A type, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    /// Canonical name in SQL, in `type_json`, and `type_name`.
    Plain(&'static str, &'static str, &'static str),
    Decimal(u32, u32),
    Sized(&'static str, u32),
    Array(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Struct(Vec<Field>),
}

/// One field of a struct.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    name: String,
    kind: Type,
    nullable: bool,
    comment: Option<String>,
}

/// Spellings in SQL, the canonical one, and the names in `type_json` and `type_name`.
const PLAIN: [(&str, &str, &str, &str); 20] = [
    ("BIGINT", "bigint", "long", "LONG"),
    ("LONG", "bigint", "long", "LONG"),
    ("INT", "int", "integer", "INT"),
    ("INTEGER", "int", "integer", "INT"),
    ("SMALLINT", "smallint", "short", "SHORT"),
    ("SHORT", "smallint", "short", "SHORT"),
    ("TINYINT", "tinyint", "byte", "BYTE"),
    ("BYTE", "tinyint", "byte", "BYTE"),
    ("BOOLEAN", "boolean", "boolean", "BOOLEAN"),
    ("DOUBLE", "double", "double", "DOUBLE"),
    ("FLOAT", "float", "float", "FLOAT"),
    ("REAL", "float", "float", "FLOAT"),
    ("STRING", "string", "string", "STRING"),
    ("BINARY", "binary", "binary", "BINARY"),
    ("DATE", "date", "date", "DATE"),
    ("TIMESTAMP", "timestamp", "timestamp", "TIMESTAMP"),
    ("TIMESTAMP_LTZ", "timestamp", "timestamp", "TIMESTAMP"),
    ("TIMESTAMP_NTZ", "timestamp_ntz", "timestamp_ntz", "TIMESTAMP_NTZ"),
    ("VARIANT", "variant", "variant", "VARIANT"),
    ("VOID", "void", "void", "NULL"),
];

impl Type {
    /// As written in DDL, canonically.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Plain(text, ..) => (*text).to_owned(),
            Self::Decimal(p, s) => format!("decimal({p},{s})"),
            Self::Sized(name, n) => format!("{name}({n})"),
            Self::Array(of) => format!("array<{}>", of.text()),
            Self::Map(k, v) => format!("map<{},{}>", k.text(), v.text()),
            Self::Struct(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|f| {
                        let name = if f.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                            f.name.clone()
                        } else {
                            format!("`{}`", f.name.replace('`', "``"))
                        };
                        let null = if f.nullable { "" } else { " not null" };
                        format!("{name}:{}{null}", f.kind.text())
                    })
                    .collect();
                format!("struct<{}>", fields.join(","))
            }
        }
    }

    /// The `type_name` of a column.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Plain(_, _, name) => name,
            Self::Decimal(..) => "DECIMAL",
            Self::Sized("char", _) => "CHAR",
            Self::Sized(..) => "STRING",
            Self::Array(_) => "ARRAY",
            Self::Map(..) => "MAP",
            Self::Struct(_) => "STRUCT",
        }
    }

    /// The type as it stands inside `type_json`.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Plain(_, json, _) => json!(json),
            Self::Decimal(..) => json!(self.text()),
            // Spark keeps the length in the metadata.
            Self::Sized(..) => json!("string"),
            Self::Array(of) => json!({"type": "array", "elementType": of.json(), "containsNull": true}),
            Self::Map(k, v) => {
                json!({"type": "map", "keyType": k.json(), "valueType": v.json(), "valueContainsNull": true})
            }
            Self::Struct(fields) => {
                let fields: Vec<Value> = fields
                    .iter()
                    .map(|f| {
                        let metadata = f.comment.as_ref().map_or_else(|| json!({}), |c| json!({"comment": c}));
                        json!({"name": f.name, "type": f.kind.json(), "nullable": f.nullable, "metadata": metadata})
                    })
                    .collect();
                json!({"type": "struct", "fields": fields})
            }
        }
    }

    /// The column as a table shows it.
    pub(crate) fn column(
        &self,
        name: &str,
        position: usize,
        mut metadata: Map<String, Value>,
    ) -> Map<String, Value> {
        if let Self::Sized(..) = self {
            metadata.insert("__CHAR_VARCHAR_TYPE_STRING".to_owned(), json!(self.text()));
        }
        let json = json!({"name": name, "type": self.json(), "nullable": true, "metadata": metadata});
        let (precision, scale) = match self {
            Self::Decimal(p, s) => (*p, *s),
            _ => (0, 0),
        };
        let column = json!({
            "name": name, "type_text": self.text(), "type_json": json.to_string(), "type_name": self.name(),
            "type_precision": precision, "type_scale": scale, "position": position, "nullable": true,
        });
        column.as_object().cloned().unwrap_or_default()
    }
}

/// Reads a type.
pub(crate) fn parse(c: &mut Cursor<'_>) -> Sql<Type> {
    let word = match c.peek() {
        Token::Word(w) if w.quote_style.is_none() => w.value.to_uppercase(),
        _ => return Err(c.unexpected()),
    };
    let _ = c.next();
    let kind = match word.as_str() {
        "ARRAY" => Type::Array(Box::new(angled(c, parse)?)),
        "MAP" => angled(c, |c| {
            let key = parse(c)?;
            c.expect_token(&Token::Comma)?;
            Ok(Type::Map(Box::new(key), Box::new(parse(c)?)))
        })?,
        "STRUCT" => Type::Struct(angled(c, fields)?),
        "DECIMAL" | "DEC" | "NUMERIC" => {
            let given = if *c.peek() == Token::LParen { c.list(number)? } else { Vec::new() };
            let (p, s) = (given.first().copied().unwrap_or(10), given.get(1).copied().unwrap_or(0));
            if p > 38 || s > p || given.len() > 2 {
                return Err(unsupported(&format!("{word}({p},{s})")));
            }
            Type::Decimal(p, s)
        }
        "CHAR" | "CHARACTER" | "VARCHAR" => {
            let n = c.list(number)?.first().copied().unwrap_or(1);
            Type::Sized(if word == "VARCHAR" { "varchar" } else { "char" }, n)
        }
        other => match PLAIN.iter().find(|p| p.0 == other) {
            Some((_, text, json, name)) => Type::Plain(text, json, name),
            None => return Err(unsupported(other)),
        },
    };
    if c.take("COLLATE") {
        let _ = c.ident()?;
    }
    Ok(kind)
}

fn unsupported(name: &str) -> SqlError {
    SqlError::new("UNSUPPORTED_DATATYPE", "0A000", format!("Unsupported data type \"{name}\"."))
}

fn number(c: &mut Cursor<'_>) -> Sql<u32> {
    match c.next() {
        Token::Number(n, _) => n.parse().map_err(|_| c.unexpected()),
        _ => Err(c.unexpected()),
    }
}

/// `< … >`; two closing brackets in a row are one token.
fn angled<T>(c: &mut Cursor<'_>, inside: impl FnOnce(&mut Cursor<'_>) -> Sql<T>) -> Sql<T> {
    c.expect_token(&Token::Lt)?;
    let value = inside(c)?;
    c.close_angle()?;
    Ok(value)
}

fn fields(c: &mut Cursor<'_>) -> Sql<Vec<Field>> {
    let mut fields = Vec::new();
    if matches!(c.peek(), Token::Gt | Token::ShiftRight) {
        return Ok(fields);
    }
    loop {
        let name = c.ident()?;
        let _ = c.take_token(&Token::Colon);
        let kind = parse(c)?;
        let nullable = !c.take("NOT NULL");
        let comment = if c.take("COMMENT") { Some(c.string()?) } else { None };
        fields.push(Field { name, kind, nullable, comment });
        if !c.take_token(&Token::Comma) {
            return Ok(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Sql<String> {
        let mut c = Cursor::new(text, "main", "default")?;
        let kind = parse(&mut c)?;
        c.end()?;
        Ok(kind.text())
    }

    #[test]
    fn types_become_canonical() {
        for (text, canonical) in [
            ("LONG", "bigint"),
            ("Decimal(10, 2)", "decimal(10,2)"),
            ("array<map<string, array<int>>>", "array<map<string,array<int>>>"),
            (
                "STRUCT<a: INT NOT NULL, `b c`: STRUCT<d: DATE COMMENT 'x'>>",
                "struct<a:int not null,`b c`:struct<d:date>>",
            ),
            ("VARCHAR(20)", "varchar(20)"),
            ("TIMESTAMP_NTZ", "timestamp_ntz"),
        ] {
            assert_eq!(round(text).expect(text), canonical);
            assert_eq!(round(canonical).expect(canonical), canonical);
        }
        assert!(round("INTT").is_err());
        assert!(round("DECIMAL(40,2)").is_err());
        assert!(round("ARRAY<INT").is_err());
    }
}
