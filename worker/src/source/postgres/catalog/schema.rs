//! What the catalogue says of everything that a person would call the schema: a question for each sort of thing, which answers
//! with a row for each thing. What has PostgreSQL's own value is left out, and so are members of extensions, and whatever is
//! told elsewhere in the same document (an index that a constraint brings along).
//!
//! PostgreSQL locks what a view reads before it writes out the view's definition. Of what somebody else holds against us nothing
//! is asked that would wait for it: its definition is [`NOT_KNOWN`]. Words of the catalogue follow no snapshot, but what is
//! locked stays as it is.

use serde::Deserialize;
use serde_json::value::RawValue;

/// In place of a definition: the diff takes nothing for changed that is not known.
const NOT_KNOWN: &str = "json_build_object('unknown', 'somebody else holds what it reads')";

/// A definition longer than this is told by its hash.
const LONG: u32 = 8192;

/// What all questions begin with: schemas that are not PostgreSQL's own, what belongs to an extension or a range, what others hold against us,
/// and what cannot be written out without that.
const COMMON: &str = "with ours as materialized (select * from pg_namespace where nspname !~ '^pg_' \
      and nspname <> 'information_schema'), \
    members as materialized (select classid, objid from pg_depend where deptype = 'e' \
      or deptype = 'i' and classid in ('pg_proc'::regclass, 'pg_cast'::regclass)), \
    busy as materialized (select relation from pg_locks where locktype = 'relation' and mode = 'AccessExclusiveLock' \
      and database = (select oid from pg_database where datname = current_database()) \
      and pid is distinct from pg_backend_pid()), \
    stuck as materialized (select classid, objid from pg_depend where refclassid = 'pg_class'::regclass \
      and refobjid in (select relation from busy) and classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_policy'::regclass))";

/// A sort of things, and how to ask for all of them.
#[derive(Debug)]
pub(in super::super) struct Question {
    /// What they are called in the document.
    pub(in super::super) sort: &'static str,
    pub(in super::super) sql: String,
}

/// One thing.
#[derive(Debug, Deserialize)]
pub(in super::super) struct Thing {
    /// The schema that it lies in, where it lies in one.
    pub(in super::super) schema: Option<String>,
    pub(in super::super) name: String,
    /// What belongs to the name, such as the arguments of a function.
    pub(in super::super) more: Option<String>,
    pub(in super::super) document: Box<RawValue>,
}

/// All questions. An `ascii` database has no encoding: what is no ASCII in it cannot be told.
pub(in super::super) fn questions(is_ascii: bool) -> Vec<Question> {
    let sorts = [
        ("schemas", schemas()),
        ("tables", tables()),
        ("views", views("v", "")),
        ("materialized_views", views("m", &format!("'indexes', {}, ", indexes()))),
        ("sequences", sequences()),
        ("functions", functions()),
        ("types", types()),
        ("operators", operators()),
        ("casts", casts()),
        ("collations", collations()),
        ("text_search_configurations", text_search_configurations()),
        ("text_search_dictionaries", text_search_dictionaries()),
        ("statistics", statistics()),
        ("event_triggers", event_triggers()),
        ("publications", publications()),
        ("subscriptions", subscriptions()),
        ("foreign_data_wrappers", foreign_data_wrappers()),
        ("foreign_servers", foreign_servers()),
        ("default_privileges", default_privileges()),
        ("comments", comments()),
    ];
    let whole = |(sort, sql)| {
        let document = if is_ascii {
            "regexp_replace(json_strip_nulls(document)::text, '[^ -~]', '?', 'g')::json"
        } else {
            "json_strip_nulls(document)"
        };
        let sql = format!(
            "{COMMON} select schema, name, more, {document} as document from ({sql}) things \
             order by schema collate \"C\", name collate \"C\", more collate \"C\""
        );
        Question { sort, sql }
    };
    sorts.into_iter().map(whole).collect()
}

fn schemas() -> String {
    let (acl, free) = (acl("n.nspacl"), free("pg_namespace", "n.oid"));
    format!(
        "select null as schema, n.nspname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(n.nspowner), 'acl', {acl}) as document from ours n where {free}"
    )
}

