//! A replica's output: one file each, written by the replica itself, so that nothing breaks when selfheal goes away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use selfheal_atomic_file::make_private_dir;

/// A log larger than this is set aside when its replica starts.
const ROTATE_AT: u64 = 10 * 1024 * 1024;

/// A log that grows beyond this while its replica runs is cut: its end is set aside, and it begins anew.
const CUT_AT: u64 = 32 * 1024 * 1024;

/// Logs set aside, for each replica.
const KEPT: u32 = 3;

/// The most that is read from the end of a log for people.
const TAIL_BYTES: u64 = 64 * 1024;

/// Where a replica writes.
pub fn path(dir: &Path, index: u32) -> PathBuf {
    dir.join(format!("replica-{index}.log"))
}

fn aside(log: &Path, number: u32) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Makes room for a new log to be set aside.
fn shift(log: &Path) {
    for number in (1..KEPT).rev() {
        // one that is not there yet is fine
        let _ = fs::rename(aside(log, number), aside(log, number + 1));
    }
}

/// Opens a log to be written at its end, after setting it aside if it is large.
pub fn open(log: &Path) -> io::Result<File> {
    if let Some(folder) = log.parent() {
        make_private_dir(folder)?;
    }
    if fs::metadata(log).is_ok_and(|found| found.len() > ROTATE_AT) {
        shift(log);
        fs::rename(log, aside(log, 1))?;
    }
    // appending, so that a replica goes on at the beginning after its log was cut
    OpenOptions::new().create(true).append(true).mode(0o600).open(log)
}

/// Cuts a log that has grown too large under a running replica. What is written between the copy and the cut is lost.
pub fn cut_if_large(log: &Path) -> io::Result<bool> {
    cut_above(log, CUT_AT)
}

fn cut_above(log: &Path, most: u64) -> io::Result<bool> {
    let length = match fs::metadata(log) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    if length <= most {
        return Ok(false);
    }
    shift(log);
    let mut from = OpenOptions::new().read(true).write(true).open(log)?;
    from.seek(SeekFrom::Start(length.saturating_sub(ROTATE_AT)))?;
    let mut kept = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(aside(log, 1))?;
    io::copy(&mut (&mut from).take(ROTATE_AT), &mut kept)?;
    kept.flush()?;
    from.set_len(0)?;
    Ok(true)
}

/// The last `lines` whole lines, at most as much as is read from the end of a log. Empty without a log.
pub fn tail(log: &Path, lines: usize) -> io::Result<String> {
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut whole: Vec<&str> = text.lines().collect();
    if from > 0 && whole.len() > 1 {
        // the first one began before what was read
        whole.remove(0);
    }
    let first = whole.len().saturating_sub(lines);
    Ok(whole[first..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = path(folder.path(), 0);
        assert_eq!(tail(&log, 3).unwrap(), "");
        fs::write(&log, "one\ntwo\nthree").unwrap();
        assert_eq!(tail(&log, 2).unwrap(), "two\nthree");
        assert_eq!(tail(&log, 9).unwrap(), "one\ntwo\nthree");
        let long: String = (0..20_000).map(|number| format!("line {number:06}\n")).collect();
        fs::write(&log, long).unwrap();
        let tail = tail(&log, usize::MAX).unwrap();
        assert!(tail.len() as u64 <= TAIL_BYTES);
        assert!(tail.lines().all(|line| line.len() == "line 000000".len()), "only whole lines");
    }

    #[test]
    fn a_log_is_set_aside_at_start_and_cut_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let log = path(folder.path(), 0);
        let file = open(&log).unwrap();
        file.set_len(ROTATE_AT + 1).unwrap();
        drop(file);
        let mut file = open(&log).unwrap();
        assert_eq!(fs::metadata(aside(&log, 1)).unwrap().len(), ROTATE_AT + 1);
        file.write_all(b"a line of some length\n").unwrap();
        assert!(!cut_above(&log, 100).unwrap());
        assert!(cut_above(&log, 10).unwrap());
        file.write_all(b"goes on\n").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "goes on\n");
        assert_eq!(fs::read_to_string(aside(&log, 1)).unwrap(), "a line of some length\n");
        assert_eq!(fs::metadata(aside(&log, 2)).unwrap().len(), ROTATE_AT + 1);
    }
}
