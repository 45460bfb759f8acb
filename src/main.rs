//! The command line.

fn main() -> std::process::ExitCode {
    directory_mirror::cli::run()
}
