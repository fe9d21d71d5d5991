//! What is asked of the catalogue, and what it answers. Rows of the catalogue itself are taken as they are (`to_jsonb`), so
//! that properties of newer servers are kept, too.

pub(super) mod schema;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who we are, and what the server is. `pg_control_system` may be asked by anybody.
pub(super) const SERVER: &str = "select current_user::text as name, r.oid::text as id, r.rolsuper as is_super, \
    r.rolbypassrls as sees_all_rows, \
    coalesce((select pg_has_role(p.oid, 'USAGE') from pg_roles p where p.rolname = 'pg_read_all_data'), false) as reads_all, \
    current_setting('server_version') as version, current_setting('server_version_num')::int as version_number, \
    (select system_identifier::text from pg_control_system()) as cluster, pg_is_in_recovery() as is_standby, \
    current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint \
      - (select count(*) from pg_stat_activity where backend_type = 'client backend') as free_connections, \
    pg_backend_pid() as pid \
    from pg_roles r where r.rolname = current_user";

/// See [`SERVER`].
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) is_super: bool,
    pub(super) sees_all_rows: bool,
    pub(super) reads_all: bool,
    pub(super) version: String,
    pub(super) version_number: u32,
    pub(super) cluster: String,
    pub(super) is_standby: bool,
    pub(super) free_connections: i64,
    pub(super) pid: i32,
}

/// Which process of the server answers, and when.
pub(super) const ANSWERING: &str = "select pg_backend_pid() as pid, clock_timestamp()::text as now";

/// See [`ANSWERING`].
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Answering {
    pub(super) pid: i32,
    pub(super) now: String,
}

/// Whether our connection is older than `time`: then it was somebody else's before, and a pooler is in between.
pub(super) fn began_before(time: &str) -> String {
    let time = time.replace('\'', "''");
    format!(
        "select coalesce((select backend_start < '{time}'::timestamptz from pg_stat_activity \
         where pid = pg_backend_pid()), false) as yes"
    )
}

/// A yes or no.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Yes {
    pub(super) yes: bool,
}

/// Whether a dump of ours waits for a lock: behind somebody who waits to change a table, and waits for us.
pub(super) const QUEUED: &str = "select exists (select from pg_locks l join pg_stat_activity a on a.pid = l.pid \
    where not l.granted and l.locktype = 'relation' and l.mode = 'AccessShareLock' \
    and l.database = (select oid from pg_database where datname = current_database()) \
    and a.application_name = 'lakehold') as yes";

/// Whether somebody waits for a lock on the table with this id.
pub(super) fn waited_for(oid: &str) -> String {
    format!("select exists (select from pg_locks where not granted and relation::text = '{oid}') as yes")
}

/// The databases of the server.
pub(super) const DATABASES: &str = "select d.datname as name, d.datistemplate as is_template, \
    d.datallowconn as is_open, has_database_privilege(d.oid, 'CONNECT') as is_allowed \
    from pg_database d order by d.datname";

/// See [`DATABASES`].
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Database {
    pub(super) name: String,
    pub(super) is_template: bool,
    pub(super) is_open: bool,
    pub(super) is_allowed: bool,
}

/// The roles, without what PostgreSQL makes itself and without anything of their passwords.
pub(super) const ROLES: &str = "select r.rolname as name, r.rolname ~ '^pg_' as is_builtin, \
    to_jsonb(r) - '{oid,rolpassword}'::text[] || jsonb_build_object('member_of', coalesce((select jsonb_agg( \
      to_jsonb(m) - '{oid,roleid,member,grantor}'::text[] || jsonb_build_object('role', g.rolname) order by g.rolname) \
      from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid), '[]'), \
      'comment', shobj_description(r.oid, 'pg_authid')) as document \
    from pg_roles r order by r.rolname";

/// The tablespaces.
pub(super) const TABLESPACES: &str = "select t.spcname as name, t.spcname ~ '^pg_' as is_builtin, \
    to_jsonb(t) - '{oid,spcowner}'::text[] || jsonb_build_object('owner', pg_get_userbyid(t.spcowner), \
      'location', pg_tablespace_location(t.oid), 'comment', shobj_description(t.oid, 'pg_tablespace')) as document \
    from pg_tablespace t order by t.spcname";

/// See [`ROLES`] and [`TABLESPACES`].
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Global {
    pub(super) name: String,
    pub(super) is_builtin: bool,
    pub(super) document: Value,
}

/// The tables that we may lock: those that have rows, and the roots of partitioned ones.
pub(super) const LOCKABLE: &str = "select c.oid::text as oid, format('%I.%I', n.nspname, c.relname) as sql \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
    and has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT') order by c.oid";

/// See [`LOCKABLE`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct Lockable {
    pub(super) oid: String,
    /// Its name as SQL has it.
    pub(super) sql: String,
}

/// Takes the snapshot that others work in. Nothing before it in the transaction may need one.
pub(super) const SNAPSHOT: &str = "select pg_export_snapshot() as snapshot, clock_timestamp() as time, \
    (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text as lsn, \
    current_setting('server_version') as server_version, current_setting('server_encoding') as encoding";

