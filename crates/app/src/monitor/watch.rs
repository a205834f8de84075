//! Asks the daemon how it is, every now and then, in a thread of its own: one that hangs must not keep the dashboard
//! from drawing. Starts none.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use kache_store::Store;

use super::daemon::Daemon;
use crate::health;

const PAUSE: Duration = Duration::from_secs(1);

/// What was heard of the daemon last.
#[derive(Debug)]
pub struct Watch {
    latest: Arc<Mutex<Daemon>>,
}

impl Watch {
    /// Begins to ask the daemon of a store, until this value is dropped. Without a thread for it nothing is ever heard.
    pub fn begin(store: Store) -> Self {
        let latest = Arc::default();
        let told = Arc::downgrade(&latest);
        let asking = thread::Builder::new().name("daemon".to_owned()).spawn(move || ask(&store, &told));
        if let Err(error) = asking {
            tracing::warn!(%error, "the daemon is not watched");
        }
        Self { latest }
    }

    pub fn latest(&self) -> Daemon {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn ask(store: &Store, told: &Weak<Mutex<Daemon>>) {
    loop {
        let heard = match health::of_daemon(store) {
            Ok(Some(status)) => Daemon::Running(Box::new(status)),
            Ok(None) => Daemon::Absent,
            Err(trouble) => Daemon::Silent(trouble.to_string()),
        };
        let Some(latest) = told.upgrade() else { return };
        *latest.lock().unwrap_or_else(PoisonError::into_inner) = heard;
        drop(latest);
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use kache_core::protocol::{HEADER_BYTES, Reply, Status, encode};

    use super::*;

    fn wait_for(watch: &Watch, wanted: impl Fn(&Daemon) -> bool) {
        while !wanted(&watch.latest()) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A daemon that answers as told, in place of the real one.
    #[test]
    fn a_daemon_that_comes_and_goes_is_seen_and_none_is_started() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("store");
        store.make_daemon_dir().expect("made");
        let watch = Watch::begin(Store::open_existing(dir.path()).expect("store"));
        wait_for(&watch, |daemon| *daemon == Daemon::Absent);
        assert!(!store.socket_path().exists());
        let listener = UnixListener::bind(store.socket_path()).expect("bound");
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            let mut header = [0; HEADER_BYTES];
            stream.read_exact(&mut header).expect("a request");
            let status = Status { pid: 42, ..Status::default() };
            stream.write_all(&encode(&Reply::Status(Box::new(status))).expect("short")).expect("answered");
        });
        wait_for(&watch, |daemon| matches!(daemon, Daemon::Running(status) if status.pid == 42));
        serving.join().expect("served");
        // The socket is left behind, and nobody listens.
        wait_for(&watch, |daemon| *daemon == Daemon::Absent);
    }
}
