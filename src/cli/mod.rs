//! The commands of contract §1, one file each: arguments in, an outcome out, and the outcome to an
//! exit code. The only room that writes to standard output. Read `place.rs` first: which
//! configuration and which store a command is about.

mod audit;
mod check;
mod client;
mod client_list;
mod dev;
mod drain;
mod echo;
mod explain;
mod explain_store;
mod failure;
mod health;
mod output;
mod place;
mod serve;
mod signals;
mod token;
mod token_revoke;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Code, Failure};
use place::Place;

/// What every command's help ends with: examples of its own, then what all have in common.
macro_rules! help {
    ($examples:literal) => {
        help!($examples, "")
    };
    ($examples:literal, $more:literal) => {
        concat!(
            "Examples:\n",
            $examples,
            "\n\nEnvironment:\n",
            "  SIDEGATE_CONFIG       the configuration file when --config is not given;\n",
            "                        without either it is ./config.toml\n",
            "  SIDEGATE__TABLE__KEY  overrides a key of the configuration, for example\n",
            "                        SIDEGATE__SERVER__LISTEN=127.0.0.1:8081\n",
            "  RUNTIME_DIRECTORY     where the control socket is (unset: /run/sidegate and beside the\n",
            "                        store and the configuration file are looked at)\n",
            $more,
            "\nExit codes:\n",
            "   0  done, or stopped gracefully\n",
            "  64  wrong usage\n",
            "  69  a service that is needed is unavailable: the store, an address in\n      use, or a running sidecar\n",
            "  78  wrong configuration\n",
            "   1  anything else"
        )
    };
}
use help;

/// A reverse proxy that knows who is calling: it validates tokens in front of a service that has no
/// authentication, and tells that service by headers who the caller is.
///
/// Start with `sidegate dev`: it needs nothing, and shows the whole thing on this machine. To put it
/// in front of a service of your own, write a configuration (`config.example.toml` explains every
/// key), look at it with `sidegate check`, and run `sidegate serve`. While it runs, `sidegate client`
/// and `sidegate token` manage who may call; what they do holds when they return.
#[derive(Debug, Parser)]
#[command(
    name = "sidegate",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_long_help = help!(
        "  sidegate dev                                 try it, nothing to prepare\n  \
           sidegate check -c /etc/sidegate/config.toml  every mistake in a configuration\n  \
           sidegate serve -c /etc/sidegate/config.toml  run it\n  \
           sidegate client add reports --scope read     a client that may ask for tokens\n  \
           sidegate explain GET '/orders?sudo=uid:7'    what would happen to this request"
    )
)]
struct Arguments {
    /// The configuration file; without it SIDEGATE_CONFIG, then ./config.toml
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::Arguments),
    Serve(serve::Arguments),
    Check(check::Arguments),
    Explain(explain::Arguments),
    #[command(subcommand)]
    Client(client::Command),
    #[command(subcommand)]
    Token(token::Command),
    Drain(drain::Arguments),
    Health(health::Arguments),
    Echo(echo::Arguments),
}

/// Runs the command that the process's arguments name, and gives the code to end with.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Arguments::try_parse() {
        Ok(Arguments { config, command }) => run(command, &Place::new(config)),
        Err(error) => Err(misused(&error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command, place: &Place) -> Result<(), Failure> {
    match command {
        Command::Dev(arguments) => dev::run(&arguments, place),
        Command::Serve(arguments) => serve::run(&arguments, place),
        Command::Check(arguments) => check::run(&arguments, place),
        Command::Explain(arguments) => explain::run(&arguments, place),
        Command::Client(command) => client::run(command, place),
        Command::Token(command) => token::run(command, place),
        Command::Drain(arguments) => drain::run(&arguments, place),
        Command::Health(arguments) => health::run(&arguments, place),
        Command::Echo(arguments) => echo::run(&arguments, place),
    }
}

/// What the parser has to say: help and version are no mistakes, everything else is wrong usage.
/// An argument that it repeats may be a token in the wrong place.
fn misused(error: &clap::Error) -> Failure {
    if error.use_stderr() {
        let text = error.render().to_string();
        let clean = values::without_tokens(&text);
        if clean == text {
            let _ = error.print();
        } else {
            output::say(clean.trim_end());
        }
        return Failure::Silent(Code::Usage);
    }
    match error.print() {
        Ok(()) => Failure::NobodyReads,
        Err(error) => output::failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_declared_without_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_examples_and_exit_codes() {
        fn look(command: &mut clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.render_long_help().to_string();
            for expected in ["Examples:", "Exit codes:", "SIDEGATE_CONFIG"] {
                assert!(help.contains(expected), "{path}: {expected} in\n{help}");
            }
            for below in command.get_subcommands_mut() {
                if below.get_name() != "help" {
                    look(below, &path);
                }
            }
        }
        look(&mut Arguments::command(), "");
    }
}