fn tables() -> String {
    let (acl, options, free) = (acl("c.relacl"), sorted("c.reloptions"), free("pg_class", "c.oid"));
    let (columns, constraints, indexes) = (columns(), constraints("k.conrelid = c.oid"), indexes());
    let (triggers, rules) = (triggers(), rules());
    let bound = unless_busy("c.oid", "to_json(pg_get_expr(c.relpartbound, c.oid))");
    let (using, check) = (
        unless_stuck("pg_policy", "p.oid", "c.oid", "to_json(pg_get_expr(p.polqual, p.polrelid))"),
        unless_stuck("pg_policy", "p.oid", "c.oid", "to_json(pg_get_expr(p.polwithcheck, p.polrelid))"),
    );
    let (foreign, tablespace) = (secretive("f.ftoptions"), tablespace("c.reltablespace"));
    format!(
        "select n.nspname as schema, c.relname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(c.relowner), 'unlogged', case when c.relpersistence = 'u' then true end, \
         'columns', coalesce({columns}, '{{}}'), 'constraints', coalesce({constraints}, '{{}}'), 'indexes', {indexes}, \
         'triggers', {triggers}, 'rules', {rules}, 'row_security', nullif(c.relrowsecurity, false), 'force_row_security', nullif(c.relforcerowsecurity, false), \
         'policies', coalesce((select json_object_agg(p.polname, json_build_object('command', case p.polcmd when 'r' then 'select' \
           when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end, \
           'restrictive', nullif(not p.polpermissive, false), 'roles', (select json_agg(case role when 0 then 'public' \
             else pg_get_userbyid(role) end order by 1) from unnest(p.polroles) role), 'using', {using}, 'check', {check}) \
           order by p.polname) from pg_policy p where p.polrelid = c.oid), '{{}}'), \
         'replica_identity', case c.relreplident when 'n' then 'nothing' when 'f' then 'full' when 'i' then \
           (select x.relname::text from pg_index i join pg_class x on x.oid = i.indexrelid \
            where i.indrelid = c.oid and i.indisreplident) end, \
         'clustered_on', (select x.relname from pg_index i join pg_class x on x.oid = i.indexrelid \
            where i.indrelid = c.oid and i.indisclustered), \
         'partition_key', case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end, \
         'partition_bound', case when c.relispartition then {bound} end, \
         'inherits', (select json_agg(i.inhparent::regclass::text order by i.inhseqno) from pg_inherits i \
           where i.inhrelid = c.oid), \
         'of_type', case when c.reloftype <> 0 then format_type(c.reloftype, null) end, \
         'access_method', (select a.amname from pg_am a where a.oid = c.relam and a.amname <> 'heap'), \
         'foreign_server', (select s.srvname from pg_foreign_table f join pg_foreign_server s on s.oid = f.ftserver \
           where f.ftrelid = c.oid), \
         'foreign_options', (select {foreign} from pg_foreign_table f where f.ftrelid = c.oid), \
         'options', {options}, 'tablespace', {tablespace}, 'acl', {acl}) as document \
         from pg_class c join ours n on n.oid = c.relnamespace \
         where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't' and {free}"
    )
}

/// Of the table `c`, in their order.
fn columns() -> String {
    let (acl, options, foreign) = (acl("a.attacl"), sorted("a.attoptions"), secretive("a.attfdwoptions"));
    let default = unless_busy("c.oid", "to_json(pg_get_expr(d.adbin, d.adrelid))");
    format!(
        "(select json_object_agg(a.attname, json_build_object('type', format_type(a.atttypid, a.atttypmod), \
         'not_null', nullif(a.attnotnull, false), \
         'default', case when d.oid is not null and a.attgenerated = '' then {default} end, \
         'generated', case when d.oid is not null and a.attgenerated <> '' then {default} end, \
         'identity', case a.attidentity when 'a' then 'always' when 'd' then 'by default' end, \
         'collation', case when a.attcollation <> t.typcollation then a.attcollation::regcollation::text end, \
         'storage', case when a.attstorage <> t.typstorage then case a.attstorage when 'p' then 'plain' \
           when 'e' then 'external' when 'm' then 'main' else 'extended' end end, \
         'statistics', nullif(a.attstattarget, -1), 'inherited', case when not a.attislocal then true end, \
         'options', {options}, 'foreign_options', {foreign}, 'acl', {acl}) order by a.attnum) \
         from pg_attribute a join pg_type t on t.oid = a.atttypid \
         left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum \
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)"
    )
}

/// Without those that are another way to say `NOT NULL`, and triggers.
fn constraints(of: &str) -> String {
    let definition = unless_busy("k.conrelid", "to_json(pg_get_constraintdef(k.oid))");
    format!(
        "(select json_object_agg(k.conname, {definition} order by k.conname) from pg_constraint k \
         where {of} and k.contype in ('c', 'f', 'p', 'u', 'x'))"
    )
}

