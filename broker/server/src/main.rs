//! The `wardline` command.

fn main() -> std::process::ExitCode {
    wardline::commands::main()
}
