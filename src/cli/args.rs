//! What was typed.

use crate::model::settings::LogLevel;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::path::PathBuf;

/// `promwatch --help`
pub const HELP: &str = "\
promwatch scrapes Prometheus exporters and writes the samples to Amazon CloudWatch Logs, with the CloudWatch agent's own
configuration files. When the link is down it keeps the events on disk.

Usage: promwatch COMMAND [OPTIONS]

  run                       scrape and deliver until stopped
  once [--scrapes N] [--interval 5s]
                            scrape N times (1), print the events, send nothing
  check                     check the configuration; exits with 78 if it is wrong
  status [--json]           how the running agent is
  buffer info               what the buffer holds, in numbers
  buffer list               its records, one line each
  buffer cat                its events, oldest first, one JSON object a line
  buffer verify             whether it is sound; exits with 1 if anything is damaged
  buffer export [--since T] [--until T] [--group G] [--stream S] [--move] FILE
                            copy (or move) events to a file
  buffer import FILE        take the events of such a file into the buffer
  buffer send FILE          deliver them straight from the file
  buffer drop [--until T] [--group G] [--stream S]
                            remove events from the buffer

  --config PATH             the agent JSON, or a folder of them; may be given several times
                            (default: the CloudWatch agent's own places)
  --common-config PATH      common-config.toml
  --state-dir DIR           where the buffer lies (default: /var/lib/promwatch)
  --log-level LEVEL         error, warn, info, debug or trace
  --help, --version

T is a time in milliseconds since 1970, or 2026-11-22T14:30:00Z.
Exit codes: 0 done, 1 failed or damaged, 64 wrong usage, 75 the state directory is in use, 78 wrong configuration.
";

/// One call of the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub command: Command,
    /// `--config`
    pub config_paths: Vec<PathBuf>,
    /// `--common-config`
    pub common_config: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<LogLevel>,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the words of HELP
pub enum Command {
    #[default]
    Help,
    Version,
    Run,
    Once {
        scrapes: u32,
        interval_ms: u64,
    },
    Check,
    Status {
        json: bool,
    },
    Buffer(BufferCommand),
}

/// `promwatch buffer …`
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the words of HELP
pub enum BufferCommand {
    Info,
    List,
    Cat,
    Verify,
    Export { file: PathBuf, select: Select, remove: bool },
    Import { file: PathBuf },
    Send { file: PathBuf },
    Drop { select: Select },
}

/// Which events: those for which everything that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// Not before this time, milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Not after this time.
    pub until_ms: Option<i64>,
    /// This log group.
    pub group: Option<String>,
    /// This log stream.
    pub stream: Option<String>,
}

