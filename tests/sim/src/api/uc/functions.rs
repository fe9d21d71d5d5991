//! User-defined functions (section 3.8).
//!
//! <https://docs.databricks.com/api/workspace/functions>

use serde_json::{Map, Value, json};

use super::{BASE, FUNCTION, Uc, full_name_of, open, schemas};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, ok};
use crate::router::Routes;

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/functions"), family, list);
    r.post(&format!("{BASE}/functions"), family, |req| {
        // Section 3.8: POST is experimental; its body is wrapped.
        let body = req.json()?.remove("function_info").unwrap_or_default();
        let Value::Object(given) = body else {
            return Err(ApiError::invalid("Missing required field: function_info"));
        };
        ok(create(&mut open(req)?, given)?)
    });
    r.get(&format!("{BASE}/functions/{{name}}"), family, |req| super::get(req, &FUNCTION, "name"));
    r.patch(&format!("{BASE}/functions/{{name}}"), family, |req| super::patch(req, &FUNCTION, "name"));
    r.delete(&format!("{BASE}/functions/{{name}}"), family, |req| super::delete(req, &FUNCTION, "name"));
}

fn list(req: &Req) -> Reply {
    let uc = open(req)?;
    let parent = schemas::parent(&uc)?;
    ok(uc.page(&FUNCTION, Some(&parent), |_| true)?.body("functions"))
}

/// Creates a function; also what CREATE FUNCTION does.
pub(crate) fn create(uc: &mut Uc<'_>, given: Map<String, Value>) -> Result<Value, ApiError> {
    let full_name = full_name_of(&given, &["catalog_name", "schema_name", "name"])?;
    for field in ["data_type", "full_data_type", "routine_body", "routine_definition"] {
        if given.get(field).and_then(Value::as_str).is_none() {
            return Err(ApiError::invalid(format!("Missing required field: {field}")));
        }
    }
    let mut function = given;
    let name = full_name.rsplit('.').next().unwrap_or_default();
    for (field, value) in [
        ("parameter_style", json!("S")),
        ("security_type", json!("DEFINER")),
        ("specific_name", json!(name)),
        ("sql_data_access", json!("CONTAINS_SQL")),
        ("is_deterministic", json!(true)),
        ("is_null_call", json!(false)),
    ] {
        function.entry(field).or_insert(value);
    }
    function.insert("full_name".to_owned(), json!(full_name));
    uc.create(&FUNCTION, function)
}
