//! A command line carried out on a running director.

use std::time::Duration;

use lvs_core::{Algorithm, Config};

use crate::arguments::{self, Command, Listing};
use crate::connections;
use crate::control::{Control, Edit, Timeouts};
use crate::edit;
use crate::listing::Style;
use crate::message::{Failure, Output, Subject};
use crate::names::{Names, Naming};
use crate::rules;

/// Carries out one command line of `lvsadm`, given without the name of the program; `stdin` is
/// read by `-R` only.
///
/// ```no_run
/// # fn show(control: &dyn lvsadm::Control) {
/// let listing = lvsadm::run(&["-L".to_owned(), "-n".to_owned()], "", control);
/// assert_eq!(listing.code, 0);
/// # }
/// ```
pub fn run(args: &[String], stdin: &str, control: &dyn Control) -> Output {
    Prepared::new("lvsadm", args, stdin).execute(control)
}

/// A command line that has been understood, or not, and not yet carried out.
///
/// Names are looked up while it is prepared, which can take long; carrying it out does not wait.
pub(crate) struct Prepared<'a> {
    program: &'a str,
    steps: Result<Steps, Failure>,
    names: Names,
}

enum Steps {
    One(Command),
    /// The lines of a restore with their numbers, or the first that is wrong.
    Restore(Start, Result<Vec<(usize, Command)>, (usize, Failure)>),
}

/// What a restore begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Empty,
    Present,
}

impl<'a> Prepared<'a> {
    /// Understands a command line; `program` is what the program was called by.
    ///
    /// ipvsadm's two wrappers are known by their names: one is `-S`, the other a `-R` that leaves
    /// comments out and begins with an empty table.
    pub(crate) fn new(program: &'a str, args: &[String], stdin: &str) -> Prepared<'a> {
        let names = Names::default();
        let steps = match program {
            SAVE => parse_save(args).map(Steps::One),
            RESTORE => {
                // The lines stay, so that they keep their numbers.
                let lines: Vec<&str> =
                    stdin.lines().map(|line| if line.starts_with('#') { "" } else { line }).collect();
                Ok(Steps::Restore(Start::Empty, parse_lines(&lines.join("\n"), &names)))
            }
            _ => arguments::parse(args, &names).map(|command| match command {
                Command::Restore => Steps::Restore(Start::Present, parse_lines(stdin, &names)),
                command => Steps::One(command),
            }),
        };
        Prepared { program, steps, names }
    }

    pub(crate) fn execute(self, control: &dyn Control) -> Output {
        let Prepared { program, steps, names } = self;
        let session = Session { program, names, control };
        match steps {
            Ok(Steps::One(command)) => session.answer(session.command(command)),
            Ok(Steps::Restore(start, Ok(commands))) => session.restore(start, commands),
            Ok(Steps::Restore(_, Err((line, failure)))) => {
                let mut output = session.answer(Err(failure));
                output.stderr.push_str(&format!("(line {line} of the input; nothing has been restored)\n"));
                output
            }
            Err(failure) => session.answer(Err(failure)),
        }
    }
}

/// The words of `ipvsadm-save`, which looks at nothing but dashes.
fn parse_save(args: &[String]) -> Result<Command, Failure> {
    let mut naming = Naming::Named;
    for arg in args.iter().filter(|arg| arg.starts_with('-')) {
        if arg != "-n" {
            let text = format!("{SAVE}: writes the rules of the director; with -n, in numbers");
            return Err(Failure::usage(text));
        }
        naming = Naming::Numeric;
    }
    Ok(Command::Save(naming))
}

fn parse_lines(stdin: &str, names: &Names) -> Result<Vec<(usize, Command)>, (usize, Failure)> {
    let lines = rules::lines(stdin).map(|(line, words)| match arguments::parse(&words, names) {
        Ok(Command::Restore) => Err((line, Failure::no_command(&words[0]))),
        Ok(command) => Ok((line, command)),
        Err(failure) => Err((line, failure)),
    });
    lines.collect()
}

/// One command line being carried out.
struct Session<'a> {
    program: &'a str,
    names: Names,
    control: &'a dyn Control,
}

