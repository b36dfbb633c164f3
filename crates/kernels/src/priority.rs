//! How much of a busy processor a thread gets.

/// Lets the calling thread, and those that it starts from now on, step back behind the rest of the process by
/// `steps` of niceness. Says whether the system did so; where it knows no such thing per thread, nothing happens.
///
/// There is no way back: without privileges a process may give processor time away but not take it.
pub fn step_back(steps: u8) -> bool {
    #[cfg(target_os = "linux")]
    {
        // On Linux a thread has a niceness of its own, and 0 means the calling thread.
        // SAFETY: neither call takes a pointer. -1 is also a niceness, so errno alone tells a failure, and
        // the thread's own errno may be written at any time.
        let now = unsafe {
            *libc::__errno_location() = 0;
            libc::getpriority(libc::PRIO_PROCESS, 0)
        };
        if std::io::Error::last_os_error().raw_os_error() != Some(0) {
            return false;
        }
        let nice = (now + i32::from(steps)).min(19);
        // SAFETY: as above.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = steps;
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has it");
        // The 19th field; the second, the name in parentheses, may hold spaces.
        let rest = stat.rsplit_once(") ").expect("a name").1;
        rest.split(' ').nth(16).and_then(|field| field.parse().ok()).expect("a number")
    }

    #[test]
    fn one_thread_and_its_children_step_back_and_no_other() {
        let before = niceness();
        let (own, childs) = std::thread::spawn(|| {
            assert!(step_back(3));
            (niceness(), std::thread::spawn(niceness).join().expect("no panic"))
        })
        .join()
        .expect("no panic");
        assert_eq!((own, childs), ((before + 3).min(19), (before + 3).min(19)));
        assert_eq!(niceness(), before);
    }

    #[test]
    fn the_end_of_the_scale_is_kept() {
        let least = std::thread::spawn(|| (step_back(255), niceness())).join().expect("no panic");
        assert_eq!(least, (true, 19));
    }
}
