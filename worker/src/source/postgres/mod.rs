//! PostgreSQL servers as environments.
//!
//! PostgreSQL's own programs do the dumping: `pg_dump` and `pg_dumpall`, and one `psql` that asks the catalogue and holds the
//! transaction. What they reach is what is reached, by the same rules (libpq's): there is no second client whose idea of a
//! connection could differ.
//!
//! **Consistency**: a database is captured from one snapshot. Its tables are locked before the snapshot is taken, or a
//! `TRUNCATE` in between would leave them empty, with success. **Completeness**: an item's data counts only if the block of the
//! archive that holds it ended, and its `pg_dump` with it, well. **Cancellation** ends the programs: they are killed with the
//! future that waits for them. **After a crash** they end by themselves, since nobody reads what they write. **Secrets**: a
//! password is in no argument and no environment block, but in a file without a name that lives in memory ([`connection`]).

mod archive;
mod catalog;
mod connection;
mod dump;
mod fault;
mod hooks;
mod kinds;
mod names;
mod patterns;
mod private;
mod probe;
mod programs;
mod reading;
mod restore;
mod sandbox;
mod session;
mod settings;
mod source;
mod work;

pub use kinds::{is_named_by_databases, untried};
pub use private::{PrivateServer, Wish};
pub use restore::Postgres;
pub use sandbox::Sandbox;
pub use settings::Settings;
pub use source::{NAME, PostgresSource, comparable};
pub use work::told_in;