impl Session<'_> {
    fn answer(&self, result: Result<String, Failure>) -> Output {
        match result {
            Ok(stdout) => Output { stdout, ..Output::default() },
            Err(failure) => {
                Output { stderr: failure.message(self.program), code: failure.code(), ..Output::default() }
            }
        }
    }

    fn command(&self, command: Command) -> Result<String, Failure> {
        match command {
            Command::Edit(edit) => {
                let subject = edit::subject(&edit);
                let edit = match *edit {
                    edit @ (Edit::EditService(_) | Edit::EditServer(..)) => {
                        edit::keep_the_unsaid(edit, &self.control.director().config())
                    }
                    other => other,
                };
                self.commit(edit, subject)?;
            }
            Command::List(listing, naming) => return self.list(listing, naming),
            Command::Zero(service) => {
                let zeroed = self.control.director().zero(service.as_ref());
                zeroed.map_err(|error| Failure::uncommitted(&error.into(), Subject::Service))?;
            }
            Command::Save(naming) => return Ok(rules::save(&self.control.director().config(), naming)),
            Command::SetTimeouts(seconds) => self.set_timeouts(seconds)?,
            Command::Daemon => {
                return Err(Failure::refused("Connection synchronization is not supported by this director"));
            }
            Command::Help => return Ok(help(self.program)),
            Command::Version => return Ok(version(self.program)),
            // A restore is taken apart into its lines before anything is carried out.
            Command::Restore => return Err(Failure::no_command("-R")),
        }
        Ok(String::new())
    }

    /// Carries out the lines of a restore: all edits as one, so that no connection meets a table
    /// that is half there.
    ///
    /// Only a line that is no edit, such as a listing, parts the edits before it from those after.
    /// What the director refuses is said, and the rest goes on, as in ipvsadm; so is the exit code
    /// that of the last line.
    fn restore(&self, start: Start, lines: Vec<(usize, Command)>) -> Output {
        let mut output = Output::default();
        let mut pending = (start == Start::Empty).then(Config::default);
        for (line, command) in lines {
            let result = match command {
                Command::Edit(edit) => {
                    let config = pending.get_or_insert_with(|| self.control.director().config());
                    let edit = edit::keep_the_unsaid(*edit, config);
                    edit::make(&edit, config).map(|()| String::new())
                }
                command => self.flush(&mut pending).and_then(|()| self.command(command)),
            };
            let answer = self.answer(result);
            output.stdout.push_str(&answer.stdout);
            if !answer.stderr.is_empty() {
                output.stderr.push_str(&format!("{}(line {line} of the input)\n", answer.stderr));
            }
            output.code = answer.code;
        }
        if let Err(failure) = self.flush(&mut pending) {
            output.stderr.push_str(&failure.message(self.program));
            output.code = failure.code();
        }
        output
    }

    fn flush(&self, pending: &mut Option<Config>) -> Result<(), Failure> {
        match pending.take() {
            Some(config) => self.commit(Edit::Replace(config), Subject::Service),
            None => Ok(()),
        }
    }

    fn commit(&self, edit: Edit, subject: Subject) -> Result<(), Failure> {
        self.control.commit(edit).map_err(|error| Failure::uncommitted(&error, subject))
    }

    fn set_timeouts(&self, [tcp, tcp_fin, udp]: [u32; 3]) -> Result<(), Failure> {
        let old = self.control.timeouts();
        let choose = |seconds: u32, old| match seconds {
            0 => old,
            seconds => Duration::from_secs(seconds.into()),
        };
        let new = Timeouts {
            tcp: choose(tcp, old.tcp),
            tcp_fin: choose(tcp_fin, old.tcp_fin),
            udp: choose(udp, old.udp),
        };
        let set = self.control.set_timeouts(new);
        set.map_err(|error| Failure::uncommitted(&error, Subject::Service))
    }

    fn list(&self, listing: Listing, naming: Naming) -> Result<String, Failure> {
        let names = (naming == Naming::Named).then_some(&self.names);
        let director = self.control.director();
        match listing {
            Listing::Services { only, layout, numbers, order } => {
                let style = Style { layout, numbers, order, names };
                let services = director.stats();
                let Some(only) = only else { return Ok(style.table(services)) };
                let service = services.into_iter().find(|service| service.config.key == only);
                service.map(|service| style.single(service)).ok_or_else(Failure::unlisted)
            }
            Listing::Connections(columns) => {
                let templates = director.templates(self.control.now());
                let config = director.config();
                Ok(connections::list(&self.control.connections(), templates, &config, columns, names))
            }
            Listing::Timeouts => {
                let Timeouts { tcp, tcp_fin, udp } = self.control.timeouts();
                let (tcp, tcp_fin, udp) = (tcp.as_secs(), tcp_fin.as_secs(), udp.as_secs());
                Ok(format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n"))
            }
            Listing::Daemons => Ok(String::new()),
        }
    }
}

