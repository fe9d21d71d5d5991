//! Instance profiles: on AWS only (reference section 3.2).
//!
//! <https://docs.databricks.com/api/workspace/instanceprofiles>

use serde_json::{Value, json};

use crate::errors::ApiError;
use crate::paging;
use crate::reply::{Reply, Req, done, ok};
use crate::router::Routes;
use crate::sim::Cloud;

/// Name of the documents in the store.
pub(crate) const PROFILE: &str = "instance_profile";

pub(crate) fn routes(r: &mut Routes) {
    r.get("/api/2.0/instance-profiles/list", "instance-profiles", list);
    r.post("/api/2.0/instance-profiles/add", "instance-profiles", add);
    r.post("/api/2.0/instance-profiles/edit", "instance-profiles", edit);
    r.post("/api/2.0/instance-profiles/remove", "instance-profiles", remove);
}

fn aws(req: &Req) -> Result<(), ApiError> {
    if req.ws.cloud == Cloud::Aws {
        return Ok(());
    }
    Err(ApiError::new(404, "FEATURE_DISABLED", "Instance profiles are not available in this cloud."))
}

fn list(req: &Req) -> Reply {
    aws(req)?;
    ok(json!({"instance_profiles": paging::visible(req, &req.ws.store(), PROFILE)}))
}

fn add(req: &Req) -> Reply {
    aws(req)?;
    req.admin()?;
    let arn = req.need("instance_profile_arn")?;
    let mut profile = req.json()?;
    if !arn.starts_with("arn:") || !arn.contains(":instance-profile/") {
        return Err(ApiError::invalid(format!("{arn} is not an instance profile ARN.")));
    }
    // Section 3.2: without it the server tries to start an instance, which no simulated role allows.
    if profile.shift_remove("skip_validation") != Some(json!(true)) {
        return Err(ApiError::invalid(
            "Validation of the instance profile failed: sts:AssumeRole was denied.",
        ));
    }
    let mut store = req.ws.store();
    if store.contains(PROFILE, &arn) {
        return Err(ApiError::exists(format!("Instance profile {arn} already exists.")));
    }
    store.put(PROFILE, &arn, &Value::Object(profile));
    done()
}

fn edit(req: &Req) -> Reply {
    aws(req)?;
    req.admin()?;
    let arn = req.need("instance_profile_arn")?;
    let body = req.json()?;
    let changed = req.ws.store().edit(PROFILE, &arn, |p| {
        for field in ["iam_role_arn", "is_meta_instance_profile"] {
            if let Some(value) = body.get(field) {
                p[field] = value.clone();
            }
        }
    });
    changed.map_or_else(|| Err(absent(&arn)), |_| done())
}

fn remove(req: &Req) -> Reply {
    aws(req)?;
    req.admin()?;
    let arn = req.need("instance_profile_arn")?;
    let removed = req.ws.store().remove(PROFILE, &arn);
    removed.map_or_else(|| Err(absent(&arn)), |_| done())
}

fn absent(arn: &str) -> ApiError {
    ApiError::absent(format!("Instance profile {arn} does not exist."))
}
