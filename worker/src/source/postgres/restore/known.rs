//! What restore knows of PostgreSQL servers, as the planner asks for it.

use lakehold_proto::format::Role;
use lakehold_proto::ids::Kind;
use lakehold_proto::plan::Probe;
use lakehold_proto::restore::{Act, Crossing};
use serde_json::Value;

use super::super::kinds::{DATABASE, GLOBALS, LOOSE_DATA, ROLE, TABLE, TABLESPACE};
use super::super::names::{first, identifier, join, split};
use super::super::probe::FACT_CLUSTER;
use super::super::work::comparable;
use crate::source::blueprint::{Alone, Blueprint, By, Concern, Point, Renamer, Seen};

/// A long task that nobody hears of any more is taken for lost after minutes only, so what is small is none.
const LONG: u64 = 1 << 30;

/// See the module. Names are what items are known by: there are no ids that would mean something else elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Postgres;

/// What an item of this name is called in the target.
pub(super) fn called(kind: &str, name: &str, crossing: &Crossing) -> String {
    let mapping = &crossing.mapping;
    if let Some(renamed) = mapping.name(&Kind::named(kind), name) {
        // A database is called as it was typed; a table lies in its database and, unless another is named, its schema.
        return match kind {
            TABLE => {
                let (is, wanted) = (split(name), split(renamed));
                let schema = if wanted.len() > 1 { &wanted[0] } else { &is[1] };
                let database = called(DATABASE, &join(&[&is[0]]), crossing);
                join(&[&first(&database), schema, &wanted[wanted.len() - 1]])
            }
            _ => join(&[renamed]),
        };
    }
    match kind {
        TABLE | LOOSE_DATA => {
            let mut parts = split(name);
            let database = join(&[&parts[0]]);
            if let Some(renamed) = mapping.name(&Kind::of(DATABASE), &database) {
                parts[0] = renamed.to_owned();
            }
            join(&parts.iter().map(String::as_str).collect::<Vec<_>>())
        }
        _ => name.to_owned(),
    }
}

/// Roles that a document names, without those that every server has.
pub(super) fn roles(document: &Value) -> Vec<String> {
    let named = document.get("roles").and_then(Value::as_array);
    let members = document.get("member_of").and_then(Value::as_array);
    let named = named.into_iter().flatten().filter_map(Value::as_str);
    let members = members.into_iter().flatten().filter_map(|member| member.get("role")?.as_str());
    named.chain(members).filter(|role| !role.starts_with("pg_")).map(str::to_owned).collect()
}

fn point(kind: &'static str, by: By, text: String, principal: bool) -> Point {
    Point { to: vec![(Kind::of(kind), by)], text, firm: !principal, principal }
}