/// Under ipvsadm's name ipvsadm's line, from which scripts tell its version; else the truth.
fn version(program: &str) -> String {
    if program == "ipvsadm" {
        "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n".to_owned()
    } else {
        format!("{program} {} (speaks ipvsadm v1.31 and IPVS v1.2.1)\n", env!("CARGO_PKG_VERSION"))
    }
}

fn help(program: &str) -> String {
    let schedulers = Algorithm::ALL.map(Algorithm::name).join(" ");
    format!("{}{}", version(program), HELP.replace("PROGRAM", program).replace("SCHEDULERS", &schedulers))
}

const SAVE: &str = "ipvsadm-save";
/// The name under which the program restores what it reads, whatever words follow.
pub(crate) const RESTORE: &str = "ipvsadm-restore";
const HELP: &str = "\
Usage:
  PROGRAM -A|-E SERVICE [-s SCHEDULER] [-b FLAGS] [-p [SECONDS]] [-M MASK] [-o]
  PROGRAM -D SERVICE
  PROGRAM -C
  PROGRAM -a|-e SERVICE -r SERVER [-m|-g|-i] [-w WEIGHT] [-x UPPER] [-y LOWER]
  PROGRAM -d SERVICE -r SERVER
  PROGRAM -L|-l [SERVICE] [-n] [--stats|--thresholds|--persistent-conn|--tun-info] [--exact] [--nosort]
  PROGRAM -L -c|--timeout|--daemon [-n]
  PROGRAM -Z [SERVICE]
  PROGRAM --set TCP TCPFIN UDP
  PROGRAM -S [-n] > FILE
  PROGRAM -R < FILE
  PROGRAM -h|-v

Commands, of which one comes first:
  -A --add-service        a new service
  -E --edit-service       another scheduler, persistence or flags for a service
  -D --delete-service     takes a service away; its connections go on
  -C --clear              takes all services away
  -a --add-server         a new real server for a service
  -e --edit-server        another weight, method or thresholds for a real server
  -d --delete-server      takes a real server away; its connections go on
  -L --list, -l           lists services and their real servers (also without any word)
  -Z --zero               sets counters to zero
     --set                sets timeouts, in seconds; 0 leaves one as it is
  -S --save               writes the rules
  -R --restore            reads rules and applies them as one
  -h --help               this text
  -v --version            the version

SERVICE, what clients connect to:
  -t --tcp-service  HOST[:PORT]
  -u --udp-service  HOST[:PORT]
     --sctp-service HOST[:PORT]
  -f --fwmark-service MARK [-6]   packets with a firewall mark (-6: IPv6 packets)

Options of a service:
  -s --scheduler NAME     SCHEDULERS (wlc)
  -b --sched-flags FLAGS  flag-1 flag-2 flag-3, sh-fallback sh-port, mh-fallback mh-port; with commas
  -p --persistent [SECONDS]  clients stay on their real server (360)
  -M --netmask MASK       clients of one network stay together; a prefix length with IPv6
  -o --ops                each datagram is scheduled on its own

Options of a real server:
  -r --real-server HOST[:PORT]
  -m --masquerading       by NAT: the only method that a proxy has
  -g --gatewaying         by direct routing (what ipvsadm does without -m)
  -i --ipip               by tunnel: --tun-type ipip|gue|gre, --tun-port PORT,
                          --tun-nocsum, --tun-csum, --tun-remcsum
  -w --weight WEIGHT      share of new connections (1); 0 takes no new ones
  -x --u-threshold COUNT  full at this many connections (0: never)
  -y --l-threshold COUNT  no longer full below this many (0: three quarters of -x)

Options of listings:
  -n --numeric            numbers in the place of names
  -c --connection         connections and persistence templates
     --stats              counters
     --thresholds         thresholds of real servers
     --persistent-conn    persistence templates of real servers
     --tun-info           tunnels to real servers
     --timeout            timeouts
     --daemon             synchronisation daemons (this director has none)
  -X --exact              counters in full
     --nosort             in the order in which they were added, real servers last added first
";
