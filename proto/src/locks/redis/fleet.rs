//! Which workers are alive. A worker says so every few seconds; who has said nothing for [`SILENCE`] counts as gone.

use std::time::Duration;

use super::RedisLocks;
use super::link::Twice;
use crate::fault::Result;

/// A worker that was silent for this long counts as gone. It should speak up three times as often.
pub(super) const SILENCE: Duration = Duration::from_secs(15);

/// The workers alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many.
    pub workers: u32,
    /// The tasks they can work on at once, all together.
    pub slots: u32,
}

impl RedisLocks {
    pub(super) async fn fleet(
        &self,
        context: &'static str,
        verb: &str,
        worker: &str,
        slots: u32,
    ) -> Result<Census> {
        let mut script = self.scripts.fleet.prepare_invoke();
        script.key(self.keys.one("fleet")).arg(verb).arg(worker).arg(slots).arg(super::millis(SILENCE));
        let (workers, slots) = self.link.call(context, Twice::Harmless, &script).await?;
        Ok(Census { workers, slots })
    }
}
