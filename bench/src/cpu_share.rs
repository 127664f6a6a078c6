//! The share of CPU that a function of 128 MB has on Lambda, by a control group of the kernel's.

use std::{
    fs,
    io::{Error, ErrorKind},
    path::{Path, PathBuf},
};

/// Lambda gives a function of 1,769 MB one core, and less memory its part of one: 7.2 % with 128 MB.
const PERIOD_US: u32 = 20_000;
const QUOTA_US: u32 = PERIOD_US * 128 / 1769;

/// A control group that holds the processes in it to that share; it is removed when this is dropped.
pub(crate) struct CpuShare {
    group: PathBuf,
}

impl CpuShare {
    /// Makes one; or says why this machine does not let us.
    pub(crate) fn of_128_mb() -> Result<Self, String> {
        let name = format!("bench-{}", std::process::id());
        let files = [("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", QUOTA_US.to_string())];
        let version_1 = || Self::make(Path::new("/sys/fs/cgroup/cpu").join(&name), &files);
        let version_2 =
            || Self::make(Path::new("/sys/fs/cgroup").join(&name), &[("cpu.max", format!("{QUOTA_US} {PERIOD_US}"))]);
        version_1().or_else(|first| version_2().map_err(|second| format!("cgroup v1: {first}; v2: {second}")))
    }

    fn make(group: PathBuf, settings: &[(&str, String)]) -> Result<Self, Error> {
        let Some(parent) = group.parent().filter(|parent| parent.join("cgroup.procs").exists()) else {
            return Err(Error::new(ErrorKind::NotFound, "there is no such hierarchy with a cpu controller"));
        };
        if parent.join("cgroup.controllers").exists() {
            // Already so where systemd runs.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu");
        }
        fs::create_dir(&group)?;
        let share = Self { group };
        for (file, value) in settings {
            fs::write(share.group.join(file), value)?;
        }
        Ok(share)
    }

    /// Holds a process, all its threads, to the share from now on.
    pub(crate) fn hold(&self, pid: u32) {
        fs::write(self.group.join("cgroup.procs"), pid.to_string()).expect("a process can be moved into the group");
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        // The last process in it has been waited for, so it is empty.
        let _ = fs::remove_dir(&self.group);
    }
}