/// See [`SNAPSHOT`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Snapshot {
    /// What others import.
    pub(super) snapshot: String,
    /// By the server's clock.
    pub(super) time: String,
    /// A place in the write-ahead log that is not before the snapshot.
    pub(super) lsn: String,
    pub(super) server_version: String,
    /// The database's.
    pub(super) encoding: String,
}

/// The tables of the database, and what the catalogue says of each. A partition has rows of its own; what it is part of has
/// none. Only of tables that we hold is the size asked for, since that would wait for who holds one against us.
pub(super) const TABLES: &str = "with held as materialized (select relation from pg_locks \
      where pid = pg_backend_pid() and locktype = 'relation' and relation is not null) select c.oid::text as oid, n.nspname as schema, c.relname as name, \
    c.relkind = 'p' as is_root, c.relpersistence::text as persistence, \
    has_schema_privilege(n.oid, 'USAGE') as may_enter, has_table_privilege(c.oid, 'SELECT') as may_select, \
    row_security_active(c.oid) as is_filtered, \
    (select e.extname from pg_depend d join pg_extension e on e.oid = d.refobjid where d.classid = 'pg_class'::regclass \
      and d.objid = c.oid and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e') as extension, \
    exists (select from pg_extension e where c.oid = any (e.extconfig)) as is_configuration, \
    case when c.oid in (select relation from held) then pg_table_size(c.oid) end as bytes, \
    greatest(c.reltuples, 0)::bigint as estimate, \
    (select format('%I.%I', pn.nspname, p.relname) from pg_inherits i join pg_class p on p.oid = i.inhparent \
      join pg_namespace pn on pn.oid = p.relnamespace where i.inhrelid = c.oid and c.relispartition) as partition_of, \
    coalesce((select jsonb_agg(jsonb_strip_nulls(jsonb_build_object('name', a.attname, \
      'type', format_type(a.atttypid, a.atttypmod), 'identity', nullif(a.attidentity, ''), \
      'generated', nullif(a.attgenerated, ''))) order by a.attnum) from pg_attribute a \
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]') as columns, \
    coalesce((select jsonb_agg(jsonb_build_array(sn.nspname, s.relname) order by sn.nspname, s.relname) \
      from pg_depend d join pg_class s on s.oid = d.objid and s.relkind = 'S' join pg_namespace sn on sn.oid = s.relnamespace \
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid \
      and d.deptype in ('a', 'i')), '[]') as sequences \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname !~ '^pg_' \
    and n.nspname <> 'information_schema' order by n.nspname, c.relname";

/// See [`TABLES`]. Tables travel to the tasks that dump them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Table {
    pub(super) oid: String,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) is_root: bool,
    pub(super) persistence: String,
    pub(super) may_enter: bool,
    pub(super) may_select: bool,
    pub(super) is_filtered: bool,
    pub(super) extension: Option<String>,
    pub(super) is_configuration: bool,
    pub(super) bytes: Option<u64>,
    pub(super) estimate: u64,
    pub(super) partition_of: Option<String>,
    pub(super) columns: Value,
    /// Sequences that belong to it, by schema and name.
    pub(super) sequences: Vec<(String, String)>,
}

/// The sequences, and where they stand; unknown where we may not read them. They follow no snapshot, and are never behind it.
pub(super) const SEQUENCES: &str = "select s.schemaname as schema, s.sequencename as name, s.last_value, \
    exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass \
      and d.deptype in ('a', 'i') and d.objid = format('%I.%I', s.schemaname, s.sequencename)::regclass) as is_owned \
    from pg_sequences s where s.schemaname !~ '^pg_' and not exists (select from pg_depend d \
    where d.classid = 'pg_class'::regclass and d.deptype = 'e' \
    and d.objid = format('%I.%I', s.schemaname, s.sequencename)::regclass) order by s.schemaname, s.sequencename";

/// See [`SEQUENCES`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Sequence {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) last_value: Option<i64>,
    #[serde(skip_serializing)]
    pub(super) is_owned: bool,
}

