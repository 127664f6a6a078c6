//! The CPU share of a Lambda function with little memory, by a control group.

use std::fs;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

/// Lambda gives one core to 1,769 MB, and proportionally less to less memory: 7.2 % to 128 MB.
const PERIOD_US: u32 = 20_000;
const CORE_MB: u32 = 1769;

/// A control group with the share of a function. It is removed when this is dropped.
pub(crate) struct CpuShare {
    group: PathBuf,
}

impl CpuShare {
    /// Creates a control group, or returns why this machine does not allow it.
    pub(crate) fn of_mb(memory: u32) -> Result<Self, String> {
        let name = format!("bench-{}-{memory}", std::process::id());
        let quota = PERIOD_US * memory / CORE_MB;
        let version_1 = || {
            let group = Path::new("/sys/fs/cgroup/cpu").join(&name);
            let quota = ("cpu.cfs_quota_us", quota.to_string());
            Self::create(group, &[("cpu.cfs_period_us", PERIOD_US.to_string()), quota])
        };
        let version_2 = || {
            let group = Path::new("/sys/fs/cgroup").join(&name);
            Self::create(group, &[("cpu.max", format!("{quota} {PERIOD_US}"))])
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
