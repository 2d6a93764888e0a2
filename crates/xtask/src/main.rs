//! `cargo xtask`: everything that is done with the repository and is not shipped: tests, house rules, benchmarks,
//! fuzzing, man pages. CI runs `cargo xtask test` and nothing else.

mod bench;
mod bpf;
mod deny;
mod fuzz;
mod kernels;
mod man;
mod step;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Tests, house rules, benchmarks and pages of Tallystick"
)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything CI checks: set-up, format, lints, house rules, licences, tests, end-to-end tests
    Test(test::Options),
    /// The house rules alone: every fault as file:line: message
    Tidy,
    /// Licences, bans, versions and sources of the dependencies, as deny.toml lists them
    Deny,
    /// Compile the BPF programs into the objects that are committed
    Bpf,
    /// Measure against the floors and the peers that docs/performance.md names
    Bench(bench::Options),
    /// Run a fuzz target, list them, or check that all build
    Fuzz(fuzz::Options),
    /// Run the sensors' tests on Debian's 6.1 kernel in QEMU: minutes, so not a part of `test`
    TestKernels(kernels::Options),
    /// Write man pages and shell completions into a directory
    Man {
        /// Where to; it is made if need be
        #[arg(default_value = "target/man")]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let root = root();
    let done = match Options::parse().task {
        Task::Test(options) => test::start(root, &options),
        Task::Tidy => tidy::run(root),
        Task::Deny => deny::run(root),
        Task::Bpf => bpf::build(root),
        Task::Bench(options) => bench::start(root, &options),
        Task::Fuzz(options) => fuzz::start(root, &options),
        Task::TestKernels(options) => kernels::start(root, &options),
        Task::Man { dir } => man::write(root, &root.join(dir)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository: two directories above this crate's.
fn root() -> &'static Path {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).expect("the crate lies in crates/xtask")
}
