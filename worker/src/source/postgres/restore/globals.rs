//! Roles and tablespaces, made or changed by SQL from what the catalogue said of them.

use lakehold_proto::fault::Result;
use lakehold_proto::ids::Kind;
use lakehold_proto::restore::{Meant, Step};
use serde_json::Value;

use super::super::kinds::ROLE;
use super::super::names::{identifier, literal};
use super::super::session::Session;
use super::{Bringing, Done, database};

/// What a role may do, by the column that says so.
const MAY: [(&str, &str); 7] = [
    ("rolsuper", "superuser"),
    ("rolinherit", "inherit"),
    ("rolcreaterole", "createrole"),
    ("rolcreatedb", "createdb"),
    ("rolcanlogin", "login"),
    ("rolreplication", "replication"),
    ("rolbypassrls", "bypassrls"),
];

/// Makes a role, or makes it what it was. Its password stays what it is.
///
/// # Errors
/// What the server says.
pub(super) async fn role(work: &Bringing, step: &Step) -> Done {
    let document = work.document(step).await?;
    let mut session = Session::to_change(&work.programs, None).await?;
    let missing: Vec<_> = step.pointers.iter().filter(|pointer| pointer.meant == Meant::Nothing).collect();
    let comes = |role: &str| !missing.iter().any(|pointer| pointer.text == role);
    if !exists(&mut session, "pg_roles", "rolname", &step.name).await? {
        session.run(&format!("create role {}", identifier(&step.name))).await?;
    }
    for statement in statements(&step.name, &document, comes) {
        session.run(&statement).await?;
    }
    Ok((Some(step.name.clone()), None))
}

/// What makes a role that exists what the document says.
fn statements(name: &str, document: &Value, comes: impl Fn(&str) -> bool) -> Vec<String> {
    let role = identifier(name);
    let mut options = String::new();
    for (column, option) in MAY {
        match document[column].as_bool() {
            Some(true) => options += &format!(" {option}"),
            Some(false) => options += &format!(" no{option}"),
            None => {}
        }
    }
    if let Some(limit) = document["rolconnlimit"].as_i64() {
        options += &format!(" connection limit {limit}");
    }
    let until = document["rolvaliduntil"].as_str().unwrap_or("infinity");
    let mut statements = vec![format!("alter role {role}{options} valid until {}", literal(until))];
    for member in document["member_of"].as_array().into_iter().flatten() {
        let Some(of) = member["role"].as_str().filter(|of| comes(of)) else { continue };
        let more = if member["admin_option"] == true { " with admin option" } else { "" };
        statements.push(format!("grant {} to {role}{more}", identifier(of)));
    }
    // Those within one database come with it.
    statements.extend(database::settings(&document["rolconfig"], &format!("alter role {role}")));
    let comment = document["comment"].as_str().map_or_else(|| "null".to_owned(), literal);
    statements.push(format!("comment on role {role} is {comment}"));
    statements
}

/// Makes a tablespace, or makes it what it was, but for its place.
///
/// # Errors
/// What the server says, such as that the folder is not there.
pub(super) async fn tablespace(work: &Bringing, step: &Step) -> Done {
    let document = work.document(step).await?;
    let (mut session, name) = (Session::to_change(&work.programs, None).await?, identifier(&step.name));
    if !exists(&mut session, "pg_tablespace", "spcname", &step.name).await? {
        let place = literal(document["location"].as_str().unwrap_or_default());
        session.run(&format!("create tablespace {name} location {place}")).await?;
    }
    if let Some(owner) = document["owner"].as_str().filter(|_| !work.restoring.crossing.no_owner) {
        session.run(&format!("alter tablespace {name} owner to {}", identifier(owner))).await?;
    }
    let options: Vec<_> =
        document["spcoptions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !options.is_empty() {
        session.run(&format!("alter tablespace {name} set ({})", options.join(", "))).await?;
    }
    let comment = document["comment"].as_str().map_or_else(|| "null".to_owned(), literal);
    session.run(&format!("comment on tablespace {name} is {comment}")).await?;
    Ok((Some(step.name.clone()), None))
}

/// Takes one away. The server refuses while anything leans on it.
///
/// # Errors
/// What the server says.
pub(super) async fn take_away(work: &Bringing, kind: &Kind, step: &Step) -> Done {
    let what = if kind.as_str() == ROLE { "role" } else { "tablespace" };
    let mut session = Session::to_change(&work.programs, None).await?;
    session.run(&format!("drop {what} if exists {}", identifier(&step.name))).await?;
    Ok((Some(step.key.clone()), None))
}

async fn exists(session: &mut Session, table: &str, column: &str, name: &str) -> Result<bool> {
    let query = format!("select {column}::text as name from {table} where {column} = {}", literal(name));
    Ok(!session.rows::<Value>(&query).await?.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_role_becomes_what_it_was() {
        let document = json!({"rolsuper": false, "rolcanlogin": true, "rolconnlimit": 5, "rolvaliduntil": null,
            "member_of": [{"role": "readers", "admin_option": true}, {"role": "gone"}], "comment": "it's",
            "rolconfig": ["search_path=a, \"B\"", "work_mem=4MB"]});
        assert_eq!(
            statements("App", &document, |role| role != "gone"),
            [
                "alter role \"App\" nosuperuser login connection limit 5 valid until 'infinity'",
                "grant \"readers\" to \"App\" with admin option",
                "alter role \"App\" set \"search_path\" to a, \"B\"",
                "alter role \"App\" set \"work_mem\" to '4MB'",
                "comment on role \"App\" is 'it''s'",
            ]
        );
    }
}
