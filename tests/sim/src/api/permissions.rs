//! Permissions of all object types (reference section 3.0).
//!
//! <https://docs.databricks.com/api/workspace/permissions>

use serde_json::{Value, json};

use crate::api::permission_types::{Home, TYPES, Type};
use crate::api::scim::{self, GROUP, PRINCIPAL, USER};
use crate::errors::ApiError;
use crate::identity::OPERATOR;
use crate::reply::{Reply, Req, ok};
use crate::router::Routes;
use crate::state::{Store, Workspace};
use crate::tree::NodeKind;

/// Direct entries in the store, under `type/id`; absent means those of a new object.
pub(crate) const ACL: &str = "acl";

pub(crate) fn routes(r: &mut Routes) {
    for t in TYPES {
        for base in ["/api/2.0/permissions", "/api/2.0/preview/permissions"] {
            // A singleton's URL ends where others have their id.
            let one = match t.home {
                Home::Single(_) => format!("{base}/{}", t.url),
                _ => format!("{base}/{}/{{id}}", t.url),
            };
            r.get(&one, "permissions", get);
            r.put(&one, "permissions", put);
            r.patch(&one, "permissions", patch);
            r.get(&format!("{one}/permissionLevels"), "permissions", levels);
        }
    }
}

/// The type and id of a call; 404 if there is no such object.
fn object(req: &Req) -> Result<(&'static Type, String), ApiError> {
    let path = req.path.split_once("/permissions/").map_or("", |(_, p)| p);
    let matches =
        |t: &&Type| path.strip_prefix(t.url).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let found = TYPES.iter().filter(matches).max_by_key(|t| t.url.len());
    let t = found.ok_or_else(|| ApiError::new(404, "ENDPOINT_NOT_FOUND", "Unknown object type"))?;
    let id = req.param("id").to_owned();
    let there = match t.home {
        Home::Single(_) => true,
        Home::Store(kind) => req.ws.store().contains(kind, &id),
        Home::Tree(kind) => {
            id.parse().is_ok_and(|id| req.ws.tree().by_id(id).is_some_and(|n| n.kind == kind))
        }
    };
    let name = if t.url.starts_with("authorization") { t.url.to_owned() } else { format!("{}/{id}", t.url) };
    if there { Ok((t, id)) } else { Err(ApiError::absent(format!("/{name} does not exist."))) }
}

fn key(t: &Type, id: &str) -> String {
    match t.home {
        Home::Single(_) => t.key.to_owned(),
        _ => format!("{}/{id}", t.key),
    }
}

/// The direct entries of an object, `{principal field: name, permission_level}`.
fn direct(store: &Store, t: &Type, id: &str) -> Vec<Value> {
    if let Some(Value::Array(entries)) = store.get(ACL, &key(t, id)) {
        return entries;
    }
    new_object(store, t, id)
}

/// What the server grants on a new object: to its creator, or what section 3.0 says of the singular ones.
fn new_object(store: &Store, t: &Type, id: &str) -> Vec<Value> {
    let creator = match t.home {
        Home::Store(kind) => store.get(kind, id).and_then(|d| {
            ["creator_user_name", "creator_name", "owner_user_name"]
                .iter()
                .find_map(|f| d[f].as_str().map(str::to_owned))
        }),
        Home::Tree(_) if id == "0" => {
            return vec![json!({"group_name": "admins", "permission_level": "CAN_MANAGE"})];
        }
        // Files and folders have the rights of the folder they are in.
        Home::Tree(_) => return Vec::new(),
        Home::Single("tokens") => {
            return vec![
                json!({"group_name": "users", "permission_level": "CAN_USE"}),
                json!({"group_name": "admins", "permission_level": "CAN_MANAGE"}),
            ];
        }
        Home::Single(_) => return vec![json!({"group_name": "admins", "permission_level": "CAN_USE"})],
    };
    let creator = creator.unwrap_or_else(|| OPERATOR.to_owned());
    let level = if t.levels.contains(&"IS_OWNER") {
        "IS_OWNER"
    } else if t.levels.contains(&"CAN_MANAGE") {
        "CAN_MANAGE"
    } else {
        return Vec::new();
    };
    let field = if scim::id_by_name(store, PRINCIPAL, &creator).is_some() {
        "service_principal_name"
    } else {
        "user_name"
    };
    vec![json!({field: creator, "permission_level": level})]
}

