//! Logs of wrapper and daemon: what is let into the file. Knows nothing about which file that is.
//!
//! What kache itself says is chosen by the filter. Libraries stay at `info` at most: below, the clients of AWS and HTTP
//! write whole requests with the tokens in them.

use std::io::Write;
use std::sync::Mutex;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What the names of kache's own modules begin with.
const OWN: &str = "kache";

/// Sends what the filter chooses to `file`. What is wrong with the filter is said there, and `otherwise` takes its place.
/// A second log in one process is refused; the first one stays.
pub fn start(filter: &str, otherwise: &str, file: impl Write + Send + 'static) {
    let (parsed, problem) = match EnvFilter::try_new(filter) {
        Ok(parsed) => (parsed, None),
        Err(error) => (EnvFilter::new(otherwise), Some(error)),
    };
    let log =
        tracing_subscriber::fmt().with_env_filter(parsed).with_writer(Mutex::new(file)).with_ansi(false);
    let _ = log.finish().with(filter_fn(is_fit)).try_init();
    if let Some(error) = problem {
        tracing::error!("the log's filter {filter:?} is not valid, {otherwise:?} is used: {error}");
    }
}

fn is_fit(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(OWN) || *metadata.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("lock").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn libraries_say_nothing_below_info_whatever_the_filter() {
        let file = Shared::default();
        start("trace,aws_sigv4=trace", "error", file.clone());
        tracing::trace!(target: "kache_service::transfer", "own trace");
        tracing::info!(target: "aws_config", "their info");
        tracing::trace!(target: "aws_sigv4::http_request::sign", "x-amz-security-token:hush");
        tracing::debug!(target: "hyper_util::client", "authorization: hush");
        let text = String::from_utf8(file.0.lock().expect("lock").clone()).expect("text");
        assert!(text.contains("own trace") && text.contains("their info"), "{text}");
        assert!(!text.contains("hush"), "{text}");
    }
}
