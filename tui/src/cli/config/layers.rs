//! From layers to one set of arguments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use txray_recorder::redaction::without_credentials;

use super::file::{ConfigFile, Entry, Value};
use crate::cli::args::Arguments;
use crate::cli::failure::Failure;

/// Table of the file that holds the options of `txray record`.
const SECTION: &str = "record";
/// Tables of the file.
const SECTIONS: [&str; 2] = [SECTION, super::redaction::SECTION];
/// Commands that read the file. The others must work beside a broken one.
const READERS: [&str; 3] = ["record", "config", "redact"];
/// Options of `record` that are about this run of the program alone.
const RUN_ONLY: [&str; 5] = ["help", "version", "verbose", "config", "print_config"];
/// Between the values of an option that may be repeated, in an environment variable.
const LIST_SEPARATOR: char = ';';

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Origin {
    /// Typed.
    CommandLine,
    /// This environment variable.
    Environment(String),
    /// This place of the file: `txray.toml:12`.
    File(String),
    /// Not given.
    Default,
}

/// One option of `txray record`: what it is set to, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Setting {
    /// Its key in the file.
    pub(in crate::cli) key: String,
    /// Its values, passwords masked; none when it is not set.
    pub(in crate::cli) values: Vec<String>,
    /// Whether it takes several.
    pub(in crate::cli) many: bool,
    /// Where they come from.
    pub(in crate::cli) origin: Origin,
}

/// Every option of `txray record`, in the order of its help.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Settings(pub(in crate::cli) Vec<Setting>);

impl Settings {
    /// How a message calls an option: by the place that set it.
    pub(in crate::cli) fn name(&self, key: &str) -> String {
        match self.0.iter().find(|setting| setting.key == key).map(|setting| &setting.origin) {
            Some(Origin::File(place)) => format!("{place}: {SECTION}.{key}"),
            Some(Origin::Environment(variable)) => variable.clone(),
            _ => format!("--{}", key.replace('_', "-")),
        }
    }
}

/// What the layers came to.
#[derive(Debug)]
pub(in crate::cli) struct Layered {
    /// Arguments, as if all of it had been typed.
    pub(in crate::cli) arguments: Arguments,
    /// Where the options of `txray record` come from; empty for commands that read no file.
    pub(in crate::cli) settings: Settings,
    /// The file, for commands that read it.
    pub(in crate::cli) file: Option<ConfigFile>,
}

/// Why the arguments were not accepted.
#[derive(Debug)]
pub(in crate::cli) enum Refusal {
    /// By the parser of the command line, which prints its own messages; help and version are such too.
    CommandLine(clap::Error),
    /// By a layer below.
    Layer(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Refusal::Layer(failure)
    }
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Refusal::CommandLine(error)
    }
}

/// Reads the command line, and below it the environment and the file in `directory` or where `--config` says.
pub(in crate::cli) fn read(
    typed: Vec<OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
    directory: &Path,
) -> Result<Layered, Refusal> {
    let mut command = Arguments::command();
    command.build();
    let matches = command.try_get_matches_from_mut(&typed)?;
    let Some((name, inner)) = matches.subcommand().filter(|(name, _)| READERS.contains(name)) else {
        let arguments = Arguments::from_arg_matches(&matches)?;
        return Ok(Layered { arguments, settings: Settings::default(), file: None });
    };
    let named = inner.get_one::<PathBuf>("config").cloned();
    let file = ConfigFile::find(named.as_deref(), directory)?;
    let options = record_options(&command);
    let is_record = name == "record";
    let given = given(&options, is_record.then_some(inner), &environment, file.as_ref())?;
    let mut whole = if is_record { typed } else { record_like(&typed) };
    insert(&mut whole, &given);
    let layered = match command.try_get_matches_from_mut(&whole) {
        Ok(layered) => layered,
        Err(error) => return Err(blame(&mut command, &given, error)),
    };
    let (_, inner) = layered.subcommand().ok_or_else(|| command.error(ErrorKind::MissingSubcommand, ""))?;
    let settings = Settings(options.iter().map(|option| setting(option, inner, &given)).collect());
    // `txray config` keeps its own arguments: the layered ones only told what `record` would get.
    let arguments = Arguments::from_arg_matches(if is_record { &layered } else { &matches })?;
    Ok(Layered { arguments, settings, file })
}