impl Select {
    /// Whether nothing is given, which means everything.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// Understands the words after the program's name.
///
/// # Errors
/// A sentence that says which word is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, String> {
    let mut args = Args::default();
    let mut parser = lexopt::Parser::from_args(words);
    let mut values: Vec<String> = Vec::new();
    let (mut scrapes, mut interval_ms, mut json, mut remove) = (1, 5_000, false, false);
    let mut select = Select::default();
    let mut given: Vec<&'static str> = Vec::new();
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        let text = |parser: &mut lexopt::Parser| -> Result<String, String> {
            let value = parser.value().map_err(|error| error.to_string())?;
            value.into_string().map_err(|_| "a value is not UTF-8".to_owned())
        };
        match arg {
            Long("help") | Short('h') => return Ok(Args { command: Command::Help, ..args }),
            Long("version") | Short('V') => return Ok(Args { command: Command::Version, ..args }),
            Long("config") => args.config_paths.push(text(&mut parser)?.into()),
            Long("common-config") => args.common_config = Some(text(&mut parser)?.into()),
            Long("state-dir") => args.state_dir = Some(text(&mut parser)?.into()),
            Long("log-level") => args.log_level = Some(log_level(&text(&mut parser)?)?),
            Long("scrapes") => {
                given.push("--scrapes");
                scrapes =
                    text(&mut parser)?.parse().ok().filter(|n| *n > 0).ok_or("--scrapes takes a number from 1 on")?;
            }
            Long("interval") => {
                given.push("--interval");
                interval_ms = duration_ms(&text(&mut parser)?)?;
            }
            Long("json") => {
                given.push("--json");
                json = true;
            }
            Long("move") => {
                given.push("--move");
                remove = true;
            }
            Long("since") => {
                given.push("--since");
                select.since_ms = Some(time_ms(&text(&mut parser)?)?);
            }
            Long("until") => {
                given.push("--until");
                select.until_ms = Some(time_ms(&text(&mut parser)?)?);
            }
            Long("group") => {
                given.push("--group");
                select.group = Some(text(&mut parser)?);
            }
            Long("stream") => {
                given.push("--stream");
                select.stream = Some(text(&mut parser)?);
            }
            Value(value) => values.push(value.into_string().map_err(|_| "a word is not UTF-8".to_owned())?),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let words: Vec<&str> = values.iter().map(String::as_str).collect();
    let allowed: &[&str];
    (args.command, allowed) = match words.as_slice() {
        [] => return Err("say what to do".to_owned()),
        ["run"] => (Command::Run, &[][..]),
        ["once"] => (Command::Once { scrapes, interval_ms }, &["--scrapes", "--interval"][..]),
        ["check"] => (Command::Check, &[][..]),
        ["status"] => (Command::Status { json }, &["--json"][..]),
        ["buffer", "info"] => (Command::Buffer(BufferCommand::Info), &[][..]),
        ["buffer", "list"] => (Command::Buffer(BufferCommand::List), &[][..]),
        ["buffer", "cat"] => (Command::Buffer(BufferCommand::Cat), &[][..]),
        ["buffer", "verify"] => (Command::Buffer(BufferCommand::Verify), &[][..]),
        ["buffer", "export", file] => (
            Command::Buffer(BufferCommand::Export { file: file.into(), select, remove }),
            &["--since", "--until", "--group", "--stream", "--move"][..],
        ),
        ["buffer", "import", file] => (Command::Buffer(BufferCommand::Import { file: file.into() }), &[][..]),
        ["buffer", "send", file] => (Command::Buffer(BufferCommand::Send { file: file.into() }), &[][..]),
        ["buffer", "drop"] => {
            (Command::Buffer(BufferCommand::Drop { select }), &["--since", "--until", "--group", "--stream"][..])
        }
        other => return Err(format!("there is no command '{}'", other.join(" "))),
    };
    match given.iter().find(|option| !allowed.contains(option)) {
        Some(option) => Err(format!("{option} means nothing to '{}'", words.join(" "))),
        None => Ok(args),
    }
}

fn log_level(word: &str) -> Result<LogLevel, String> {
    match word.to_ascii_lowercase().as_str() {
        "error" => Ok(LogLevel::Error),
        "warn" | "warning" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err(format!("--log-level takes error, warn, info, debug or trace, not '{word}'")),
    }
}

/// `500ms`, `5s`, `10m`, `1h`, or a number of seconds.
fn duration_ms(word: &str) -> Result<u64, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    let (digits, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((word.strip_suffix(unit)?, *factor)))
        .filter(|(digits, _)| digits.ends_with(|c: char| c.is_ascii_digit()))
        .unwrap_or((word, 1_000));
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.ok_or_else(|| format!("'{word}' is no duration such as 500ms, 5s or 10m"))
}

fn time_ms(word: &str) -> Result<i64, String> {
    if let Ok(ms) = word.parse() {
        return Ok(ms);
    }
    let format = aws_smithy_types::date_time::Format::DateTimeWithOffset;
    aws_smithy_types::DateTime::from_str(word, format)
        .ok()
        .and_then(|time| time.to_millis().ok())
        .ok_or_else(|| format!("'{word}' is no time: milliseconds since 1970, or such as 2026-11-22T14:30:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Args, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn commands_and_options_come_in_any_order() {
        let args = words("--config a.json once --scrapes 3 --config=b.d --interval 500ms --state-dir /s").unwrap();
        assert_eq!(args.command, Command::Once { scrapes: 3, interval_ms: 500 });
        assert_eq!(args.config_paths, [PathBuf::from("a.json"), PathBuf::from("b.d")]);
        assert_eq!(args.state_dir, Some(PathBuf::from("/s")));
        assert_eq!(words("buffer cat").unwrap().command, Command::Buffer(BufferCommand::Cat));
        let exported = words("buffer export --since 2026-11-22T14:30:00Z --stream s f.pwx --move").unwrap().command;
        let select = Select { since_ms: Some(1_795_357_800_000), stream: Some("s".into()), ..Select::default() };
        assert_eq!(exported, Command::Buffer(BufferCommand::Export { file: "f.pwx".into(), select, remove: true }));
    }

    #[test]
    fn wrong_words_are_named() {
        for (line, part) in [
            ("", "say what to do"),
            ("scrape", "'scrape'"),
            ("run --json", "--json means nothing to 'run'"),
            ("once --scrapes 0", "--scrapes"),
            ("once --interval soon", "'soon'"),
            ("run --log-level loud", "'loud'"),
            ("run --what", "--what"),
            ("buffer", "'buffer'"),
        ] {
            let error = words(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
