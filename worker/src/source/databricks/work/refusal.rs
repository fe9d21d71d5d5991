//! What a listing that failed means for the slice it was to list.

use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::outcome::Standing;
use lakehold_proto::task::Shard;

use super::super::kinds::Row;
use super::Work;
use crate::capture::Capture;

/// Where a slice stands whose listing ended in `fault`.
pub(super) fn standing(fault: &Fault) -> Standing {
    match (fault.class, fault.code) {
        // Being unknown, or led to a login page, is no right that is missing on this kind: nothing can be said about it.
        (Class::Denied, "http.denied") => Standing::Forbidden,
        (Class::Unsupported, "http.not-enabled") => Standing::NotEnabled,
        (Class::Unsupported, "http.unsupported") => Standing::Unsupported,
        _ => Standing::Failed,
    }
}

impl Work {
    /// Writes down that the listing of `row` in `shard` failed, where that is an answer. A parent that is gone is none: its
    /// items are gone with it.
    ///
    /// # Errors
    /// The fault itself when it says nothing about the slice, so that the task is tried again or ends as a gap.
    pub(super) fn not_listed(
        &self,
        capture: &mut Capture,
        row: &'static Row,
        shard: &Shard,
        fault: Fault,
    ) -> Result<()> {
        let whole = shard.scope.is_empty();
        if fault.class == Class::Absent && !whole {
            tracing::debug!(kind = row.name, %shard, "what was to be listed is gone");
            return Ok(());
        }
        // A server that has never heard of the listing says a bare 404; one that knows it names a code.
        let unheard =
            fault.class == Class::Absent && fault.http.as_ref().is_some_and(|http| http.code.is_none());
        let standing = if unheard { Standing::Unsupported } else { standing(&fault) };
        if standing == Standing::Failed {
            return Err(fault.while_doing(format!("list the kind {}", row.name)));
        }
        let permission = (standing == Standing::Forbidden).then(|| row.permission.to_owned());
        let carried = row.carries.filter(|carries| self.wants(carries.kind));
        let kinds: Vec<_> = self
            .subtree(row)
            .iter()
            .filter(|row| carried.is_none_or(|carries| carries.kind != row.name))
            .map(|row| row.kind())
            .collect();
        if !kinds.is_empty() {
            capture.unlisted(kinds, shard.clone(), standing, &fault, permission.clone());
        }
        if let Some(carries) = carried {
            // Other kinds carry it too: only what lies under this one's name is unknown.
            let kind = lakehold_proto::ids::Kind::of(carries.kind);
            capture.unlisted(vec![kind], Shard::under(carries.under), standing, &fault, permission);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_says_of_itself_is_not_a_failure() {
        let of = |class, code| standing(&Fault::new(class, code, "x", "y"));
        assert_eq!(of(Class::Denied, "http.denied"), Standing::Forbidden);
        assert_eq!(of(Class::Denied, "http.unauthenticated"), Standing::Failed);
        assert_eq!(of(Class::Denied, "http.login-page"), Standing::Failed);
        assert_eq!(of(Class::Unsupported, "http.not-enabled"), Standing::NotEnabled);
        assert_eq!(of(Class::Unsupported, "http.unsupported"), Standing::Unsupported);
        assert_eq!(of(Class::Unsupported, "http.too-large"), Standing::Failed);
        assert_eq!(of(Class::Unavailable, "http.not-a-list"), Standing::Failed);
        assert_eq!(of(Class::Bug, "http.refused"), Standing::Failed);
    }
}
