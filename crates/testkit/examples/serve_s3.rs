//! The test server by hand: prints what to set so that kache uses it, and serves until its standard input ends.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let server = kache_testkit::S3::start();
    let mut out = std::io::stdout().lock();
    for (name, value) in server.env() {
        writeln!(out, "export {name}={value}")?;
    }
    out.flush()?;
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}