/// Of the relation `c`, without those that a constraint brings along.
fn indexes() -> String {
    let definition =
        unless_busy("c.oid", "to_json(pg_get_indexdef(x.oid) || coalesce(' TABLESPACE ' || s.spcname, ''))");
    format!(
        "coalesce((select json_object_agg(x.relname, {definition} order by x.relname) \
         from pg_index i join pg_class x on x.oid = i.indexrelid left join pg_tablespace s on s.oid = x.reltablespace \
         where i.indrelid = c.oid and not exists (select from pg_constraint k where k.conindid = i.indexrelid \
         and k.contype in ('p', 'u', 'x'))), '{{}}')"
    )
}

/// Of the relation `c`, without those that its constraints and the table it is part of bring along.
fn triggers() -> String {
    let definition = unless_busy(
        "c.oid",
        "to_json(pg_get_triggerdef(t.oid) || case t.tgenabled when 'O' then '' when 'D' then ' (disabled)' \
         when 'R' then ' (on replicas)' else ' (always)' end)",
    );
    format!(
        "coalesce((select json_object_agg(t.tgname, {definition} order by t.tgname) from pg_trigger t \
         where t.tgrelid = c.oid and not t.tgisinternal and t.tgparentid = 0), '{{}}')"
    )
}

/// Of the relation `c`, without that which makes it a view.
fn rules() -> String {
    let definition = unless_stuck("pg_rewrite", "o.oid", "c.oid", "to_json(pg_get_ruledef(o.oid))");
    format!(
        "coalesce((select json_object_agg(o.rulename, {definition} order by o.rulename) from pg_rewrite o \
         where o.ev_class = c.oid and o.rulename <> '_RETURN'), '{{}}')"
    )
}

fn views(relkind: &str, indexes: &str) -> String {
    let (acl, options, free) = (acl("c.relacl"), sorted("c.reloptions"), free("pg_class", "c.oid"));
    let definition = unless_stuck("pg_rewrite", "r.oid", "c.oid", "to_json(pg_get_viewdef(c.oid))");
    let (triggers, rules, tablespace) = (triggers(), rules(), tablespace("c.reltablespace"));
    format!(
        "select n.nspname as schema, c.relname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(c.relowner), 'definition', {definition}, {indexes} \
         'triggers', {triggers}, 'rules', {rules}, 'options', {options}, 'tablespace', {tablespace}, 'acl', {acl}) as document \
         from pg_class c join ours n on n.oid = c.relnamespace \
         left join pg_rewrite r on r.ev_class = c.oid and r.rulename = '_RETURN' \
         where c.relkind = '{relkind}' and c.relpersistence <> 't' and {free}"
    )
}

/// What they are, and not where they stand.
fn sequences() -> String {
    let (acl, free) = (acl("c.relacl"), free("pg_class", "c.oid"));
    format!(
        "select n.nspname as schema, c.relname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(c.relowner), 'type', format_type(s.seqtypid, null), 'start', nullif(s.seqstart, 1), \
         'increment', nullif(s.seqincrement, 1), 'minimum', nullif(s.seqmin, 1), 'maximum', nullif(s.seqmax, \
           case format_type(s.seqtypid, null) when 'bigint' then 9223372036854775807 when 'integer' then 2147483647 else 32767 end), \
         'cache', nullif(s.seqcache, 1), 'cycle', nullif(s.seqcycle, false), \
         'unlogged', case when c.relpersistence = 'u' then true end, \
         'owned_by', (select d.refobjid::regclass::text || '.' || a.attname from pg_depend d join pg_attribute a \
           on a.attrelid = d.refobjid and a.attnum = d.refobjsubid where d.classid = 'pg_class'::regclass and d.objid = c.oid \
           and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')), 'acl', {acl}) as document \
         from pg_class c join ours n on n.oid = c.relnamespace join pg_sequence s on s.seqrelid = c.oid \
         where c.relpersistence <> 't' and {free}"
    )
}

