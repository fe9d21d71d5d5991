//! A guard: a process of ours between us and a program, so that nothing of the program outlives us, in whatever way we end.
//!
//! It holds one end of a pipe, the **leash**, whose other end only we have. When we let go of it, or are no more, the guard
//! kills the program and all that came of it, and deletes the [`Folder`] it was given. What the program's own children leave
//! behind becomes the guard's (it is their reaper), so no new session and no second fork escapes it. **When the program ends** by
//! itself, what it left running is killed just the same; its exit status becomes the guard's. **Keys of a terminal** reach the
//! program, and not the guard. **After a crash** of the guard itself the program gets its signal from the kernel; then the folder
//! stays, with nobody who holds it, until [`Folder::make`] comes to its place again.

mod folder;
mod stand;

use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::process::{ExitStatus, Output};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::{Child, Command};

pub use folder::Folder;
pub use stand::GuardArgs;

/// The program that we are, whatever became of its file meanwhile.
const OURSELVES: &str = "/proc/self/exe";
/// The subcommand by which it is a guard: see [`GuardArgs`].
pub const GUARD: &str = "guard";

/// A program that is about to be guarded.
#[derive(Debug)]
pub struct Guard {
    /// Where its surroundings (arguments, variables, standard streams) are set.
    pub command: Command,
    ours: PipeWriter,
    its: PipeReader,
    folder: Option<Folder>,
}

/// How a program is guarded.
#[derive(Debug, Default)]
pub struct Guarding {
    /// The user and the group it runs as, where not as ours.
    pub user: Option<(u32, u32)>,
    /// Whether it is given time to end by itself when it is told to: by `SIGQUIT`, as PostgreSQL's server wants it.
    pub quits: bool,
    /// What is deleted when it has ended.
    pub folder: Option<Folder>,
}

impl Guard {
    /// A guard of `program`, which is looked for in `PATH`.
    ///
    /// # Errors
    /// The system's.
    pub fn of(program: impl AsRef<OsStr>, guarding: Guarding) -> io::Result<Self> {
        let (its, ours) = io::pipe()?;
        let mut command = Command::new(OURSELVES);
        command.arg0("lakehold").args([GUARD, "--leash", &its.as_raw_fd().to_string()]);
        if let Some((user, group)) = guarding.user {
            command.args(["--user", &user.to_string(), "--group", &group.to_string()]);
        }
        if guarding.quits {
            command.arg("--quits");
        }
        if let Some(folder) = &guarding.folder {
            command.arg("--folder").arg(folder.path());
        }
        command.arg("--").arg(program);
        Ok(Self { command, ours, its, folder: guarding.folder })
    }

    /// Begins it.
    ///
    /// # Errors
    /// The system's. That the program itself cannot be begun is the guard's exit status: 126 or 127, as shells tell it.
    pub fn begin(mut self) -> io::Result<Guarded> {
        inherited(&self.its)?;
        if let Some(folder) = &self.folder {
            inherited(folder.lock())?;
        }
        let child = self.command.spawn()?;
        if let Some(folder) = self.folder {
            folder.hand_over();
        }
        Ok(Guarded { child, leash: Some(self.ours) })
    }
}

/// Others that are begun at the same moment get it, too: they can do nothing with it, and it does not keep the leash.
fn inherited(fd: impl AsFd) -> io::Result<()> {
    Ok(fcntl_setfd(fd, FdFlags::empty())?)
}

/// A program that is guarded. Dropped, it is let go of.
#[derive(Debug)]
pub struct Guarded {
    /// The guard, with the program's standard streams.
    pub child: Child,
    leash: Option<PipeWriter>,
}

impl Guarded {
    /// Asks the program to end, as a person would.
    pub fn ask_to_end(&mut self) {
        if let Some(leash) = &mut self.leash {
            // It may have ended by itself.
            let _ = leash.write_all(b"!");
        }
    }

    /// Waits for its end, and for that of all that came of it: how it ended, and what it wrote.
    ///
    /// # Errors
    /// The system's.
    pub async fn output(self) -> io::Result<Output> {
        let Self { child, leash } = self;
        let ended = child.wait_with_output().await;
        drop(leash);
        ended
    }

    /// Ends it with all that came of it, and waits until nothing is left.
    ///
    /// # Errors
    /// The system's.
    pub async fn end(&mut self) -> io::Result<ExitStatus> {
        self.leash = None;
        self.child.wait().await
    }
}
