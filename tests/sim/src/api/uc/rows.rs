//! The types of securables, one row each (section 3.8).

/// What a securable stands under; names of children are dotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Metastore,
    Catalog,
    Schema,
}

/// One type of securable.
#[derive(Debug)]
pub(crate) struct Row {
    /// Name of the documents in the metastore's store; their id is the full name.
    pub(crate) kind: &'static str,
    /// How messages call it.
    pub(crate) noun: &'static str,
    /// `CATALOG` of `CATALOG_DOES_NOT_EXIST`.
    pub(crate) stem: &'static str,
    /// The field a list answers with.
    pub(crate) items: &'static str,
    pub(crate) level: Level,
    /// The type in the path of grants.
    pub(crate) securable: &'static str,
    /// The field that holds its UUID; empty if it shows none.
    pub(crate) id_field: &'static str,
    /// What PATCH changes besides `new_name` and `owner`.
    pub(crate) editable: &'static [&'static str],
}

pub(crate) const CATALOG: Row = Row {
    kind: "uc_catalog",
    noun: "Catalog",
    stem: "CATALOG",
    items: "catalogs",
    level: Level::Metastore,
    securable: "catalog",
    id_field: "",
    editable: &[
        "comment",
        "properties",
        "options",
        "isolation_mode",
        "enable_predictive_optimization",
        "managed_encryption_settings",
        "custom_max_retention_hours",
    ],
};
pub(crate) const SCHEMA: Row = Row {
    kind: "uc_schema",
    noun: "Schema",
    stem: "SCHEMA",
    items: "schemas",
    level: Level::Catalog,
    securable: "schema",
    id_field: "schema_id",
    editable: &["comment", "properties", "enable_predictive_optimization", "custom_max_retention_hours"],
};
pub(crate) const TABLE: Row = Row {
    kind: "uc_table",
    noun: "Table",
    stem: "TABLE",
    items: "tables",
    level: Level::Schema,
    securable: "table",
    id_field: "table_id",
    editable: &["comment"],
};
pub(crate) const VOLUME: Row = Row {
    kind: "uc_volume",
    noun: "Volume",
    stem: "VOLUME",
    items: "volumes",
    level: Level::Schema,
    securable: "volume",
    id_field: "volume_id",
    editable: &["comment"],
};
pub(crate) const FUNCTION: Row = Row {
    kind: "uc_function",
    noun: "Routine or Model",
    stem: "FUNCTION",
    items: "functions",
    level: Level::Schema,
    securable: "function",
    id_field: "function_id",
    editable: &["comment"],
};
/// Section 3.8: models are a list of their own, yet the securable type of a model is `function`.
pub(crate) const MODEL: Row = Row {
    kind: "uc_registered_model",
    noun: "Routine or Model",
    stem: "FUNCTION",
    items: "registered_models",
    level: Level::Schema,
    securable: "function",
    id_field: "id",
    editable: &["comment"],
};
pub(crate) const CREDENTIAL: Row = Row {
    kind: "uc_storage_credential",
    noun: "Storage credential",
    stem: "STORAGE_CREDENTIAL",
    items: "storage_credentials",
    level: Level::Metastore,
    securable: "storage_credential",
    id_field: "id",
    editable: &[
        "comment",
        "read_only",
        "isolation_mode",
        "aws_iam_role",
        "azure_managed_identity",
        "azure_service_principal",
        "databricks_gcp_service_account",
        "cloudflare_api_token",
    ],
};
pub(crate) const LOCATION: Row = Row {
    kind: "uc_external_location",
    noun: "External location",
    stem: "EXTERNAL_LOCATION",
    items: "external_locations",
    level: Level::Metastore,
    securable: "external_location",
    id_field: "",
    editable: &[
        "comment",
        "read_only",
        "isolation_mode",
        "url",
        "credential_name",
        "fallback",
        "enable_file_events",
        "file_event_queue",
        "encryption_details",
    ],
};
pub(crate) const CONNECTION: Row = Row {
    kind: "uc_connection",
    noun: "Connection",
    stem: "CONNECTION",
    items: "connections",
    level: Level::Metastore,
    securable: "connection",
    id_field: "connection_id",
    editable: &["comment", "options", "properties", "read_only", "environment_settings"],
};

/// All types of securables that lists know.
pub(crate) const ROWS: [&Row; 9] =
    [&CATALOG, &SCHEMA, &TABLE, &VOLUME, &FUNCTION, &MODEL, &CREDENTIAL, &LOCATION, &CONNECTION];
