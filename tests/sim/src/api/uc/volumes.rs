//! Volumes (section 3.8).
//!
//! <https://docs.databricks.com/api/workspace/volumes>

use serde_json::{Map, Value, json};

use super::{BASE, Uc, VOLUME, full_name_of, managed_root, open, schemas};
use crate::errors::ApiError;
use crate::reply::{Reply, Req, ok};
use crate::router::Routes;

pub(super) fn routes(r: &mut Routes) {
    let family = "unity-catalog";
    r.get(&format!("{BASE}/volumes"), family, list);
    r.post(&format!("{BASE}/volumes"), family, |req| ok(create(&mut open(req)?, req.json()?)?));
    r.get(&format!("{BASE}/volumes/{{name}}"), family, |req| super::get(req, &VOLUME, "name"));
    r.patch(&format!("{BASE}/volumes/{{name}}"), family, |req| super::patch(req, &VOLUME, "name"));
    r.delete(&format!("{BASE}/volumes/{{name}}"), family, |req| super::delete(req, &VOLUME, "name"));
}

fn list(req: &Req) -> Reply {
    let uc = open(req)?;
    let parent = schemas::parent(&uc)?;
    ok(uc.page(&VOLUME, Some(&parent), |_| true)?.body("volumes"))
}

/// Creates a volume; also what CREATE VOLUME does.
pub(crate) fn create(uc: &mut Uc<'_>, given: Map<String, Value>) -> Result<Value, ApiError> {
    let full_name = full_name_of(&given, &["catalog_name", "schema_name", "name"])?;
    let location = given.get("storage_location").and_then(Value::as_str);
    let location = match (given.get("volume_type").and_then(Value::as_str), location) {
        (Some("EXTERNAL"), Some(location)) => location.to_owned(),
        (Some("EXTERNAL"), None) => {
            return Err(ApiError::invalid("Missing required field: storage_location"));
        }
        (Some("MANAGED"), None) => {
            format!("{}/volumes/{}", managed_root(&uc.req.ws), uc.req.ws.metastore.fresh().uuid())
        }
        (Some("MANAGED"), Some(_)) => {
            return Err(ApiError::invalid("A managed volume cannot have a storage location."));
        }
        _ => return Err(ApiError::invalid("volume_type must be EXTERNAL or MANAGED.")),
    };
    let mut volume = Map::new();
    volume.insert("full_name".to_owned(), json!(full_name));
    volume.insert("volume_type".to_owned(), given["volume_type"].clone());
    volume.insert("storage_location".to_owned(), json!(location));
    if let Some(comment) = given.get("comment") {
        volume.insert("comment".to_owned(), comment.clone());
    }
    uc.create(&VOLUME, volume)
}