/// Functions, procedures and aggregates.
fn functions() -> String {
    let (acl, free) = (acl("p.proacl"), free("pg_proc", "p.oid"));
    let text = unless_stuck("pg_proc", "p.oid", "0", "to_json(f.definition)");
    format!(
        "select n.nspname as schema, p.proname as name, '(' || pg_get_function_identity_arguments(p.oid) || ')' as more, \
         json_build_object('owner', pg_get_userbyid(p.proowner), \
         'definition', case when coalesce(octet_length(f.definition), 0) <= {LONG} then {text} end, \
         'definition_sha256', case when octet_length(f.definition) > {LONG} \
           then encode(sha256(f.definition::bytea), 'hex') end, \
         'aggregate', case when g.aggfnoid is not null then json_build_object('kind', g.aggkind, \
           'transition', g.aggtransfn::text, 'state', format_type(g.aggtranstype, null), \
           'final', nullif(g.aggfinalfn::text, '-'), 'combine', nullif(g.aggcombinefn::text, '-'), \
           'moving', nullif(g.aggmtransfn::text, '-'), 'initial', g.agginitval, 'parallel', p.proparallel) end, \
         'acl', {acl}) as document \
         from pg_proc p join ours n on n.oid = p.pronamespace left join pg_aggregate g on g.aggfnoid = p.oid, \
         lateral (select case when p.prokind <> 'a' and not exists (select from stuck s where s.classid = 'pg_proc'::regclass \
           and s.objid = p.oid) then pg_get_functiondef(p.oid) end as definition) f where {free}"
    )
}

/// Without those that come with a table, an array or a range.
fn types() -> String {
    let (acl, free, constraints) =
        (acl("t.typacl"), free("pg_type", "t.oid"), constraints("k.contypid = t.oid"));
    format!(
        "select n.nspname as schema, t.typname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(t.typowner), 'labels', case when t.typtype = 'e' then (select json_agg(e.enumlabel \
           order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid) end, \
         'domain', case when t.typtype = 'd' then json_build_object('type', format_type(t.typbasetype, t.typtypmod), \
           'not_null', nullif(t.typnotnull, false), 'default', t.typdefault, 'constraints', coalesce({constraints}, '{{}}'), \
           'collation', (select t.typcollation::regcollation::text from pg_type b where b.oid = t.typbasetype \
             and b.typcollation <> t.typcollation)) end, \
         'attributes', case when t.typtype = 'c' then coalesce((select json_object_agg(a.attname, \
           format_type(a.atttypid, a.atttypmod) order by a.attnum) from pg_attribute a where a.attrelid = t.typrelid \
           and a.attnum > 0 and not a.attisdropped), '{{}}') end, \
         'range', (select json_build_object('of', format_type(r.rngsubtype, null), \
           'operator_class', (select o.opcname from pg_opclass o where o.oid = r.rngsubopc), \
           'canonical', nullif(r.rngcanonical::text, '-'), 'difference', nullif(r.rngsubdiff::text, '-')) \
           from pg_range r where r.rngtypid = t.oid), \
         'base', case when t.typtype = 'b' then json_build_object('input', t.typinput::text, 'output', t.typoutput::text, \
           'length', t.typlen, 'alignment', t.typalign, 'storage', t.typstorage, 'category', t.typcategory, \
           'default', t.typdefault) end, 'acl', {acl}) as document \
         from pg_type t join ours n on n.oid = t.typnamespace \
         where (t.typtype in ('d', 'e', 'r') or t.typtype = 'b' and t.typelem = 0 and t.typisdefined or t.typtype = 'c' \
           and exists (select from pg_class c where c.oid = t.typrelid and c.relkind = 'c')) and {free}"
    )
}

fn operators() -> String {
    let free = free("pg_operator", "o.oid");
    format!(
        "select n.nspname as schema, o.oprname as name, format('(%s, %s)', nullif(o.oprleft, 0)::regtype, \
           nullif(o.oprright, 0)::regtype) as more, json_build_object('owner', pg_get_userbyid(o.oprowner), \
         'function', o.oprcode::text, 'commutator', nullif(o.oprcom, 0)::regoperator::text, \
         'negator', nullif(o.oprnegate, 0)::regoperator::text, 'restrict', nullif(o.oprrest::text, '-'), \
         'join', nullif(o.oprjoin::text, '-'), 'hashes', nullif(o.oprcanhash, false), \
         'merges', nullif(o.oprcanmerge, false)) as document \
         from pg_operator o join ours n on n.oid = o.oprnamespace where {free}"
    )
}

