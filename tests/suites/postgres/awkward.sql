-- Everything that makes a database awkward to copy.
create extension pgcrypto;
create schema "odd schema.with dots";
create type mood as enum ('sad', 'ok', 'happy');
create domain positive as integer check (value > 0);

create table events (id bigint generated always as identity, at date not null, what text)
    partition by range (at);
create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01');
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01') partition by list (what);
create table events_2026_a partition of events_2026 for values in ('a');
create table events_2026_rest partition of events_2026 default;
insert into events (at, what)
    select date '2025-01-01' + i % 700, case i % 3 when 0 then 'a' when 1 then 'b' end from generate_series(0, 2999) i;

create table husband (id serial primary key, wife integer, feeling mood default 'ok', age positive);
create table wife (id serial primary key, husband integer references husband);
alter table husband add foreign key (wife) references wife deferrable initially deferred;
begin;
insert into husband (wife, age) select i, i from generate_series(1, 50) i;
insert into wife (husband) select i from generate_series(1, 50) i;
commit;

create table priced (net numeric not null, gross numeric generated always as (net * 1.19) stored, at timestamptz default now());
insert into priced (net) select i / 7.0 from generate_series(1, 200) i;

create materialized view totals as select sum(net) as net from priced;
create view doubled as select net * 2 as net from totals;
create materialized view quadrupled as select net * 2 as net from doubled;

create table "Tábla ""quoted"" 🦆
with a newline, a $ and a . in it" ("a column" text, "ÄÖ" int);
insert into "Tábla ""quoted"" 🦆
with a newline, a $ and a . in it" values (E'tab\tnewline\nback\\slash \\. end', 1), (null, 2), ('', 3), (E'\\.', 4);
create table "odd schema.with dots"."semi;colon'--" (v jsonb, d daterange, arr text[][]);
insert into "odd schema.with dots"."semi;colon'--" values ('{"a": [1, null]}', '[2026-01-01,)', '{{a,b},{"c,d","\"e\""}}');

create unlogged table volatile_table as select i from generate_series(1, 100) i;
create table empty_table (a int, b int);
create table no_columns ();
create table guarded (who text, what text);
insert into guarded values ('a', 'x'), ('b', 'y');
alter table guarded enable row level security;
create policy own on guarded using (who = current_user);

create table toasted as
    select i, string_agg(md5((i * 1000 + j)::text), '') as long from generate_series(1, 40) i, generate_series(1, 300) j group by i;
create sequence loose_sequence start 41 increment 7;
select nextval('loose_sequence'), nextval('loose_sequence');
select lo_from_bytea(0, convert_to(repeat('a large object ' || i, 3000), 'UTF8')) from generate_series(1, 3) i;

create table django_migrations (id serial primary key, app text, name text, applied timestamptz);
insert into django_migrations (app, name, applied) values ('shop', '0001_initial', '2026-01-01'), ('shop', '0002_more', '2026-01-02');
create table django_session (key text primary key, data text);
insert into django_session select i::text, 'data' from generate_series(1, 30) i;

create function audit() returns event_trigger language plpgsql as $$ begin raise debug 'ddl'; end $$;
create event trigger audit_ddl on ddl_command_end execute function audit();
refresh materialized view totals;
