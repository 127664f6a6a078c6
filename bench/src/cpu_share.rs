//! The CPU share of a Lambda function with 128 MB, by a control group.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// Lambda gives one core to 1,769 MB, and proportionally less to less memory: 7.2 % to 128 MB.
const PERIOD_US: u32 = 20_000;
const QUOTA_US: u32 = PERIOD_US * 128 / 1769;

/// A control group with that share. It is removed when this is dropped.
pub(crate) struct CpuShare {
    group: PathBuf,
}

impl CpuShare {
    /// Creates a control group, or returns why this machine does not allow it.
    pub(crate) fn of_128_mb() -> Result<Self, String> {
        let name = format!("bench-{}", std::process::id());
        let version_1 = || {
            let group = Path::new("/sys/fs/cgroup/cpu").join(&name);
            let quota = ("cpu.cfs_quota_us", QUOTA_US.to_string());
            Self::create(group, &[("cpu.cfs_period_us", PERIOD_US.to_string()), quota])
        };
        let version_2 = || {
            let group = Path::new("/sys/fs/cgroup").join(&name);
            Self::create(group, &[("cpu.max", format!("{QUOTA_US} {PERIOD_US}"))])
        };
        version_1().or_else(|first| version_2().map_err(|second| format!("cgroup v1: {first}; v2: {second}")))
    }

    fn create(group: PathBuf, settings: &[(&str, String)]) -> Result<Self, Error> {
        let Some(parent) = group.parent().filter(|parent| parent.join("cgroup.procs").exists()) else {
            return Err(Error::new(ErrorKind::NotFound, "no hierarchy with a CPU controller"));
        };
        if parent.join("cgroup.controllers").exists() {
            // An error means that systemd has done it.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu");
        }
        fs::create_dir(&group)?;
        let share = Self { group };
        for (file, value) in settings {
            fs::write(share.group.join(file), value)?;
        }
        Ok(share)
    }

    /// Limits a process and its threads to the share.
    pub(crate) fn limit(&self, pid: u32) {
        fs::write(self.group.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        // All its processes have ended, so the group is empty.
        let _ = fs::remove_dir(&self.group);
    }
}
