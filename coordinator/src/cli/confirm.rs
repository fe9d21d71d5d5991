//! What a change to an environment must be confirmed with.

use std::io::{BufRead as _, IsTerminal as _, Write as _, stderr, stdin};

use clap::Args;
use lakehold_proto::config::Protection;
use lakehold_proto::fault::{Class, Fault, Result};
use lakehold_proto::ids::EnvName;

/// The answers that may be given beforehand.
#[derive(Clone, Debug, Default, Args)]
pub struct Confirmation {
    /// Answer every question with yes (never a name that must be typed)
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// The name that must be typed, where the environment is protected so
    #[arg(long, value_name = "NAME")]
    pub confirm: Option<String>,
}

impl Confirmation {
    /// Asks, unless it was answered beforehand. `what` is what would be done.
    ///
    /// # Errors
    /// `Config` with `restore.unconfirmed`, when it is refused, or nobody is there to be asked.
    pub fn ask(&self, environment: &EnvName, protection: Protection, what: &str) -> Result<()> {
        match protection {
            Protection::None => Ok(()),
            Protection::Confirm if self.yes => Ok(()),
            Protection::Confirm => match answer(&format!("{what} Go on? [y/N] "))?.as_str() {
                "y" | "Y" | "yes" => Ok(()),
                _ => Err(refused(environment, "it was not confirmed", "add --yes")),
            },
            Protection::TypedName => {
                let typed = match &self.confirm {
                    Some(typed) => typed.clone(),
                    None => answer(&format!("{what} Type its name, {environment}, to go on: "))?,
                };
                if typed == environment.as_str() {
                    return Ok(());
                }
                Err(refused(environment, "its name was not typed", &format!("add --confirm {environment}")))
            }
        }
    }
}

fn refused(environment: &EnvName, detail: &str, hint: &str) -> Fault {
    Fault::new(Class::Config, "restore.unconfirmed", format!("change {environment}"), detail)
        .hint(format!("{hint} if that is what you want; nothing was changed"))
}

/// What a person types. Empty where there is no terminal.
fn answer(question: &str) -> Result<String> {
    if !stdin().is_terminal() {
        return Ok(String::new());
    }
    let failed = |e| Fault::new(Class::Unavailable, "output.ask", "ask on the terminal", e);
    let mut out = stderr().lock();
    write!(out, "{question}").and_then(|()| out.flush()).map_err(failed)?;
    let mut typed = String::new();
    stdin().lock().read_line(&mut typed).map_err(failed)?;
    Ok(typed.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yes_never_answers_for_a_typed_name() {
        let prod: EnvName = "prod".parse().unwrap();
        let with = |yes, confirm: Option<&str>| Confirmation { yes, confirm: confirm.map(str::to_owned) };
        assert!(with(false, None).ask(&prod, Protection::None, "").is_ok());
        assert!(with(true, None).ask(&prod, Protection::Confirm, "").is_ok());
        assert!(with(true, Some("dev")).ask(&prod, Protection::TypedName, "").is_err());
        assert!(with(false, Some("prod")).ask(&prod, Protection::TypedName, "").is_ok());
    }
}