/// What the database is, and what is in it besides rows. Who may use something of it is written down in `pg_shdepend`; but what
/// the very first superuser owns is not. What belongs to an extension is not counted: it comes with the extension.
pub(super) const PROPERTIES: &str = "with ours as materialized (select * from pg_namespace \
      where nspname !~ '^pg_' and nspname <> 'information_schema'), \
    members as materialized (select classid, objid from pg_depend where deptype = 'e'), \
    relations as materialized (select c.oid, c.relkind from pg_class c join ours n on n.oid = c.relnamespace \
      left join pg_index i on i.indexrelid = c.oid where not exists (select from members m \
      where m.classid = 'pg_class'::regclass and m.objid = coalesce(i.indrelid, c.oid)) and not exists (select from members m \
      where m.classid = 'pg_type'::regclass and c.relkind = 'c' and m.objid = c.reltype)) \
    select to_jsonb(d) - '{oid,datdba,dattablespace,datfrozenxid,datminmxid,datlastsysoid}'::text[] \
      || jsonb_build_object('owner', pg_get_userbyid(d.datdba), 'encoding', pg_encoding_to_char(d.encoding), \
      'tablespace', (select spcname from pg_tablespace t where t.oid = d.dattablespace), \
      'comment', shobj_description(d.oid, 'pg_database')) as properties, pg_database_size(d.oid) as bytes, \
    (select coalesce(json_agg(setting order by setting collate \"C\"), '[]') from pg_db_role_setting s, unnest(s.setconfig) setting \
      where s.setdatabase = d.oid and s.setrole = 0) as settings, \
    (select coalesce(jsonb_agg(jsonb_build_object('role', r.rolname, 'settings', s.setconfig) order by r.rolname), '[]') \
      from pg_db_role_setting s join pg_roles r on r.oid = s.setrole where s.setdatabase = d.oid) as role_settings, \
    (select coalesce(json_agg(r.rolname order by r.rolname), '[]') from pg_roles r where r.rolname !~ '^pg_' and r.oid in ( \
      select d.datdba union select refobjid from pg_shdepend where refclassid = 'pg_authid'::regclass and (dbid = d.oid \
        or dbid = 0 and classid = 'pg_database'::regclass and objid = d.oid) \
      union select subowner from pg_subscription where subdbid = d.oid \
      union select setrole from pg_db_role_setting where setdatabase = d.oid \
      union select n.nspowner from ours n union select c.relowner from pg_class c join ours n on n.oid = c.relnamespace \
      union select p.proowner from pg_proc p join ours n on n.oid = p.pronamespace \
      union select t.typowner from pg_type t join ours n on n.oid = t.typnamespace)) as roles, \
    (select coalesce(jsonb_agg(jsonb_build_object('name', e.extname, 'version', e.extversion, 'schema', n.nspname) \
      order by e.extname), '[]') from pg_extension e join pg_namespace n on n.oid = e.extnamespace) as extensions, \
    (select coalesce(jsonb_object_agg(kind, number), '{}') from (select relkind::text as kind, count(*) as number \
      from relations group by 1) counted) as relations, \
    (select count(*) from pg_constraint c join ours n on n.oid = c.connamespace where c.conrelid = 0 \
      or c.conrelid in (select oid from relations)) as constraints, \
    (select coalesce(jsonb_agg(conrelid::regclass::text || ' ' || conname order by 1), '[]') \
      from (select c.conrelid, c.conname from pg_constraint c where not c.convalidated order by 1, 2) c) as not_validated, \
    (select coalesce(jsonb_agg(indexrelid::regclass::text order by indexrelid::regclass::text), '[]') \
      from pg_index where not indisvalid or not indisready) as invalid_indexes, \
    (select coalesce(jsonb_agg(c.oid::regclass::text order by c.oid::regclass::text), '[]') \
      from pg_class c where c.relkind = 'm' and not c.relispopulated) as not_populated, \
    (select count(*) from pg_largeobject_metadata) as large_objects \
    from pg_database d where d.datname = current_database()";

/// See [`PROPERTIES`].
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Properties {
    pub(super) properties: Value,
    pub(super) bytes: u64,
    /// What holds for who connects to it, as `name=value`.
    pub(super) settings: Vec<String>,
    /// The same for one role each.
    pub(super) role_settings: Value,
    /// Who owns or may use anything in it, without PostgreSQL's own.
    pub(super) roles: Vec<String>,
    pub(super) extensions: Value,
    pub(super) relations: Value,
    pub(super) constraints: u64,
    pub(super) not_validated: Value,
    pub(super) invalid_indexes: Value,
    pub(super) not_populated: Value,
    pub(super) large_objects: u64,
}

/// Foreign keys, by the ids of the tables that have them and that they point to.
pub(super) const REFERENCES: &str = "select conname as name, conrelid::text as from, confrelid::text as to from pg_constraint where contype = 'f'";

/// See [`REFERENCES`].
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// Tables in which tools write down the migrations that were made.
pub(super) const MIGRATION_TABLES: &[&str] = &[
    "__EFMigrationsHistory",
    "__diesel_schema_migrations",
    "_prisma_migrations",
    "_sqlx_migrations",
    "alembic_version",
    "ar_internal_metadata",
    "databasechangelog",
    "django_migrations",
    "doctrine_migration_versions",
    "flyway_schema_history",
    "goose_db_version",
    "gorp_migrations",
    "knex_migrations",
    "migrations",
    "pgmigrations",
    "schema_migrations",
    "schema_version",
    "sequelizemeta",
    "SequelizeMeta",
    "tb_confiture",
];

/// How many rows a table has, and the digest of them in one order.
pub(super) fn digest(sql: &str) -> String {
    format!(
        "select count(*) as rows, encode(sha256(convert_to(coalesce(string_agg(t::text, E'\\n' \
         order by t::text collate \"C\"), ''), 'UTF8')), 'hex') as sha256 from only {sql} t"
    )
}

/// See [`digest`].
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Digest {
    pub(super) rows: u64,
    pub(super) sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migration_tables_are_named_once() {
        let names: std::collections::BTreeSet<_> = MIGRATION_TABLES.iter().collect();
        assert_eq!(names.len(), MIGRATION_TABLES.len());
    }
}
