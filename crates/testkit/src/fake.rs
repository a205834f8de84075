//! The scriptable compiler seen from a test: installs it as a toolchain of its own, sets its script, reads its log.
//! What it does is in `programs/fake_rustc.rs`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::toolchain::toolchain;

/// A toolchain (`bin/rustc`, a driver library) whose compiler does what a script says.
///
/// Steps of a script, one a line:
///
/// | step | effect |
/// | --- | --- |
/// | `emit KIND [TEXT]` | writes `dep-info`, `metadata` or `link` where rustc would (if asked for), or a file of that name in the output directory; without a text the content follows from the sources and `--cfg`s |
/// | `announce KIND` | prints the artifact notification (if asked for) |
/// | `dep PATH`, `env-dep NAME` | named by a later `emit dep-info` |
/// | `say TEXT`, `print TEXT` | a line on standard error, standard output |
/// | `diagnostic LEVEL TEXT` | a JSON diagnostic |
/// | `wait PATH` | waits until the file exists |
/// | `write PATH TEXT`, `remove PATH` | side effects |
/// | `read PATH`, `list PATH` | inputs that nothing reports |
/// | `sleep MS`, `exit CODE`, `kill SIGNAL` | as they say |
pub struct FakeRustc {
    home: PathBuf,
}

impl FakeRustc {
    /// Installs the toolchain at `home`.
    pub fn install(home: impl Into<PathBuf>) -> Self {
        let home = home.into();
        for dir in ["bin", "lib", "script"] {
            fs::create_dir_all(home.join(dir)).expect("make the fake toolchain");
        }
        fs::copy(env!("TESTKIT_FAKE_RUSTC"), home.join("bin/rustc")).expect("install the fake compiler");
        let fake = Self { home };
        fake.set_driver("driver library 1");
        fake.set_version(&toolchain().version);
        fake
    }

    /// The compiler.
    pub fn rustc(&self) -> PathBuf {
        self.home.join("bin/rustc")
    }

    /// The sysroot.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What `-vV` answers.
    pub fn set_version(&self, text: &str) {
        fs::write(self.home.join("version"), text).expect("set the version");
    }

    /// Content of the driver library: a compiler that was rebuilt has another one.
    pub fn set_driver(&self, content: &str) {
        fs::write(self.home.join("lib/librustc_driver-0123456789abcdef.so"), content)
            .expect("set the driver");
    }

    /// What to do for a crate; `default` is for crates without a script.
    pub fn script(&self, crate_name: &str, steps: &str) {
        fs::write(self.home.join("script").join(crate_name), steps).expect("set the script");
    }

    /// Compiles so far, one line of arguments each. Questions (`-vV`, `--print`) don't count.
    pub fn calls(&self) -> Vec<String> {
        self.log("calls")
    }

    /// Everything it was ever started for.
    pub fn starts(&self) -> Vec<String> {
        self.log("all-calls")
    }

    fn log(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.home.join(format!("{name}.profraw"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What Cargo passes for a library: the compiler first.
    pub fn library(&self, name: &str, source: &str, out_dir: &Path) -> Vec<OsString> {
        let mut args = vec![self.rustc().into_os_string()];
        args.extend(["--crate-name", name, "--edition=2024", source].map(OsString::from));
        args.extend(
            ["--error-format=json", "--json=diagnostic-rendered-ansi,artifacts,future-incompat"]
                .map(Into::into),
        );
        args.extend(
            ["--crate-type", "lib", "--emit=dep-info,metadata,link", "-C", "embed-bitcode=no"]
                .map(Into::into),
        );
        args.extend(["-C", "debuginfo=2", "--check-cfg", "cfg(docsrs,test)"].map(Into::into));
        args.extend(
            ["-C", "metadata=0123456789abcdef", "-C", "extra-filename=-fedcba9876543210"].map(Into::into),
        );
        args.extend([OsString::from("--out-dir"), out_dir.into()]);
        args.push("-L".into());
        args.push(format!("dependency={}", out_dir.display()).into());
        args
    }
}
