//! When written bytes leave for the disk, before anybody waits for them.
use std::fs::File;
use std::io;
use std::ops::Range;

/// Lets the disk begin with these bytes of a file and returns at once. Where the system has no such call the bytes
/// leave when they are synced.
///
/// Durable they are after a sync only: neither the file's size nor where its bytes lie is written.
pub fn begin(file: &File, bytes: Range<u64>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return sync_range(file, bytes, libc::SYNC_FILE_RANGE_WRITE);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, bytes);
        Ok(())
    }
}

/// Waits until these bytes, begun before, have reached the disk.
pub fn wait(file: &File, bytes: Range<u64>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return sync_range(file, bytes, libc::SYNC_FILE_RANGE_WAIT_BEFORE);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (file, bytes);
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn sync_range(file: &File, bytes: Range<u64>, flags: libc::c_uint) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // A length of 0 would mean the rest of the file.
    if bytes.is_empty() {
        return Ok(());
    }
    let too_far = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let start = i64::try_from(bytes.start).map_err(too_far)?;
    let length = i64::try_from(bytes.end - bytes.start).map_err(too_far)?;
    // SAFETY: no pointers are passed, and the descriptor is open for as long as `file` is borrowed.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), start, length, flags) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            // File systems that don't know it, and sandboxes that forbid it: the sync does all of the work.
            error
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::ESPIPE)
                ) =>
            {
                Ok(())
            }
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn any_range_of_a_file_may_be_begun_and_waited_for() {
        let path = std::env::temp_dir().join(format!("proximadb-writeback-{}", std::process::id()));
        let mut file = File::create(&path).expect("a file can be made");
        file.write_all(&[7; 10_000]).expect("and written");
        for range in [0..4096, 4096..10_000, 0..0, 5000..1_000_000] {
            begin(&file, range.clone()).expect("begins");
            wait(&file, range).expect("ends");
        }
        std::fs::remove_file(path).expect("and removed");
    }
}
