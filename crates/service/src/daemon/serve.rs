//! From settings to a running daemon: store, socket, remote, threads. Blocks until the daemon ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kache_core::config::Settings;
use kache_store::Store;
use kache_store::fault::{self, Point};

use super::levels::Levels;
use super::{BindError, Config, End, Endpoint, Program};
use crate::setup::{self, SetupError};

/// Threads that wait for the network; what needs a core or the disk has threads of its own.
const NETWORK_THREADS: usize = 2;
/// Most threads for the disk and for packing.
const WORK_THREADS_MAX: usize = 16;

/// Why a daemon can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Serves `store` with these settings. `program` is what to watch for replacement, `ready` is called once the socket
/// can be connected to.
pub fn serve(
    store: Store,
    settings: &Settings,
    program: &Path,
    version: &str,
    ready: impl FnOnce(),
) -> Result<End, ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .max_blocking_threads(WORK_THREADS_MAX)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
        .map_err(SetupError::Runtime)?;
    let store = Arc::new(store);
    let idle_s = *settings.daemon_idle_timeout_s;
    let slots = usize::try_from(*settings.s3_concurrency).unwrap_or(usize::MAX);
    let config = Config {
        store: Arc::clone(&store),
        remote: settings.remote().map(|remote| (remote.describe(), remote.identity())),
        ambient: settings.remote().map(|remote| remote.credentials_id()),
        read_only: settings.remote().is_some_and(|remote| remote.is_read_only()),
        slots,
        idle: (idle_s > 0).then(|| Duration::from_secs(idle_s)),
        limit_bytes: *settings.local_size_bytes_max,
        program: Program::at(program),
        version: version.to_owned(),
    };
    let end = runtime.block_on(async {
        // The socket first: of many that are started at once, one goes on to the rest.
        let endpoint = Endpoint::bind(&store)?;
        fault::point(Point::DaemonBound);
        let levels = setup::connect(settings, &store).await?;
        let backend = (!levels.is_empty()).then(|| Arc::new(Levels::new(levels, slots)));
        ready();
        Ok::<_, ServeError>(super::run(config, endpoint, backend).await)
    });
    // A thread that waits for the disk would otherwise be waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}
