//! A fault as a document: on standard error with `-o json`, and in the answers of the API.

use lakehold_proto::fault::{Class, Fault, HttpRefusal};
use serde::{Deserialize, Serialize};

/// The schema name of an [`ErrorDocument`].
const ERROR_SCHEMA: &str = "lakehold.error/v1";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDocument {
    /// `lakehold.error/v1`.
    pub schema: String,
    /// What kind of failure.
    pub class: Class,
    /// The stable name within the class.
    pub code: String,
    /// What was being done.
    pub context: String,
    /// What went wrong.
    pub detail: String,
    /// What to do now.
    pub hint: Option<String>,
    /// What the environment's API said.
    pub http: Option<HttpRefusal>,
    /// What a command ends with.
    pub exit_code: u8,
}

impl From<&Fault> for ErrorDocument {
    fn from(fault: &Fault) -> Self {
        Self {
            schema: ERROR_SCHEMA.into(),
            class: fault.class,
            code: fault.code.into(),
            context: fault.context.clone(),
            detail: fault.detail.clone(),
            hint: fault.hint.clone(),
            http: fault.http.clone(),
            exit_code: fault.exit_code(),
        }
    }
}

impl ErrorDocument {
    /// The fault that it tells of.
    pub fn into_fault(self) -> Fault {
        // Codes are known to the compiler; of one that another process names, one copy is kept: a command meets few.
        let code: &'static str = Box::leak(self.code.into_boxed_str());
        let Self { class, context, detail, hint, http, .. } = self;
        Fault { hint, http, ..Fault::new(class, code, context, detail) }
    }
}
