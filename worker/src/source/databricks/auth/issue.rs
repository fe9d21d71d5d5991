//! How service principals sign in: at Databricks (OAuth machine-to-machine) and at Azure (Entra, its v1 endpoint, as the
//! vendor's SDK does). Facts: `docs.databricks.com/dev-tools/auth`, checked 2026-08.

use std::time::Duration;

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::secret::Secret;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION};

use super::super::host;
use super::exchange::refused;
use super::{Auth, Pass};

/// Databricks as Entra knows it, in all Azure clouds.
const DATABRICKS: &str = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d";
/// Azure's own management, for principals that the workspace does not know yet.
const MANAGEMENT: &str = "https://management.core.windows.net/";
/// Where Entra issues tokens, by cloud.
const LOGIN_HOSTS: [&str; 3] =
    ["login.microsoftonline.com", "login.microsoftonline.us", "login.chinacloudapi.cn"];
const MANAGEMENT_TOKEN: HeaderName = HeaderName::from_static("x-databricks-azure-sp-management-token");
const RESOURCE_ID: HeaderName = HeaderName::from_static("x-databricks-azure-workspace-resource-id");

/// A service principal of Azure, its secrets read.
pub(super) struct Azure<'a> {
    /// The tenant, where it is configured.
    pub(super) tenant: Option<Secret>,
    /// The application id.
    pub(super) client_id: Secret,
    /// Its secret.
    pub(super) client_secret: Secret,
    /// The ARM id of the workspace.
    pub(super) resource_id: Option<&'a str>,
    /// Where tokens are issued, where it is configured.
    pub(super) login_host: Option<&'a Url>,
}

impl Auth {
    /// Signs in as a service principal of Databricks.
    pub(super) async fn machine(&self, id: &Secret, secret: &Secret, retries: Duration) -> Result<Pass> {
        let endpoint = self.endpoint.get_or_try_init(|| self.discover(retries)).await?;
        let form = [("grant_type", "client_credentials"), ("scope", "all-apis")];
        let asked = self.clock.tick();
        let token =
            self.token(endpoint, &form, Some((id, secret)), std::slice::from_ref(secret), retries).await?;
        Pass::new(&[(AUTHORIZATION, token.secret)], Some((asked, token.life)))
    }

    /// Finds out where tokens for this host are issued. It must be kin of the host: the client's secret goes there.
    async fn discover(&self, retries: Duration) -> Result<Url> {
        #[derive(serde::Deserialize)]
        struct Discovered {
            token_endpoint: String,
        }
        const DOING: &str = "find out where tokens are issued";
        let at = self.at_host("/oidc/.well-known/oauth-authorization-server");
        let issued = self.fetch(|| self.http.get(at.clone()), DOING, retries).await?;
        if issued.status == 404 {
            // Not every server tells; this is where it normally is.
            return Ok(self.at_host("/oidc/v1/token"));
        }
        if issued.status != 200 {
            return Err(refused(&issued, DOING, &[]));
        }
        let strange = |detail: String| {
            Fault::new(Class::Config, "auth.no-issuer", DOING, detail)
                .hint("check that the host is a Databricks workspace")
        };
        let found: Discovered = serde_json::from_slice(&issued.body)
            .map_err(|_| strange("the host names no token endpoint".into()))?;
        match Url::parse(&found.token_endpoint) {
            Ok(url) if host::is_akin(&url, &self.settings.host) => Ok(url),
            Ok(url) => Err(strange(format!(
                "the host wants the secret sent to {}, which is none of its kin",
                url.host_str().unwrap_or("nowhere")
            ))),
            Err(_) => Err(strange("the host names a token endpoint that is no address".into())),
        }
    }

