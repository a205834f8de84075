//! Asks the daemon for the result of a run that the store doesn't have. Knows nothing about what is put back.

use std::time::Instant;

use kache_core::event::Source;
use kache_core::paths::Root;
use kache_core::protocol::Build;

use super::Run;
use crate::daemon_client::{Answer, Daemon, Names, REMOTE_ROUNDS_MAX};
use crate::{report, seed};

impl Run<'_> {
    /// Has the daemon look at the remote, for records first and then for the entry that they lead to; whether that led to
    /// a result.
    pub(super) fn try_remote(&mut self) -> bool {
        for _ in 0..REMOTE_ROUNDS_MAX {
            let Some(daemon) = Daemon::of(&self.store, self.settings) else { return false };
            let text = |name: &str| self.call.env.text(name).unwrap_or_default().to_owned();
            let build = Build {
                session: self.event.session.clone(),
                dir: self.roots.get(Root::Workspace).unwrap_or(&self.event.project).to_owned(),
                host: self.toolchain.host.clone(),
                host_toolchain: self.toolchain.id.to_string(),
                toolchain: self.toolchain.id.to_string(),
                target: String::new(),
                mode: "build".to_owned(),
                profile: text("PROFILE"),
            };
            let clock = Instant::now();
            let names = Names { crate_name: seed::RUN_CRATE_NAME, package: &self.event.package };
            let answer = daemon.find(self.key, names, &self.wanted, &build);
            self.event.times.remote_us += report::micros(clock.elapsed());
            let asked = self.wanted.clone();
            if self.try_cache().is_ok() {
                self.event.source = Some(Source::Remote);
                return true;
            }
            if answer == Answer::Nothing && self.wanted == asked {
                return false;
            }
        }
        false
    }
}