/// Those that PostgreSQL does not bring along.
fn casts() -> String {
    let free = free("pg_cast", "c.oid");
    format!(
        "select null as schema, format('%s AS %s', c.castsource::regtype, c.casttarget::regtype) as name, null as more, \
         json_build_object('function', nullif(c.castfunc, 0)::regprocedure::text, 'context', c.castcontext, \
         'method', c.castmethod) as document from pg_cast c where c.oid >= 16384 and {free}"
    )
}

/// As they stand in the catalogue, whose columns differ from version to version. Of what version of its library a collation
/// is follows the machine.
fn collations() -> String {
    let free = free("pg_collation", "c.oid");
    format!(
        "select n.nspname as schema, c.collname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(c.collowner), 'properties', (to_jsonb(c) - '{{oid,collname,collnamespace,collowner,collversion}}' \
           ::text[])::json) as document from pg_collation c join ours n on n.oid = c.collnamespace where {free}"
    )
}

fn text_search_configurations() -> String {
    let free = free("pg_ts_config", "c.oid");
    format!(
        "select n.nspname as schema, c.cfgname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(c.cfgowner), 'parser', (select p.prsname from pg_ts_parser p where p.oid = c.cfgparser), \
         'mapping', coalesce((select json_object_agg(alias, dictionaries order by alias) from (select k.alias, \
           json_agg(m.mapdict::regdictionary::text order by m.mapseqno) as dictionaries from pg_ts_config_map m \
           join ts_token_type(c.cfgparser) k on k.tokid = m.maptokentype where m.mapcfg = c.oid group by k.alias) mapped), \
           '{{}}')) as document from pg_ts_config c join ours n on n.oid = c.cfgnamespace where {free}"
    )
}

fn text_search_dictionaries() -> String {
    let free = free("pg_ts_dict", "d.oid");
    format!(
        "select n.nspname as schema, d.dictname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(d.dictowner), 'template', (select t.tmplname from pg_ts_template t \
           where t.oid = d.dicttemplate), 'options', d.dictinitoption) as document \
         from pg_ts_dict d join ours n on n.oid = d.dictnamespace where {free}"
    )
}

fn statistics() -> String {
    let free = free("pg_statistic_ext", "s.oid");
    let definition = unless_busy("s.stxrelid", "to_json(pg_get_statisticsobjdef(s.oid))");
    format!(
        "select n.nspname as schema, s.stxname as name, null as more, json_build_object( \
         'owner', pg_get_userbyid(s.stxowner), 'definition', {definition}) as document \
         from pg_statistic_ext s join ours n on n.oid = s.stxnamespace where {free}"
    )
}

fn event_triggers() -> String {
    let (tags, free) = (sorted("t.evttags"), free("pg_event_trigger", "t.oid"));
    format!(
        "select null as schema, t.evtname as name, null as more, json_build_object('owner', pg_get_userbyid(t.evtowner), \
         'event', t.evtevent, 'function', t.evtfoid::regprocedure::text, 'tags', {tags}, \
         'enabled', nullif(t.evtenabled, 'O')) as document from pg_event_trigger t where {free}"
    )
}

/// Which schemas one has stands in a table that PostgreSQL 15 brought.
fn publications() -> String {
    let free = free("pg_publication", "p.oid");
    format!(
        "select null as schema, p.pubname as name, null as more, json_build_object('owner', pg_get_userbyid(p.pubowner), \
         'properties', (to_jsonb(p) - '{{oid,pubname,pubowner}}'::text[])::json, \
         'tables', (select json_agg(r.prrelid::regclass::text order by r.prrelid::regclass::text collate \"C\") \
           from pg_publication_rel r where r.prpubid = p.oid), \
         'schemas', (select json_agg(n.nspname order by n.nspname) from pg_depend of join pg_depend d using (classid, objid) \
           join pg_namespace n on n.oid = d.refobjid where of.classid = to_regclass('pg_catalog.pg_publication_namespace') \
           and of.refclassid = 'pg_publication'::regclass and of.refobjid = p.oid \
           and d.refclassid = 'pg_namespace'::regclass)) as document from pg_publication p where {free}"
    )
}

/// Without where they connect to: a password may be in it, and who is no superuser may not see it.
fn subscriptions() -> String {
    let publications = sorted("s.subpublications");
    format!(
        "select null as schema, s.subname as name, null as more, json_build_object('owner', pg_get_userbyid(s.subowner), \
         'enabled', s.subenabled, 'slot', s.subslotname, 'publications', {publications}) as document \
         from pg_subscription s where s.subdbid = (select oid from pg_database where datname = current_database())"
    )
}