impl Blueprint for Postgres {
    fn place(&self) -> &'static str {
        FACT_CLUSTER
    }

    fn whole(&self, kind: &Kind, key: &str) -> Option<(Kind, String)> {
        matches!(kind.as_str(), DATABASE | TABLE | LOOSE_DATA)
            .then(|| (Kind::of(DATABASE), join(&[&first(key)])))
    }

    fn alone(&self, seen: &Seen<'_>, target: Option<&Seen<'_>>, crossing: &Crossing) -> Alone {
        if seen.kind.as_str() != TABLE {
            return Alone::Never(
                "it comes with its database alone: restore that under another name (--item database/NAME --as NAME), and take \
                 from it what is needed",
            );
        }
        let mut by_hand = Vec::new();
        if target.is_some() {
            by_hand.push(
                "the table that is there now is kept in a schema beside its own: drop it when nobody needs it any more".into(),
            );
        }
        if crossing.mapping.name(seen.kind, &seen.entry.name).is_some() {
            by_hand.push("a copy has its rows and keys; foreign keys, triggers, policies and grants stay with the original".into());
        }
        Alone::With { of_whole: Role::Content, by_hand }
    }

    /// Nobody brings the script of globals back.
    fn is_looked_at(&self, kind: &Kind) -> bool {
        !matches!(kind.as_str(), LOOSE_DATA | GLOBALS)
    }

    fn long_from(&self, kind: &Kind) -> Option<u64> {
        matches!(kind.as_str(), DATABASE | TABLE | LOOSE_DATA).then_some(LONG)
    }

    fn has_ids(&self) -> bool {
        false
    }

    fn has_held(&self) -> bool {
        false
    }

    fn layer(&self, kind: &Kind) -> Option<u8> {
        match kind.as_str() {
            ROLE => Some(0),
            TABLESPACE => Some(1),
            DATABASE => Some(2),
            TABLE | LOOSE_DATA => Some(3),
            _ => None,
        }
    }

    fn neighbours(&self, kind: &Kind) -> Vec<Kind> {
        match kind.as_str() {
            ROLE | TABLESPACE => vec![Kind::of(ROLE)],
            DATABASE => vec![Kind::of(ROLE), Kind::of(TABLESPACE)],
            TABLE | LOOSE_DATA => vec![Kind::of(DATABASE)],
            _ => Vec::new(),
        }
    }

    fn shared(&self, seen: &Seen<'_>, _: &Probe, to: &Probe) -> Option<String> {
        (seen.kind.as_str() == ROLE && seen.entry.name == to.identity.name)
            .then(|| "the restore itself works as this role".to_owned())
    }

    fn is_named(&self, _: &Kind) -> bool {
        true
    }

    fn identity(&self, seen: &Seen<'_>) -> String {
        seen.entry.name.clone()
    }

    fn identity_across(&self, kind: &Kind, identity: &str, crossing: &Crossing) -> String {
        called(kind.as_str(), identity, crossing)
    }

    fn has_alias(&self, _: &Kind) -> bool {
        false
    }

    fn alias(&self, _: &Seen<'_>) -> Option<String> {
        None
    }

    fn left(&self, seen: &Seen<'_>) -> Option<String> {
        (seen.kind.as_str() == GLOBALS)
            .then(|| "it is the script of all roles and tablespaces, which come back one by one".to_owned())
    }

    fn maker(&self, _: &Seen<'_>) -> Option<(Kind, String)> {
        None
    }

    fn is_builtin(&self, _: &Seen<'_>) -> bool {
        false
    }

    fn points(&self, seen: &Seen<'_>) -> Vec<Point> {
        match seen.kind.as_str() {
            TABLE | LOOSE_DATA => vec![point(DATABASE, By::Key, join(&[&first(&seen.entry.key)]), false)],
            _ => {
                let roles = seen.object.map(roles).unwrap_or_default();
                roles.into_iter().map(|role| point(ROLE, By::Identity, role, true)).collect()
            }
        }
    }

    /// Of the roles it names, those that the target will have.
    fn portable(&self, _: &Kind, _: Role, mut part: Value, _: &Crossing, rename: Renamer<'_>) -> Value {
        comparable(&mut part);
        // A look does not count rows.
        if let Some(members) = part.as_object_mut() {
            members.remove("rows");
        }
        // No end, said in two ways.
        if part.get("rolvaliduntil").and_then(Value::as_str) == Some("infinity") {
            part["rolvaliduntil"] = Value::Null;
        }
        let mut is_missing = |role: &str| {
            rename(&point(ROLE, By::Identity, role.to_owned(), true))
                == crate::source::blueprint::Renamed::Missing
        };
        for (list, field) in [("roles", None), ("member_of", Some("role")), ("role_settings", Some("role"))] {
            if let Some(Value::Array(named)) = part.get_mut(list) {
                named.retain(|named| {
                    let role = field.map_or(named, |field| &named[field]);
                    !role.as_str().is_some_and(&mut is_missing)
                });
            }
        }
        part
    }

    fn comparable(&self, _: &Kind, _: Role, portable: Value, _: &Crossing) -> Value {
        portable
    }

    fn concerns(
        &self,
        seen: &Seen<'_>,
        target: Option<&Seen<'_>>,
        portable: &Value,
        crossing: &Crossing,
    ) -> Vec<Concern> {
        let (name, object) = (&seen.entry.name, seen.object);
        let text = |field: &str| object.and_then(|object| object.get(field)?.as_str());
        match seen.kind.as_str() {
            ROLE => {
                let logs_in = object.is_some_and(|object| object["rolcanlogin"] == true);
                let asks = target.is_none() && logs_in;
                let what = || Concern::ByHand("its password: no snapshot has one".into());
                asks.then(what).into_iter().collect()
            }
            TABLESPACE if target.is_none() => {
                let folder = text("location").unwrap_or_default();
                let what = format!("the folder {folder} on the server: empty, and the server's own");
                vec![Concern::ByHand(what)]
            }
            DATABASE => {
                let come = roles(portable);
                let named = object.map(roles).unwrap_or_default();
                let missing: Vec<_> = named.into_iter().filter(|role| !come.contains(role)).collect();
                let mut concerns = Vec::new();
                if !missing.is_empty() && !crossing.no_owner {
                    concerns.push(Concern::Blocked(format!(
                        "the target lacks the roles {}: bring them first (--kind role), or say --no-owner",
                        missing.join(", ")
                    )));
                }
                if crossing.no_owner {
                    let why = "--no-owner: everything in it belongs to who restores it, and nothing is granted to anybody";
                    concerns.push(Concern::Degraded(why.into()));
                }
                if target.is_some() {
                    let is = identifier(&first(&called(DATABASE, name, crossing)));
                    concerns.push(Concern::ByHand(format!(
                        "the database {is} that is there now is kept beside it: drop it when nobody needs it any more"
                    )));
                }
                concerns
            }
            _ => Vec::new(),
        }
    }

    fn held(&self, _: &Kind, _: &Value) -> Vec<(String, Value)> {
        Vec::new()
    }

    fn plainly(&self, _: &Seen<'_>) -> Option<Kind> {
        None
    }

    fn is_granted_anyway(&self, _: &Kind, _: &Value) -> bool {
        true
    }

    fn owner(&self, _: &Kind, _: &Value) -> Option<String> {
        None
    }

    fn has_document(&self, _: &Kind) -> bool {
        false
    }

    fn needs_warehouse(&self, _: &Kind) -> bool {
        false
    }

    fn is_ordered(&self, _: &Kind) -> bool {
        false
    }

    fn order(&self, _: &Kind, _: &Value) -> Option<i64> {
        None
    }

    fn calls(&self, _: &Kind, _: Act) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    fn rate(&self, _: &str) -> f64 {
        1.0
    }
}