    /// Signs in as a service principal of Azure.
    pub(super) async fn azure(&self, azure: &Azure<'_>, retries: Duration) -> Result<Pass> {
        let endpoint = match &azure.tenant {
            Some(tenant) => entra(azure.login_host, tenant.reveal())?,
            None => {
                self.tenant.get_or_try_init(|| self.find_tenant(azure.login_host, retries)).await?.clone()
            }
        };
        let asked = self.clock.tick();
        let token = self.entra_token(&endpoint, azure, DATABRICKS, retries).await?;
        let mut secrets = vec![(AUTHORIZATION, token.secret)];
        let mut life = token.life;
        let Some(resource) = azure.resource_id else { return Pass::new(&secrets, Some((asked, life))) };
        let management = self.entra_token(&endpoint, azure, MANAGEMENT, retries).await?;
        secrets.push((MANAGEMENT_TOKEN, management.secret));
        life = life.min(management.life);
        let mut pass = Pass::new(&secrets, Some((asked, life)))?;
        let resource = HeaderValue::from_str(resource).map_err(|_| {
            let detail = "azure_workspace_resource_id holds characters that no such id has";
            Fault::new(Class::Config, "config.resource-id", "sign in", detail)
        })?;
        pass.headers.insert(RESOURCE_ID, resource);
        Ok(pass)
    }

    async fn entra_token(
        &self,
        endpoint: &Url,
        azure: &Azure<'_>,
        resource: &str,
        retries: Duration,
    ) -> Result<super::exchange::Token> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", azure.client_id.reveal()),
            ("client_secret", azure.client_secret.reveal()),
            ("resource", resource),
        ];
        self.token(endpoint, &form, None, std::slice::from_ref(&azure.client_secret), retries).await
    }

    /// Finds the tenant out: an Azure workspace sends browsers to its tenant's sign-in page.
    async fn find_tenant(&self, login_host: Option<&Url>, retries: Duration) -> Result<Url> {
        const DOING: &str = "find out the Azure tenant";
        let at = self.at_host("/aad/auth");
        let issued = self.fetch(|| self.http.get(at.clone()), DOING, retries).await?;
        let location =
            issued.headers.get(LOCATION).and_then(|v| v.to_str().ok()).and_then(|v| Url::parse(v).ok());
        let tenant = location.as_ref().and_then(|url| url.path_segments()?.next().map(str::to_owned));
        let (Some(location), Some(tenant)) = (location, tenant.filter(|tenant| !tenant.is_empty())) else {
            return Err(Fault::new(Class::Config, "auth.no-tenant", DOING, "the host does not tell it")
                .hint("set azure_tenant_id, and check that the host is an Azure Databricks workspace"));
        };
        // The host may name the sign-in page of a sovereign cloud, but nobody else's.
        let told = location
            .host_str()
            .is_some_and(|name| location.scheme() == "https" && LOGIN_HOSTS.contains(&name));
        entra(login_host.or(told.then_some(&location)), &tenant)
    }

    fn at_host(&self, path: &str) -> Url {
        let mut url = self.settings.host.clone();
        url.set_path(path);
        url
    }
}

/// Where Entra issues tokens for `tenant`.
fn entra(login_host: Option<&Url>, tenant: &str) -> Result<Url> {
    let fault = |detail: &str| Fault::new(Class::Config, "config.tenant", "sign in", detail);
    if tenant.is_empty()
        || !tenant.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        || tenant.starts_with('.')
    {
        return Err(fault("azure_tenant_id is neither an id nor a domain"));
    }
    let mut url = match login_host {
        Some(url) => url.clone(),
        None => Url::parse(&format!("https://{}", LOGIN_HOSTS[0])).map_err(|e| fault(&e.to_string()))?,
    };
    if !host::is_safe(&url) {
        return Err(fault("azure_login_host must be https"));
    }
    url.set_query(None);
    url.set_path(&format!("/{tenant}/oauth2/token"));
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_issued_by_the_tenant_of_the_right_cloud() {
        assert_eq!(
            entra(None, "a-1").unwrap().as_str(),
            "https://login.microsoftonline.com/a-1/oauth2/token"
        );
        let china = Url::parse("https://login.chinacloudapi.cn/x/y?z=1").unwrap();
        assert_eq!(
            entra(Some(&china), "t.cn").unwrap().as_str(),
            "https://login.chinacloudapi.cn/t.cn/oauth2/token"
        );
        for tenant in ["", "../x", "a/b", "..", "a?b"] {
            assert_eq!(entra(None, tenant).unwrap_err().code, "config.tenant", "{tenant}");
        }
    }
}
