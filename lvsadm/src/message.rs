//! What the command line answers when it does not do what was asked: ipvsadm's texts and codes.
//!
//! | code | what went wrong |
//! |---|---|
//! | 0 | nothing |
//! | 1 | a listing of a service that is not there; a word that `ipvsadm-save` does not know |
//! | 2 | the words: a value, a combination, an argument too many |
//! | 255 | the words are no options, or the director refused (in ipvsadm's case: the kernel) |

use lvs_core::{ConfigError, EditError};

use crate::control::CommitError;

/// What a command printed and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// Exit code of the process.
    pub code: u8,
}

/// Why a command line was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    /// What ipvsadm would print.
    text: String,
    /// What to say instead where there is room for the truth: the kernel's texts are few.
    reason: Option<String>,
    /// The word that is to blame, where the text does not show it.
    word: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A value or a combination is wrong.
    Words,
    /// A word is no option, or an option lacks its value.
    Option,
    /// There is no command.
    NoCommand,
    /// The words are right, but do not fit what there is.
    Refused,
    /// There is no such service to list.
    Unlisted,
    /// The wrapper `ipvsadm-save` was misused.
    Wrapper,
}

/// What a refused command was about: the same refusal has a text for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Service,
    Server,
}

impl Failure {
    fn new(kind: Kind, text: impl Into<String>) -> Failure {
        Failure { kind, text: text.into(), reason: None, word: None }
    }

    /// Wrong words; the text shows which.
    pub(crate) fn words(text: impl Into<String>) -> Failure {
        Failure::new(Kind::Words, text)
    }

    /// A word that is no option as it stands.
    pub(crate) fn option(word: &str, reason: &str) -> Failure {
        Failure::new(Kind::Option, format!("{word}: {reason}"))
    }

    /// A command line without a command.
    pub(crate) fn no_command(first: &str) -> Failure {
        Failure::new(Kind::NoCommand, "no command such as -A comes first").blame(first)
    }

    /// A command that the director cannot carry out.
    pub(crate) fn refused(text: impl Into<String>) -> Failure {
        Failure::new(Kind::Refused, text)
    }

    /// An edit that was not committed, as ipvsadm puts what the kernel answers.
    pub(crate) fn uncommitted(error: &CommitError, subject: Subject) -> Failure {
        let text = match error {
            CommitError::Edit(error) => edit_text(*error, subject),
            CommitError::Config(error) => config_text(error, subject),
            CommitError::Refused(reason) => reason,
        };
        Failure::refused(text).because(error)
    }

    /// The same failure with a reason that says more than ipvsadm's text.
    pub(crate) fn because(self, reason: impl ToString) -> Failure {
        Failure { reason: Some(reason.to_string()), ..self }
    }

    /// The same failure with the word that caused it, which the text does not show.
    pub(crate) fn blame(self, word: impl ToString) -> Failure {
        Failure { word: Some(word.to_string()), ..self }
    }

    /// A listing of a service that is not there.
    pub(crate) fn unlisted() -> Failure {
        Failure::new(Kind::Unlisted, NO_SERVICE)
    }

    /// Any other look at a service that is not there.
    pub(crate) fn unknown_service() -> Failure {
        Failure::refused(NO_SERVICE)
    }

    /// A word that the wrapper `ipvsadm-save` does not know.
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Kind::Wrapper, text)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self.kind {
            Kind::Unlisted | Kind::Wrapper => 1,
            Kind::Words => 2,
            Kind::Option | Kind::NoCommand | Kind::Refused => 255,
        }
    }

    /// What ipvsadm, called by the name `program`, would print; ends a line.
    pub(crate) fn message(&self, program: &str) -> String {
        if self.kind == Kind::NoCommand {
            return format!("Try `{program} -h' or '{program} --help' for more information.\n");
        }
        format!("{}\n", self.text)
    }

    /// The reason with the word to blame, for a file that names the line.
    pub(crate) fn reason(&self) -> String {
        let reason = self.reason.as_ref().unwrap_or(&self.text).trim_end();
        match &self.word {
            Some(word) => format!("{reason}: \"{word}\""),
            None => reason.to_owned(),
        }
    }
}

fn edit_text(error: EditError, subject: Subject) -> &'static str {
    match (error, subject) {
        (EditError::ServiceExists, _) => "Service already exists",
        (EditError::NoService, Subject::Service) => NO_SERVICE,
        (EditError::NoService, Subject::Server) => "Service not defined",
        (EditError::ServerExists, _) => "Destination already exists",
        (EditError::NoServer, _) => "No such destination",
        _ => INVALID,
    }
}

fn config_text(error: &ConfigError, subject: Subject) -> &'static str {
    match error {
        ConfigError::DuplicateService(_) => edit_text(EditError::ServiceExists, subject),
        ConfigError::DuplicateServer(..) => edit_text(EditError::ServerExists, subject),
        ConfigError::Thresholds { .. } | ConfigError::Weight(_) => OUT_OF_RANGE,
        _ => INVALID,
    }
}

/// The kernel's answer to a lower threshold above the upper one.
pub(crate) const OUT_OF_RANGE: &str = "Numerical result out of range";
/// The kernel's answer to a name that `-s` or `--pe` does not know.
pub(crate) const NO_SCHEDULER: &str = "Scheduler or persistence engine not found";
/// The kernel's answer to what makes no sense, such as a real server at a multicast address.
pub(crate) const INVALID: &str =
    "Invalid operation.  Possibly wrong module version, address not unicast, ...";
const NO_SERVICE: &str = "No such service";
