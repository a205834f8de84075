//! The set-up of each kind of remote, as its page of the guide shows it: the settings are those of the page, with another
//! place, and the commands are those of the page.

use std::path::Path;

use kache_testkit::{Azure, GitHub, Google, Manners, Project, S3, Web};

use crate::fixtures::ALL_KINDS;
use crate::remote::{machine_with, moved, ok};
use crate::serve::Served;
use crate::support::{Lab, Outcomes as _};

/// A page: its first settings, and its blocks of commands.
struct Page {
    settings: String,
    commands: Vec<Vec<String>>,
}

impl Page {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let blocks = |kind: &str| -> Vec<String> {
            let begin = format!("```{kind}\n");
            let begun = text.split(&begin).skip(1);
            begun.filter_map(|rest| Some(rest.split_once("```")?.0.to_owned())).collect()
        };
        let words = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
        let commands = blocks("sh").iter().map(|block| block.lines().map(words).collect()).collect();
        Self { settings: blocks("toml").swap_remove(0), commands }
    }

    /// The settings, where each of these texts, which are there, is replaced; as the machine's own.
    fn set_up(&self, lab: &Lab, places: &[(&str, String)]) {
        let mut settings = self.settings.clone();
        for (shown, real) in places {
            assert!(settings.contains(shown), "{shown} isn't in {settings}");
            settings = settings.replace(shown, real);
        }
        let dir = lab.root().join("home/.config/kache");
        std::fs::create_dir_all(&dir).expect("folder");
        std::fs::write(dir.join("config.toml"), settings).expect("settings");
    }

    /// Runs a block of commands in a project.
    fn run(&self, block: usize, project: &Project<'_>) {
        for line in &self.commands[block] {
            match line.split_once(' ').expect("a command") {
                ("kache", args) => drop(ok(project, args)),
                ("cargo", args) => drop(project.cargo(args).ok().all_hit()),
                _ => panic!("{line}"),
            }
        }
    }
}

/// One machine does what a page says, another one as well, and compiles nothing.
fn shares(page: &str, places: &[(&str, String)], env: &[(&'static str, String)]) {
    let page = Page::read(page);
    let here = machine_with(env.to_vec());
    page.set_up(&here, places);
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    page.run(0, &one);
    let there = machine_with(env.to_vec());
    page.set_up(&there, places);
    let two = moved(&there, &one);
    page.run(1, &two);
    two.cargo("run").same();
}

fn bucket(server: &S3) -> (String, Vec<(&'static str, String)>) {
    let place = format!("\"{}\"\nendpoint = \"{}\"", S3::BUCKET, server.endpoint());
    let keys = server.env().into_iter().filter(|(name, _)| name.ends_with("_KEY"));
    (place, keys.collect())
}

#[test]
fn a_folder() {
    let dir = tempfile::tempdir().expect("temp dir");
    shares("remote-folder.md", &[("/mnt/build-cache", dir.path().display().to_string())], &[]);
}

#[test]
fn a_web_server() {
    let server = Web::start(Manners::Heedless);
    let token = [("KACHE_REMOTE_TOKEN", Web::TOKEN.to_owned())];
    shares("remote-web.md", &[("https://cache.internal.example.com/kache", server.url())], &token);
}

#[test]
fn a_bucket() {
    let server = S3::start();
    let (place, keys) = bucket(&server);
    shares("remote-s3.md", &[("\"my-build-cache\"", place)], &keys);
}

#[test]
fn a_bucket_of_google() {
    let server = Google::start();
    let mut env = server.env();
    env.retain(|(name, _)| *name != "KACHE_GCS_BUCKET");
    shares("remote-gcs.md", &[("my-build-cache", Google::BUCKET.to_owned())], &env);
}

#[test]
fn a_container_of_azure() {
    let server = Azure::start();
    let mut env = server.env();
    env.retain(|(name, _)| matches!(*name, "AZURE_STORAGE_KEY" | "KACHE_AZURE_ENDPOINT"));
    let places =
        [("mybuildcache", Azure::ACCOUNT.to_owned()), ("\"kache\"", format!("{:?}", Azure::CONTAINER))];
    shares("remote-azure.md", &places, &env);
}

#[test]
fn the_cache_service_of_github() {
    let server = GitHub::start();
    let mut env = server.env();
    env.retain(|(name, _)| name.starts_with("ACTIONS_"));
    shares("remote-gha.md", &[], &env);
}

#[test]
fn levels() {
    let (dir, server) = (tempfile::tempdir().expect("temp dir"), S3::start());
    let (place, keys) = bucket(&server);
    let folder = ("/mnt/build-cache", dir.path().display().to_string());
    shares("remote-levels.md", &[folder, ("\"my-build-cache\"", place)], &keys);
    assert_eq!(server.count("PUT", ""), 0, "the page has it for reading only");
}

#[test]
fn a_machine_that_serves() {
    const PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEILP2jBQzU8D6r08U2KiHwZpVloQnLn0a0dviey3OFGKI";
    const PUBLIC: &str = "MCowBQYDK2VwAyEAVaWsN35x3G/LhFWbltTFO8ibi79WcszEMBKg78MNq1Y=";
    let page = Page::read("remote-serve.md");
    let here = machine_with(Vec::new());
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    let key = here.root().join("kache.key");
    std::fs::write(&key, PRIVATE).expect("written");
    assert!(page.commands[0].iter().all(|line| line.starts_with("kache serve")), "{:?}", page.commands[0]);
    let served = Served::start(&here, &["--signing-key", &key.display().to_string()]);
    let there = machine_with(Vec::new());
    let places =
        [("http://192.168.1.7:8271", served.url().to_owned()), ("MCowBQYDK2VwAyEA…", PUBLIC.to_owned())];
    page.set_up(&there, &places);
    let two = moved(&there, &one);
    page.run(1, &two);
    two.cargo("run").same();
}
