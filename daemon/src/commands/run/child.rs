//! The command as a child process: its own input, output and terminal, the signals that are meant for it, and its status in
//! the form in which shells report it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::environment::Variable;

/// Signals that are passed on. The others either cannot be caught or mean this process alone.
const PASSED_ON: [i32; 6] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];

/// How the command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It ran; the code is its own, or 128 and its signal's number.
    Ran(u8),
    /// It could not be started.
    NotStarted {
        /// 127 when there is no such command, else 126, as in shells.
        code: u8,
        /// What went wrong.
        message: String,
    },
}

impl Ending {
    /// The code to exit with.
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Ran(code) | Self::NotStarted { code, .. } => *code,
        }
    }

    fn of(status: ExitStatus) -> Self {
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Self::Ran(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
    }

    fn not_started(command: &[OsString], error: &io::Error) -> Self {
        let program = command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
        if error.kind() == io::ErrorKind::NotFound {
            return Self::NotStarted {
                code: 127,
                message: format!("{program}: command not found"),
            };
        }
        Self::NotStarted { code: 126, message: format!("{program}: {error}") }
    }
}

/// Runs the command to its end. Signals for this process go to the command, and end this process only through it.
pub(super) async fn run(command: &[OsString], variables: &[Variable]) -> Ending {
    let [program, arguments @ ..] = command else {
        return Ending::NotStarted { code: 127, message: "there is no command to run".to_owned() };
    };
    let mut child = tokio::process::Command::new(program);
    child.args(arguments);
    for variable in variables {
        match &variable.value {
            Some(value) => child.env(&*variable.name, value),
            None => child.env_remove(&*variable.name),
        };
    }
    // Before the command exists: a signal in between must not end us and leave it alone.
    let signals = match SignalsInfo::<WithOrigin>::new(caught(ignored())) {
        Ok(signals) => signals,
        Err(error) => return Ending::not_started(command, &error),
    };
    let mut child = match child.spawn() {
        Ok(child) => child,
        Err(error) => return Ending::not_started(command, &error),
    };
    let handle = signals.handle();
    let passing_on = child.id().and_then(|id| i32::try_from(id).ok()).map(|id| {
        let child = Pid::from_raw(id);
        std::thread::spawn(move || pass_on(signals, child))
    });
    let status = child.wait().await;
    handle.close();
    if let Some(thread) = passing_on
        && thread.join().is_err()
    {
        tracing::warn!("the thread that passes signals on has failed");
    }
    status.map_or_else(|error| Ending::not_started(command, &error), Ending::of)
}

fn pass_on(mut signals: SignalsInfo<WithOrigin>, child: Pid) {
    for origin in signals.forever() {
        if !is_for_both(&origin)
            && let Ok(signal) = Signal::try_from(origin.signal)
            && let Err(error) = kill(child, signal)
        {
            tracing::debug!(%error, %signal, "the command was gone before the signal");
        }
    }
}

/// Whether the command has got the signal already: the terminal sends Ctrl-C, Ctrl-\ and its own end to all processes in the
/// foreground, and the command must not get them twice.
fn is_for_both(origin: &Origin) -> bool {
    matches!(origin.cause, Cause::Kernel)
}

/// The signals to catch: those that were ignored when we were started stay ignored, here and in the command (`nohup`).
fn caught(ignored: u64) -> Vec<i32> {
    PASSED_ON.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect()
}

/// The signals that are ignored, bit n - 1 standing for signal n; none where the system does not say.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str) -> Ending {
        let command = ["sh", "-c", script].map(OsString::from);
        run(&command, &[]).await
    }

    #[tokio::test]
    async fn the_status_is_the_commands_own() {
        assert_eq!(shell("exit 0").await, Ending::Ran(0));
        assert_eq!(shell("exit 37").await, Ending::Ran(37));
        assert_eq!(shell("kill -TERM $$").await, Ending::Ran(143));
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_is_told_as_shells_do() {
        let missing = run(&["/no/such/program".into()], &[]).await;
        assert_eq!(missing.exit_code(), 127);
        let folder = run(&["/".into()], &[]).await;
        assert_eq!(folder.exit_code(), 126);
        assert_eq!(run(&[], &[]).await.exit_code(), 127);
    }

    #[tokio::test]
    async fn variables_are_set_and_removed() {
        let variables = [
            Variable { name: "DWELL_TEST_SET".into(), value: Some("x".to_owned()) },
            Variable { name: "HOME".into(), value: None },
        ];
        let script = "test \"$DWELL_TEST_SET\" = x && test -z \"${HOME+set}\"";
        let command = ["sh", "-c", script].map(OsString::from);
        assert_eq!(run(&command, &variables).await, Ending::Ran(0));
    }

    #[test]
    fn ignored_signals_are_not_caught() {
        assert_eq!(caught(0), PASSED_ON);
        let hang_up_ignored = 1 << (SIGHUP - 1);
        assert!(!caught(hang_up_ignored).contains(&SIGHUP));
        assert_eq!(caught(hang_up_ignored).len(), PASSED_ON.len() - 1);
    }
}
