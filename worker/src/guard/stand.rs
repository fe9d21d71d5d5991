//! The process that is the guard, and the step between it and the program.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal as Told, SignalKind, signal};

use super::{GUARD, OURSELVES, folder};

/// How long a program that quits may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What killed it, as shells tell it.
const KILLED: i32 = 128 + 9;

/// What a guard is told: see [`super::Guard`]. Nobody types it.
#[derive(Clone, Debug, Args)]
pub struct GuardArgs {
    /// The descriptor of its end of the leash
    #[arg(long, required_unless_present = "tied_to")]
    leash: Option<u32>,
    /// Become the program, which dies with the process of this number
    #[arg(long)]
    tied_to: Option<i32>,
    /// The user the program runs as
    #[arg(long, requires = "group")]
    user: Option<u32>,
    /// The group the program runs as
    #[arg(long)]
    group: Option<u32>,
    /// End the program by SIGQUIT
    #[arg(long)]
    quits: bool,
    /// What to delete in the end
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The program
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

impl GuardArgs {
    /// Stands guard, on the main thread. Returns the exit code.
    pub fn stand(&self) -> u8 {
        let ended = match self.tied_to {
            Some(parent) => Err(self.become_it(parent)),
            None => self.watch(),
        };
        ended.unwrap_or_else(|e| {
            let program = self.program.first().map(|program| program.to_string_lossy());
            // Nobody may be left to read it.
            let _ = writeln!(io::stderr(), "lakehold: {}: {e}", program.unwrap_or_default());
            if e.kind() == ErrorKind::NotFound { 127 } else { 126 }
        })
    }

    /// Becomes the program; returns only why that cannot be.
    fn become_it(&self, parent: i32) -> io::Error {
        // The kernel forgets it when a process changes its user, so it is said by the one that has it already.
        if let Err(e) = set_parent_process_death_signal(Some(self.signal(Signal::KILL))) {
            return e.into();
        }
        if getppid().map(Pid::as_raw_pid) != Some(parent) {
            return io::Error::other("the guard is gone");
        }
        match self.program.split_first() {
            Some((program, arguments)) => Command::new(program).args(arguments).exec(),
            None => ErrorKind::InvalidInput.into(),
        }
    }

    /// Begins the program and stays until nothing of it is left.
    fn watch(&self) -> io::Result<u8> {
        Builder::new_current_thread().enable_all().build()?.block_on(async {
            // Whoever holds the leash decides what a request to end means.
            let heard =
                [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
            let _heard: Vec<_> = heard.into_iter().map(signal).collect::<io::Result<_>>()?;
            set_child_subreaper(Some(getpid()))?;
            let mut deaths = signal(SignalKind::child())?;
            let leash = self.leash.unwrap_or_default();
            let mut leash = pipe::OpenOptions::new().open_receiver(format!("/proc/self/fd/{leash}"))?;
            let program = Pid::from_child(&self.program()?.spawn()?);
            let mut ended = None;
            while ended.is_none() {
                tokio::select! {
                    pulled = leash.read_u8() => match pulled {
                        Ok(_) => send(program, self.signal(Signal::TERM)),
                        Err(_) => break,
                    },
                    _ = deaths.recv() => ended = reap(program),
                }
            }
            if ended.is_none() && self.quits {
                send(program, Signal::QUIT);
                ended = tokio::time::timeout(PATIENCE, end_of(program, &mut deaths)).await.ok();
            }
            kill_all(&mut deaths, program, &mut ended).await?;
            if let Some(path) = &self.folder {
                folder::remove(path)?;
            }
            Ok(code(ended))
        })
    }

    /// The program, by way of ourselves as its user.
    fn program(&self) -> io::Result<Command> {
        let mut command = Command::new(OURSELVES);
        command.args([GUARD, "--tied-to", &getpid().as_raw_pid().to_string()]);
        if self.quits {
            command.arg("--quits");
        }
        if let (Some(user), Some(group)) = (self.user, self.group) {
            command.uid(user).gid(group);
        }
        command.arg("--").args(&self.program);
        Ok(command)
    }

    fn signal(&self, otherwise: Signal) -> Signal {
        if self.quits { Signal::QUIT } else { otherwise }
    }
}

/// Kills what is there until nothing is: what a child leaves behind is ours with its death.
async fn kill_all(deaths: &mut Told, program: Pid, ended: &mut Option<WaitStatus>) -> io::Result<()> {
    loop {
        let mut is_any = false;
        for child in children()? {
            // One that is not ours to kill, such as what `sudo` began, is not waited for.
            is_any |= kill_process(child, Signal::KILL).is_ok();
        }
        if !is_any {
            return Ok(());
        }
        deaths.recv().await;
        *ended = ended.or(reap(program));
    }
}

async fn end_of(program: Pid, deaths: &mut Told) -> WaitStatus {
    loop {
        if let Some(ended) = reap(program) {
            return ended;
        }
        deaths.recv().await;
    }
}

/// Takes leave of all children that have ended; how the program did, if it is among them.
fn reap(program: Pid) -> Option<WaitStatus> {
    let mut ended = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((child, status))) if child == program => ended = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// Our children, those that we inherited among them.
fn children() -> io::Result<Vec<Pid>> {
    let us = getpid().as_raw_pid().to_string();
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // One that has ended meanwhile is none.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // Number, name in brackets, state, parent; the name may hold anything.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(&us) {
            children.push(number);
        }
    }
    Ok(children)
}

fn send(program: Pid, signal: Signal) {
    // It is a child that was not taken leave of, so the number is its own; it may have ended.
    let _ = kill_process(program, signal);
}

/// How a program ended, as shells tell it.
fn code(ended: Option<WaitStatus>) -> u8 {
    let told =
        ended.and_then(|ended| ended.exit_status().or(ended.terminating_signal().map(|signal| 128 + signal)));
    u8::try_from(told.unwrap_or(KILLED)).unwrap_or(u8::MAX)
}