/// The options of `txray record` that a layer can set.
fn record_options(command: &Command) -> Vec<Arg> {
    let record = command.find_subcommand("record");
    let options = record.into_iter().flat_map(Command::get_arguments);
    options.filter(|option| !RUN_ONLY.contains(&option.get_id().as_str())).cloned().collect()
}

/// Names of the keys that the file's `[record]` table can have.
#[cfg(test)]
pub(super) fn record_keys() -> Vec<String> {
    let mut command = Arguments::command();
    command.build();
    record_options(&command).iter().map(|option| option.get_id().to_string()).collect()
}

/// What a layer below the command line says about one option.
#[derive(Debug)]
struct Given {
    key: String,
    /// As it would be typed: `--key=value` for each value, or words for the application.
    words: Vec<OsString>,
    positional: bool,
    origin: Origin,
}

fn given(
    options: &[Arg],
    typed: Option<&ArgMatches>,
    environment: &impl Fn(&str) -> Option<OsString>,
    file: Option<&ConfigFile>,
) -> Result<Vec<Given>, Failure> {
    let mut all = Vec::new();
    let table = match file {
        Some(file) => {
            file.check_sections(&SECTIONS)?;
            file.section(SECTION)?.map(|table| (file, table))
        }
        None => None,
    };
    if let Some((file, table)) = table {
        let keys: Vec<&str> = options.iter().map(|option| option.get_id().as_str()).collect();
        file.check_keys(table, SECTION, &keys)?;
    }
    for option in options {
        let key = option.get_id().as_str();
        // What the parser found itself, on the command line or in a variable that an option declares, stands above.
        let above = typed.and_then(|typed| typed.value_source(key));
        if matches!(above, Some(ValueSource::CommandLine | ValueSource::EnvVariable)) {
            continue;
        }
        let variable = variable(option);
        if !option.is_positional()
            && let Some(value) = environment(&variable).filter(|value| !value.is_empty())
        {
            all.push(from_environment(option, variable, &value)?);
        } else if let Some((file, table)) = table
            && let Some(entry) = table.get(key)
        {
            all.push(from_file(option, file, entry)?);
        }
    }
    Ok(all)
}

/// The variable of an option: its own, or `TXRAY_` and its name.
fn variable(option: &Arg) -> String {
    match option.get_env() {
        Some(own) => own.to_string_lossy().into_owned(),
        None => format!("TXRAY_{}", option.get_id().as_str().to_uppercase()),
    }
}

fn from_environment(option: &Arg, variable: String, value: &OsString) -> Result<Given, Failure> {
    let Some(value) = value.to_str() else {
        return Err(Failure::usage(format!("the variable {variable} is not UTF-8")).hint("unset it, or set it to text"));
    };
    let words = if takes_value(option) {
        let values: Vec<&str> = if takes_many(option) {
            value.split(LIST_SEPARATOR).map(str::trim).filter(|value| !value.is_empty()).collect()
        } else {
            vec![value]
        };
        values.iter().map(|value| word(option, value)).collect()
    } else {
        match value.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => vec![flag(option)],
            "0" | "false" | "no" | "off" => Vec::new(),
            _ => {
                return Err(Failure::usage(format!("the variable {variable} is neither true nor false"))
                    .hint("set it to 1 or 0, or unset it"));
            }
        }
    };
    let key = option.get_id().to_string();
    Ok(Given { key, words, positional: false, origin: Origin::Environment(variable) })
}