fn get(req: &Req) -> Reply {
    let (t, id) = object(req)?;
    Ok(respond(req, t, &id))
}

fn respond(req: &Req, t: &'static Type, id: &str) -> crate::reply::Answer {
    let tree = req.ws.tree();
    let store = req.ws.store();
    // Grants in order: direct ones, then those from above with where they are from.
    let mut grants: Vec<(Value, Option<String>)> =
        direct(&store, t, id).into_iter().map(|e| (e, None)).collect();
    match (t.home, id.parse().ok().and_then(|id| tree.by_id(id))) {
        (Home::Tree(_), Some(node)) => {
            for above in tree.ancestors(node) {
                let from = format!("/directories/{}", above.id);
                let kind = if above.kind == NodeKind::Repo { "repos" } else { "directories" };
                let parent = TYPES.iter().find(|t| t.url == kind).unwrap_or(t);
                let path = tree.path(above);
                grants.extend(
                    direct(&store, parent, &above.id.to_string())
                        .into_iter()
                        .map(|e| (e, Some(from.clone()))),
                );
                grants.extend(implicit(&path).map(|e| (e, Some(from.clone()))));
            }
            grants.extend(implicit(&tree.path(node)).map(|e| (e, Some(format!("/directories/{id}")))));
        }
        (Home::Single(_), _) => {}
        // Admins manage everything, by inheritance from the root of its type.
        _ => {
            let level = if t.levels.contains(&"CAN_MANAGE") { "CAN_MANAGE" } else { "CAN_USE" };
            grants.push((
                json!({"group_name": "admins", "permission_level": level}),
                Some(format!("/{}/", t.url)),
            ));
        }
    }
    let mut entries: Vec<Value> = Vec::new();
    for (grant, from) in grants {
        let (field, name) = principal_of(&grant);
        let permission = match from {
            None => json!({"permission_level": grant["permission_level"], "inherited": false}),
            Some(from) => {
                json!({"permission_level": grant["permission_level"], "inherited": true, "inherited_from_object": [from]})
            }
        };
        match entries.iter_mut().find(|e| e[field] == name) {
            Some(entry) => {
                if let Some(all) = entry["all_permissions"].as_array_mut() {
                    all.push(permission);
                }
            }
            None => {
                let mut entry = json!({field: name});
                if field != "group_name"
                    && let Some(p) = scim::principal(&store, &name)
                {
                    entry["display_name"] = p["displayName"].clone();
                }
                entry["all_permissions"] = json!([permission]);
                entries.push(entry);
            }
        }
    }
    // Section 3.0: the order of the response is not stable.
    if !entries.is_empty() {
        let turn = usize::try_from(req.ws.request_id().bytes().map(u64::from).sum::<u64>()).unwrap_or(0)
            % entries.len();
        entries.rotate_left(turn);
    }
    let object_id = match t.home {
        Home::Single(_) => format!("/{}", t.url),
        _ => format!("/{}/{id}", t.url),
    };
    crate::reply::Answer::json(
        &json!({"object_id": object_id, "object_type": t.object_type, "access_control_list": entries}),
    )
}

/// Rights that nobody set: a home belongs to its user, `/Shared` to all (section 3.3).
fn implicit(path: &str) -> impl Iterator<Item = Value> {
    let home = path.strip_prefix("/Users/").filter(|rest| !rest.contains('/'));
    let grant = match (path, home) {
        ("/Shared", _) => Some(json!({"group_name": "users", "permission_level": "CAN_MANAGE"})),
        (_, Some(user)) => Some(json!({"user_name": user, "permission_level": "CAN_MANAGE"})),
        _ => None,
    };
    grant.into_iter()
}

fn principal_of(entry: &Value) -> (&'static str, String) {
    for field in ["user_name", "group_name", "service_principal_name"] {
        if let Some(name) = entry[field].as_str().filter(|n| !n.is_empty()) {
            return (field, name.to_owned());
        }
    }
    ("user_name", String::new())
}

/// Replaces all direct entries.
fn put(req: &Req) -> Reply {
    change(req, true)
}

