//! A command line carried out on a running director.

use lvs_core::{Algorithm, Config};

use crate::DEFAULT_SOCKET;
use crate::arguments::{self, Command, Extent, Format, Layout, Listing};
use crate::beyond;
use crate::connections;
use crate::control::{Control, Edit, Timeouts};
use crate::document::{self, Daemons, TimeoutValues, VERSION, VirtualRouters};
use crate::edit;
use crate::listing::{Style, in_order};
use crate::message::{Failure, Output, Subject};
use crate::names::{Names, Naming};
use crate::rules::{self, RulesError, TimeoutRule};
use crate::standing::Besides;

/// Carries out one command line of `lvsadm`, given without the name of the program; `stdin` is
/// read by `-R`, and by `--plan`, where it is the text of the file.
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

/// Carries out what needs no director: help and the version.
///
/// Not under ipvsadm's name, by which all commands fail where there is no IPVS: scripts may ask that way.
pub(crate) fn without_director(program: &str, args: &[String]) -> Option<Output> {
    if matches!(program, "ipvsadm" | SAVE | RESTORE) {
        return None;
    }
    let stdout = match arguments::parse(args.get(..1)?, &Names::default()).ok()? {
        Command::Help => help(program),
        Command::Version => version(program),
        _ => return None,
    };
    Some(Output { stdout, ..Output::default() })
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
    /// The configuration of a file, or what is wrong in it.
    Plan(Format, Result<Config, RulesError>),
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
                Command::Plan(file, format) => Steps::Plan(format, rules::parse(file, stdin)),
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
            Ok(Steps::Plan(format, wanted)) => session.answer(
                wanted
                    .map_err(|error| Failure::words(error.to_string()))
                    .and_then(|wanted| beyond::plan(wanted, format, control)),
            ),
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
    Ok(Command::Save(naming, Extent::Ipvsadm))
}