fn foreign_data_wrappers() -> String {
    let (acl, options, free) =
        (acl("w.fdwacl"), secretive("w.fdwoptions"), free("pg_foreign_data_wrapper", "w.oid"));
    format!(
        "select null as schema, w.fdwname as name, null as more, json_build_object('owner', pg_get_userbyid(w.fdwowner), \
         'handler', nullif(w.fdwhandler, 0)::regprocedure::text, 'validator', nullif(w.fdwvalidator, 0)::regprocedure::text, \
         'options', {options}, 'acl', {acl}) as document from pg_foreign_data_wrapper w where {free}"
    )
}

/// Of who is who there the names alone.
fn foreign_servers() -> String {
    let (acl, options, free) =
        (acl("s.srvacl"), secretive("s.srvoptions"), free("pg_foreign_server", "s.oid"));
    format!(
        "select null as schema, s.srvname as name, null as more, json_build_object('owner', pg_get_userbyid(s.srvowner), \
         'wrapper', (select w.fdwname from pg_foreign_data_wrapper w where w.oid = s.srvfdw), 'type', s.srvtype, \
         'version', s.srvversion, 'options', {options}, 'users', (select json_agg(u.usename order by u.usename) \
           from pg_user_mappings u where u.srvid = s.oid), 'acl', {acl}) as document \
         from pg_foreign_server s where {free}"
    )
}

fn default_privileges() -> String {
    let (acl, free) = (acl("a.defaclacl"), free("pg_default_acl", "a.oid"));
    format!(
        "select null as schema, format('%s of %s', case a.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' \
           when 'f' then 'functions' when 'T' then 'types' when 'n' then 'schemas' else a.defaclobjtype::text end, \
           pg_get_userbyid(a.defaclrole)) as name, ' in ' || n.nspname as more, json_build_object('acl', {acl}) as document \
         from pg_default_acl a left join pg_namespace n on n.oid = a.defaclnamespace where {free}"
    )
}

/// On whatever: by what it is and its name.
fn comments() -> String {
    let free = free("d.classoid", "d.objoid");
    format!(
        "select null as schema, i.type || ' ' || i.identity as name, null as more, to_json(d.description) as document \
         from pg_description d, lateral pg_identify_object(d.classoid, d.objoid, d.objsubid) i \
         where (d.objoid >= 16384 or d.classoid = 'pg_namespace'::regclass and d.objoid in (select oid from ours)) \
         and d.classoid not in ('pg_largeobject'::regclass, 'pg_extension'::regclass) and i.identity is not null and i.identity !~ '^pg_temp' and {free}"
    )
}

/// That it belongs to nothing that brings it along.
fn free(class: &str, id: &str) -> String {
    let class = if class.contains('.') { class.to_owned() } else { format!("'{class}'::regclass") };
    format!("not exists (select from members m where m.classid = {class} and m.objid = {id})")
}

/// Who may do what, in one order; nothing where PostgreSQL's defaults hold.
fn acl(of: &str) -> String {
    format!(
        "case when {of} is not null then (select coalesce(json_agg(a::text order by a::text collate \"C\"), '[]') \
         from unnest({of}) a) end"
    )
}

/// The texts of an array, in one order.
fn sorted(of: &str) -> String {
    format!("(select json_agg(o order by o collate \"C\") from unnest({of}::text[]) o)")
}

/// The options of an array, in one order, without the values of those that look like secrets.
fn secretive(of: &str) -> String {
    format!(
        "(select json_agg(o order by o collate \"C\") from (select case when split_part(o, '=', 1) ~* \
         'pass|secret|token|key|credential' then split_part(o, '=', 1) || '=...' else o end as o from unnest({of}) o) told)"
    )
}

fn tablespace(id: &str) -> String {
    format!("(select s.spcname from pg_tablespace s where s.oid = {id})")
}

/// What may lock the relation before it answers.
fn unless_busy(relation: &str, json: &str) -> String {
    format!("case when {relation} in (select relation from busy) then {NOT_KNOWN} else {json} end")
}

/// What may lock the relation, or others that it reads, before it answers.
fn unless_stuck(class: &str, id: &str, relation: &str, json: &str) -> String {
    format!(
        "case when {relation} in (select relation from busy) or exists (select from stuck s \
         where s.classid = '{class}'::regclass and s.objid = {id}) then {NOT_KNOWN} else {json} end"
    )
}