/// Adds or raises.
fn patch(req: &Req) -> Reply {
    change(req, false)
}

fn change(req: &Req, replace: bool) -> Reply {
    let (t, id) = object(req)?;
    // The SDK sends a POST-like body with the list; no list means an empty one.
    let body = req.json()?;
    let given: Vec<Value> =
        body.get("access_control_list").and_then(Value::as_array).cloned().unwrap_or_default();
    {
        let mut store = req.ws.store();
        apply(&mut store, t, &id, &given, replace)?;
    }
    Ok(respond(req, t, &id))
}

/// Checks a list against the rules of its type and stores it.
fn apply(
    store: &mut Store,
    t: &'static Type,
    id: &str,
    given: &[Value],
    replace: bool,
) -> Result<(), ApiError> {
    let before = direct(store, t, id);
    let mut after: Vec<Value> = if replace { Vec::new() } else { before.clone() };
    let admins_required = id == "0" && t.url == "directories" || t.url == "authorization/tokens";
    for entry in given {
        let (field, name) = principal_of(entry);
        let level = entry["permission_level"].as_str().unwrap_or_default();
        check_entry(store, t, field, &name, level, admins_required)?;
        let same = |e: &Value| principal_of(e) == (field, name.clone());
        // A new owner given by PATCH takes the place of the old one.
        if level == "IS_OWNER" && !replace {
            after.retain(|e| e["permission_level"] != "IS_OWNER" || same(e));
        }
        let new = json!({field: name, "permission_level": level});
        match after.iter_mut().find(|e| same(e)) {
            // Section 3.0: one level per principal.
            Some(_) if replace => {
                return Err(ApiError::invalid(format!(
                    "Multiple permissions for the same principal: {name}"
                )));
            }
            Some(old) => {
                let rank = |e: &Value| t.levels.iter().position(|l| e["permission_level"] == *l);
                if rank(&new) > rank(old) {
                    *old = new;
                }
            }
            None => after.push(new),
        }
    }
    let owners = after.iter().filter(|e| e["permission_level"] == "IS_OWNER").count();
    if t.levels.contains(&"IS_OWNER") && owners != 1 {
        return Err(ApiError::invalid(format!("The {} must have exactly one owner.", singular(t))));
    }
    let admins = |e: &Value| e["group_name"] == "admins" && e["permission_level"] == "CAN_MANAGE";
    if admins_required && !after.iter().any(admins) {
        return Err(ApiError::invalid("The admins group must keep CAN_MANAGE."));
    }
    store.put(ACL, &key(t, id), &Value::Array(after));
    Ok(())
}

fn check_entry(
    store: &Store,
    t: &Type,
    field: &str,
    name: &str,
    level: &str,
    admins_required: bool,
) -> Result<(), ApiError> {
    // Old clients write CAN_VIEW where CAN_READ is meant (section 3.0).
    let old_view = level == "CAN_VIEW" && t.levels.contains(&"CAN_READ") && t.url.contains("sql");
    if !t.levels.contains(&level) && !old_view {
        return Err(ApiError::invalid(format!(
            "{level} is not a valid permission level for {}.",
            t.object_type
        )));
    }
    let kind = match field {
        "user_name" => USER,
        "group_name" => GROUP,
        _ => PRINCIPAL,
    };
    if scim::id_by_name(store, kind, name).is_none() {
        let what = match kind {
            USER => "UserName",
            GROUP => "GroupName",
            _ => "ServicePrincipalName",
        };
        // Section 2.7: 400 or 404, with this text.
        return Err(ApiError::absent(format!("Principal: {what}({name}) does not exist")));
    }
    if field == "group_name" && level == "IS_OWNER" {
        return Err(ApiError::invalid(format!("A group can not be the owner of a {}.", singular(t))));
    }
    let may_name_admins = admins_required || matches!(t.home, Home::Single(_));
    if name == "admins" && field == "group_name" && !may_name_admins {
        return Err(ApiError::invalid("Cannot change permissions for group 'admins'."));
    }
    Ok(())
}

fn singular(t: &Type) -> &'static str {
    match t.object_type {
        "pipelines" => "pipeline",
        "warehouses" => "warehouse",
        other => other,
    }
}