fn from_file(option: &Arg, file: &ConfigFile, entry: &Entry) -> Result<Given, Failure> {
    let key = option.get_id().to_string();
    let wrong = |expected: &str| file.wrong(entry, &format!("{SECTION}.{key}"), expected);
    let words = match &entry.value {
        Value::Bool(value) if !takes_value(option) => {
            if *value {
                vec![flag(option)]
            } else {
                Vec::new()
            }
        }
        _ if !takes_value(option) => return Err(wrong("is true or false")),
        Value::List(list) if takes_many(option) => {
            let values = list.iter().map(|element| scalar(&element.value));
            let values: Option<Vec<String>> = values.collect();
            values.ok_or_else(|| wrong("is a list of texts"))?.iter().map(|value| word(option, value)).collect()
        }
        value => match scalar(value) {
            Some(value) => vec![word(option, &value)],
            None if takes_many(option) => return Err(wrong("is a list of texts")),
            None => return Err(wrong("is a text or a number")),
        },
    };
    let origin = Origin::File(file.place(entry));
    Ok(Given { key, words, positional: option.is_positional(), origin })
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Number(number) => Some(number.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::List(_) | Value::Table(_) | Value::Other => None,
    }
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

fn takes_many(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append) || option.is_positional()
}

fn flag(option: &Arg) -> OsString {
    format!("--{}", option.get_long().unwrap_or_default()).into()
}

fn word(option: &Arg, value: &str) -> OsString {
    if option.is_positional() {
        value.into()
    } else {
        format!("--{}={value}", option.get_long().unwrap_or_default()).into()
    }
}

/// Puts what the layers say where it can be typed: options ahead of `--`, the application behind it.
fn insert(words: &mut Vec<OsString>, given: &[Given]) {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let options = given.iter().filter(|given| !given.positional).flat_map(|given| given.words.iter().cloned());
    words.splice(end..end, options);
    let application: Vec<OsString> =
        given.iter().filter(|given| given.positional).flat_map(|given| given.words.iter().cloned()).collect();
    if !application.is_empty() {
        words.push("--".into());
        words.extend(application);
    }
}

/// A command line of `record` on which nothing was typed.
fn record_like(typed: &[OsString]) -> Vec<OsString> {
    vec![typed.first().cloned().unwrap_or_else(|| "txray".into()), "record".into()]
}

/// Finds the layer whose value the parser refuses. Its own message would show the value.
fn blame(command: &mut Command, given: &[Given], error: clap::Error) -> Refusal {
    for one in given {
        let mut words = record_like(&[]);
        insert(&mut words, std::slice::from_ref(one));
        let Err(refused) = command.try_get_matches_from_mut(&words) else { continue };
        if refused.kind() == ErrorKind::MissingRequiredArgument {
            continue;
        }
        let name = match &one.origin {
            Origin::File(place) => format!("{place}: \"{SECTION}.{}\"", one.key),
            Origin::Environment(variable) => variable.clone(),
            Origin::CommandLine | Origin::Default => one.key.clone(),
        };
        let failure = Failure::usage(format!("{name} has a value that --{} does not take", one.key.replace('_', "-")));
        return Refusal::Layer(failure.hint("txray record --help says what it takes"));
    }
    Refusal::CommandLine(error)
}

fn setting(option: &Arg, layered: &ArgMatches, given: &[Given]) -> Setting {
    let key = option.get_id().to_string();
    let raw = layered.get_raw(&key).into_iter().flatten();
    let mut values: Vec<String> = raw.map(|value| without_credentials(&value.to_string_lossy()).into_owned()).collect();
    if !takes_value(option) {
        values = vec![layered.get_flag(&key).to_string()];
    }
    let origin = match given.iter().find(|given| given.key == key) {
        Some(given) => given.origin.clone(),
        None => match layered.value_source(&key) {
            Some(ValueSource::CommandLine) => Origin::CommandLine,
            Some(ValueSource::EnvVariable) => Origin::Environment(variable(option)),
            _ => Origin::Default,
        },
    };
    Setting { key, values, many: takes_many(option), origin }
}

#[cfg(test)]
mod tests;
