//! What of the journal is kept: all that a recovery may need, and of the rest what is young and small enough, with the
//! older snapshots it goes on from.

use std::collections::VecDeque;

use super::journal::{SegmentReader, segments};
use super::{Store, StoreError};
use selfheal_model::Timestamp;
use selfheal_policy::Keep;

/// Deletes whole segments, the oldest first, that no recovery needs and that are too old or, with the older snapshots, too
/// much; then the snapshots that no segment goes on from. Gives the first sequence that is still there.
///
/// # Errors
/// A segment cannot be read or removed.
pub fn retain(store: &Store, keep: Keep, now: Timestamp) -> Result<u64, StoreError> {
    let dir = store.journal_dir();
    let names = segments(&dir).map_err(|error| StoreError::io(&dir, error))?;
    let snapshots = store.snapshots();
    let needed = snapshots.to_recover_from()?;
    let needed_from = needed.first().map_or(1, |oldest| oldest + 1);
    let mut milestones: VecDeque<u64> = snapshots.sequences()?.into();
    milestones.retain(|own| !needed.contains(own));
    let mut size: u64 = names.iter().map(|name| name.size()).sum();
    size += milestones.iter().map(|own| snapshots.size(*own)).sum::<u64>();
    let mut first = names.first().map_or(needed_from, |name| name.first);
    for pair in names.windows(2) {
        let (name, next) = (&pair[0], &pair[1]);
        if next.first > needed_from {
            break;
        }
        let end = SegmentReader::open(name)?.end()?;
        let is_old = end.is_none_or(|end| now.since(end) > keep.age);
        if !is_old && size <= keep.size.0 {
            break;
        }
        size -= name.size().min(size);
        name.remove().map_err(|error| StoreError::io(&name.path, error))?;
        first = next.first;
        while let Some(useless) = milestones.pop_front_if(|own| *own + 1 < first) {
            size -= snapshots.size(useless).min(size);
            snapshots.forget(useless)?;
        }
    }
    Ok(first)
}
