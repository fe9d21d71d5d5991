//! Who may do what with an item: the calls that tell.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use lakehold_proto::fault::Result;
use serde_json::value::RawValue;

use super::super::families::{GRANTS, PERMISSIONS, SECRETS, UNITY_CATALOG};
use super::super::kinds::{Access, One, path};
use super::super::paging::Paging;
use super::super::request::{Request, segment};
use super::Work;
use super::item::{Item, fill};

/// Pages of the server's own size; any from 1 to 149 is refused.
const PAGES: Paging = Paging::Token { request: "page_token", size: Some(("max_results", "0")) };

impl Work {
    /// The access list of an item; `None` for kinds that have none.
    ///
    /// # Errors
    /// Those of the calls.
    pub(super) async fn access(self: &Arc<Self>, access: &Access, item: &Item) -> Result<Option<Bytes>> {
        match *access {
            Access::None { .. } => Ok(None),
            Access::Object { object, id } => {
                let id = fill("{id}", true, |_| path::text(&item.value, id))?;
                let request = Request::get(&PERMISSIONS, format!("/api/2.0/permissions/{object}/{id}"));
                self.client.json(&request, &self.meter).await.map(Some)
            }
            Access::Secrets { scope } => {
                let scope = fill("{scope}", false, |_| path::text(&item.value, scope))?;
                let request = Request::get(&SECRETS, "/api/2.0/secrets/acls/list").query("scope", scope);
                self.client.json(&request, &self.meter).await.map(Some)
            }
            Access::Grants { securable, name, bindings } => {
                let name = fill("{name}", false, |_| path::text(&item.value, name))?;
                let isolated =
                    path::text(&item.value, "isolation_mode").is_some_and(|mode| mode.ends_with("ISOLATED"));
                self.grants(securable, &name, bindings && isolated).await.map(Some)
            }
        }
    }

    /// The grants on a securable, and the workspaces it is bound to where only some may see it. All pages are joined into
    /// one document with the API's own field names; each entry is as the API wrote it.
    async fn grants(&self, securable: &str, name: &str, bindings: bool) -> Result<Bytes> {
        let name = segment(name);
        let request = Request::get(&GRANTS, format!("/api/2.1/unity-catalog/permissions/{securable}/{name}"));
        let assignments = self.all(request, "privilege_assignments").await?;
        let mut joined = format!("{{\"privilege_assignments\":[{}]", entries(&assignments));
        if bindings {
            let one = format!("/api/2.1/unity-catalog/bindings/{securable}/{name}");
            let bound = self.all(Request::get(&UNITY_CATALOG, one), "bindings").await?;
            joined.push_str(&format!(",\"bindings\":[{}]", entries(&bound)));
        }
        joined.push('}');
        Ok(joined.into())
    }

    async fn all(&self, request: Request, items: &str) -> Result<Vec<Box<RawValue>>> {
        let mut all = Vec::new();
        let mut pages = self.client.pages(request, &PAGES, items, &self.meter);
        while let Some(page) = pages.try_next().await? {
            all.extend(page);
        }
        Ok(all)
    }

    /// The whole answer of a call about one item.
    ///
    /// # Errors
    /// Those of the call.
    pub(super) async fn answer(&self, one: &One, item: &Item) -> Result<Bytes> {
        self.client.json(&item.call(one)?, &self.meter).await
    }
}

fn entries(raw: &[Box<RawValue>]) -> String {
    raw.iter().map(|entry| entry.get()).collect::<Vec<_>>().join(",")
}
