//! What of the journal is kept: all that a recovery may need, and of the rest what is young and small enough.

use super::journal::{SegmentReader, segments};
use super::{Store, StoreError};
use crate::model::Timestamp;
use crate::policy::Keep;

/// Deletes whole segments, the oldest first, that no kept snapshot needs and that are too old or too much. Gives the first
/// sequence that is still there.
///
/// # Errors
/// A segment cannot be read or removed.
pub fn retain(store: &Store, keep: Keep, now: Timestamp) -> Result<u64, StoreError> {
    let dir = store.journal_dir();
    let names = segments(&dir).map_err(|error| StoreError::io(&dir, error))?;
    let needed_from = store.snapshots().sequences()?.first().map_or(1, |oldest| oldest + 1);
    let mut size: u64 = names.iter().map(|name| name.size()).sum();
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
    }
    Ok(first)
}
