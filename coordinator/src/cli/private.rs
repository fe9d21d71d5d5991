//! `--private`: a server of our own, for a drill or a sandbox.

use std::path::PathBuf;

use clap::Args;
use lakehold_proto::fault::Result;
use lakehold_proto::manifest::Manifest;

use super::Context;
use crate::output::say;
use crate::restore::private::Private;
use crate::running::Running;

/// What may be typed of it.
#[derive(Clone, Debug, Args)]
pub struct PrivateArgs {
    /// Restore into a PostgreSQL server of its own, which is started here for the time it takes, and is deleted whatever happens
    #[arg(long, conflicts_with = "to")]
    pub private: bool,
    /// Where the private server's folder is made: it needs room for all that is restored [default: $TMPDIR, or /tmp]
    #[arg(long, requires = "private", value_name = "DIR")]
    pub scratch_dir: Option<PathBuf>,
}

impl PrivateArgs {
    /// Starts one for a snapshot, where it is asked for.
    pub(super) async fn start(&self, from: &Manifest, context: &Context) -> Result<Option<Private>> {
        if !self.private {
            return Ok(None);
        }
        let config = &context.settings.config;
        let private = Private::start(from, config, self.scratch_dir.as_deref(), context.place()).await?;
        if !context.quiet {
            let folder = private.folder().display();
            say(&format!(
                "PostgreSQL {} runs in {folder} for the time of this command",
                private.told.version
            ));
        }
        Ok(Some(private))
    }
}

/// What carries something out: on the private server, if there is one.
pub(super) async fn running(private: Option<&Private>, context: &Context, store: &str) -> Result<Running> {
    match private {
        Some(private) => private.running().await,
        None => context.running(Some(store)).await,
    }
}

/// Ends what carried something out, and the private server that it was carried out on, if any. What that still has to do there
/// when it failed is of no use to anybody, and is not waited for.
pub(super) async fn close<T>(running: Running, private: &mut Option<Private>, ended: &Result<T>) {
    match private {
        None => running.close().await,
        Some(private) => {
            if ended.is_ok() {
                running.close().await;
            } else {
                running.abandon().await;
            }
            if let Err(fault) = private.end().await
                && ended.is_err()
            {
                say(&format!("{fault}"));
            }
        }
    }
}