/// Grants made together with an object (`access_control_list` of jobs/create).
pub(crate) fn create_with(store: &mut Store, url: &str, id: &str, given: &[Value]) -> Result<(), ApiError> {
    let Some(t) = TYPES.iter().find(|t| t.url == url) else { return Ok(()) };
    let owned = given.iter().any(|e| e["permission_level"] == "IS_OWNER");
    apply(store, t, id, given, owned && t.levels.contains(&"IS_OWNER"))
}

/// Forgets the entries of an object that is gone.
pub(crate) fn forget(store: &mut Store, url: &str, id: &str) {
    store.remove(ACL, &format!("{url}/{id}"));
}

/// Gives a generated object direct entries; for populations.
pub(crate) fn grant(ws: &Workspace, url: &str, id: &str, field: &str, name: &str, level: &str) {
    let Some(t) = TYPES.iter().find(|t| t.url == url) else { return };
    let mut store = ws.store();
    let _ = apply(&mut store, t, id, &[json!({field: name, "permission_level": level})], false);
}

fn levels(req: &Req) -> Reply {
    let (t, _) = object(req)?;
    let all: Vec<Value> = t.levels.iter().map(|l| json!({"permission_level": l, "description": format!("{} {}", l.replace('_', " ").to_lowercase(), t.object_type)})).collect();
    ok(json!({"permission_levels": all}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Store;

    fn store() -> Store {
        let mut store = Store::default();
        for (kind, id, item) in [
            (USER, "1", json!({"userName": "a@b.c"})),
            (USER, "2", json!({"userName": "d@e.f"})),
            (GROUP, "3", json!({"displayName": "team"})),
            (GROUP, "4", json!({"displayName": "admins"})),
        ] {
            scim::put(&mut store, kind, id, item.as_object().expect("object"));
        }
        store.put("job", "7", &json!({"creator_user_name": "a@b.c"}));
        store
    }

    fn job() -> &'static Type {
        TYPES.iter().find(|t| t.url == "jobs").expect("jobs")
    }

    fn entry(field: &str, name: &str, level: &str) -> Value {
        json!({field: name, "permission_level": level})
    }

    #[test]
    fn a_job_has_exactly_one_owner_who_is_no_group() {
        let mut s = store();
        let none = apply(&mut s, job(), "7", &[entry("user_name", "d@e.f", "CAN_VIEW")], true);
        assert_eq!(none.expect_err("no owner").message, "The job must have exactly one owner.");
        assert!(apply(&mut s, job(), "7", &[entry("group_name", "team", "IS_OWNER")], true).is_err());
        let two = [entry("user_name", "a@b.c", "IS_OWNER"), entry("user_name", "d@e.f", "IS_OWNER")];
        assert!(apply(&mut s, job(), "7", &two, true).is_err());
        assert!(apply(&mut s, job(), "7", &two[..1], true).is_ok());
    }

    #[test]
    fn patch_raises_and_moves_ownership() {
        let mut s = store();
        apply(&mut s, job(), "7", &[entry("user_name", "d@e.f", "CAN_MANAGE")], false).expect("added");
        apply(&mut s, job(), "7", &[entry("user_name", "d@e.f", "CAN_VIEW")], false).expect("not lowered");
        assert!(direct(&s, job(), "7").contains(&entry("user_name", "d@e.f", "CAN_MANAGE")));
        apply(&mut s, job(), "7", &[entry("user_name", "d@e.f", "IS_OWNER")], false).expect("raised");
    }

    #[test]
    fn unknown_principals_and_the_admins_are_refused() {
        let mut s = store();
        let gone = apply(&mut s, job(), "7", &[entry("user_name", "x@y.z", "CAN_VIEW")], false)
            .expect_err("unknown");
        assert_eq!((gone.status, gone.message.as_str()), (404, "Principal: UserName(x@y.z) does not exist"));
        assert!(apply(&mut s, job(), "7", &[entry("group_name", "admins", "CAN_MANAGE")], false).is_err());
        let root = TYPES.iter().find(|t| t.url == "directories").expect("directories");
        assert!(apply(&mut s, root, "0", &[], true).is_err(), "the root keeps its admins");
    }
}