fn parse_lines(stdin: &str, names: &Names) -> Result<Vec<(usize, Command)>, (usize, Failure)> {
    let lines = rules::lines(stdin).map(|(line, words)| match arguments::parse(&words, names) {
        Ok(Command::Restore | Command::Plan(..) | Command::Top) => {
            Err((line, Failure::no_command(&words[0])))
        }
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
            Command::List(listing, naming, format) => return self.list(listing, naming, format),
            Command::Zero(service) => {
                let zeroed = self.control.director().zero(service.as_ref());
                zeroed.map_err(|error| Failure::uncommitted(&error.into(), Subject::Service))?;
            }
            Command::Save(naming, extent) => return Ok(self.save(naming, extent)),
            Command::Explain(services, client, format) => {
                return beyond::explain(&services, client, format, self.control);
            }
            Command::Drain(drain) => return beyond::drain(&drain, self.control),
            Command::Top => {
                return Err(Failure::refused("The live view needs lvsadm built with its feature `top'"));
            }
            Command::SetTimeouts(seconds) => self.set_timeouts(seconds)?,
            Command::Daemon => {
                return Err(Failure::refused(
                    "Synchronization follows keepalived.conf: lvs_sync_daemon in global_defs",
                ));
            }
            Command::Help => return Ok(help(self.program)),
            Command::Version => return Ok(version(self.program)),
            // These are taken apart before anything is carried out.
            Command::Restore | Command::Plan(..) => return Err(Failure::no_command("-R")),
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

    fn save(&self, naming: Naming, extent: Extent) -> String {
        let config = self.control.director().config();
        match extent {
            Extent::Ipvsadm => rules::save(&config, naming),
            Extent::Full => rules::save_full(&config, self.control.timeouts(), naming),
        }
    }

    fn set_timeouts(&self, seconds: [u32; 3]) -> Result<(), Failure> {
        let new = TimeoutRule::new(seconds).apply_to(self.control.timeouts());
        let set = self.control.set_timeouts(new);
        set.map_err(|error| Failure::uncommitted(&error, Subject::Service))
    }

    fn list(&self, listing: Listing, naming: Naming, format: Format) -> Result<String, Failure> {
        let names = (naming == Naming::Named).then_some(&self.names);
        let director = self.control.director();
        match listing {
            Listing::Services { only, layout, numbers, order } => {
                if format == Format::Json || matches!(layout, Layout::Stats | Layout::Rate) {
                    self.control.count();
                }
                let mut services = in_order(director.stats(), order);
                if let Some(only) = &only {
                    services.retain(|service| service.config.key == *only);
                    if services.is_empty() {
                        return Err(Failure::unlisted());
                    }
                }
                let besides = match (format, layout) {
                    (Format::Json, _) | (_, Layout::Health) => Besides::of(self.control),
                    _ => Besides::nothing(self.control.now()),
                };
                if format == Format::Json {
                    let service = |stats| document::Service::new(stats, &besides);
                    let services = services.iter().map(service).collect();
                    return beyond::json(&document::Services { version: VERSION, services });
                }
                let style = Style { layout, numbers, names, besides: &besides };
                Ok(match (only, &services[..]) {
                    (Some(_), [service, ..]) => style.single(service),
                    (_, services) => style.table(services),
                })
            }
            Listing::Connections(columns) => {
                let templates = director.templates(self.control.now());
                let (connections, config) = (self.control.connections(), director.config());
                match format {
                    Format::Text => Ok(connections::list(&connections, templates, &config, columns, names)),
                    Format::Json => beyond::json(&connections::document(&connections, templates, &config)),
                }
            }
            Listing::Timeouts => {
                let timeouts = self.control.timeouts();
                if format == Format::Json {
                    return beyond::json(&TimeoutValues::from(timeouts));
                }
                let Timeouts { tcp, tcp_fin, udp } = timeouts;
                let (tcp, tcp_fin, udp) = (tcp.as_secs(), tcp_fin.as_secs(), udp.as_secs());
                Ok(format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n"))
            }
            Listing::Daemons => {
                let daemons = Daemons { version: VERSION, daemons: self.control.sync_daemons() };
                match format {
                    Format::Text => Ok(daemons.to_string()),
                    Format::Json => beyond::json(&daemons),
                }
            }
            Listing::VirtualRouters => {
                let routers = VirtualRouters { version: VERSION, instances: self.control.virtual_routers() };
                match format {
                    Format::Text => Ok(routers.to_string()),
                    Format::Json => beyond::json(&routers),
                }
            }
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
    let indented = |names: &[&str]| format!("{:26}{}\n", "", names.join(" "));
    let schedulers: String = Algorithm::ALL.map(Algorithm::name).chunks(8).map(indented).collect();
    let text = HELP.replace("PROGRAM", program).replace("SCHEDULERS", &schedulers);
    let text = text.replace("DEFAULT_SOCKET", DEFAULT_SOCKET);
    format!("{}{}", version(program), text)
}

const SAVE: &str = "ipvsadm-save";
/// The name under which the program restores what it reads, whatever words follow.
pub(crate) const RESTORE: &str = "ipvsadm-restore";
const HELP: &str = "\
Usage:
  PROGRAM -A|-E SERVICE [-s SCHEDULER] [-b FLAGS] [-p [SECONDS]] [-M MASK] [--pe sip]
             [-o]
  PROGRAM -D SERVICE
  PROGRAM -C
  PROGRAM -a|-e SERVICE -r SERVER [-m|-g|-i] [-w WEIGHT] [-x UPPER] [-y LOWER]
  PROGRAM -d SERVICE -r SERVER
  PROGRAM -L|-l [SERVICE] [-n] [--stats|--rate|--thresholds|--persistent-conn|--tun-info|--health]
             [--exact] [--nosort] [--json]
  PROGRAM -L -c|--timeout|--daemon|--vrrp [-n] [--json]
  PROGRAM -Z [SERVICE]
  PROGRAM --set TCP TCPFIN UDP
  PROGRAM -S [-n] [--full] > FILE
  PROGRAM -R < FILE
  PROGRAM -h|-v
Beyond ipvsadm:
  PROGRAM --control PATH COMMAND...    the director whose control socket is there
                                       (else that of LVSADM_SOCKET, else
                                       DEFAULT_SOCKET)
  PROGRAM --drain SERVER [SERVICE] [--deadline SECONDS]
  PROGRAM --explain VIP:PORT|POOL CLIENT [--json]
  PROGRAM --plan FILE [--json]
  PROGRAM --top
  PROGRAM --upgrade

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
  -S --save               writes the rules; with --full thresholds, timeouts, backups and pools too
  -R --restore            reads rules and applies them as one
     --drain              gives a real server weight 0, in all services or one, and cuts off who is
                          still there after so many seconds, if --deadline says so
     --explain            tells which real server a client would get now, and why
     --plan               tells what a file of rules (-: standard input) would change in the place of
                          the present ones
     --top                shows services and real servers as they work
     --upgrade            has the director start its program anew, which takes its place
  -h --help               this text
  -v --version            the version

SERVICE, what clients connect to:
  -t --tcp-service  HOST[:PORT]
  -u --udp-service  HOST[:PORT]
     --sctp-service HOST[:PORT]
  -f --fwmark-service MARK [-6]   packets with a firewall mark (-6: IPv6 packets)
     --pool NAME          a pool without an address, such as an upstream of l7-proxy

Options of a service:
  -s --scheduler NAME     one of these (wlc):
SCHEDULERS  -b --sched-flags FLAGS  flag-1 flag-2 flag-3, sh-fallback sh-port, mh-fallback mh-port; with commas
  -p --persistent [SECONDS]  clients stay on their real server (360)
  -M --netmask MASK       clients of one network stay together; a prefix length with IPv6
     --pe sip             of UDP: what has one Call-ID stays together, and not all of a client
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
     --backup             serves only while no other real server can

Options of listings:
  -n --numeric            numbers in the place of names
  -c --connection         connections and persistence templates
     --stats              counters
     --rate               what passes in a second
     --health             which real servers can be used, why not, and for how long
     --json               all of it as JSON, with names of fields that stay
     --thresholds         thresholds of real servers
     --persistent-conn    persistence templates of real servers
     --tun-info           tunnels to real servers
     --timeout            timeouts
     --daemon             what shares persistence templates with other directors
     --vrrp               VRRP instances: who is master, since when and why
  -X --exact              counters in full
     --nosort             in the order in which they were added, real servers last added first
";
