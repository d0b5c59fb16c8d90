//! Options of `hongbao serve` in a file: TOML, each under the name it has on the
//! command line, with `_` for `-`.
//!
//! **Invariant:** the command line counts before the environment, that before the
//! file, and that before what is usual.

use crate::config::{Cli, Task};
use clap::{CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::path::Path;
use toml::{Table, Value};

impl Cli {
    /// What was asked for, by these arguments and the file they name.
    ///
    /// # Errors
    /// What is wrong with them, to be shown as it is; exit status 2.
    pub fn from_words(words: Vec<OsString>) -> Result<Cli, clap::Error> {
        let cli = Cli::try_parse_from(&words)?;
        let Task::Serve(serve) = &cli.task else { return Ok(cli) };
        let Some(path) = &serve.config else { return Ok(cli) };
        let options = words_of(path).map_err(|why| wrong(format!("{}: {why}", path.display())))?;
        let (command, own) = words.split_at(words.iter().position(|word| word == "serve").map_or(0, |at| at + 1));
        // Alone first, so that a message about the file does not seem to be about the command line.
        let alone = command.iter().chain(&options);
        if let Err(error) = Cli::try_parse_from(alone) {
            return Err(wrong(format!("{}: {}", path.display(), first_line(&error))));
        }
        let all = command.iter().chain(&options).chain(own);
        // The last of what is said twice counts.
        let all = Cli::command().mut_subcommand("serve", |serve| serve.args_override_self(true)).get_matches_from(all);
        Cli::from_arg_matches(&all)
    }
}

fn wrong(why: String) -> clap::Error {
    Cli::command().error(clap::error::ErrorKind::InvalidValue, why)
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// The file's options as words of a command line.
fn words_of(path: &Path) -> Result<Vec<OsString>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let command = Cli::command();
    let serve = command.find_subcommand("serve").expect("it is a task");
    let mut words = Vec::new();
    for (name, value) in table {
        let option = name.replace('_', "-");
        let known = serve.get_arguments().find(|known| known.get_long() == Some(&option));
        // To migrate is asked for once, after a backup.
        let known = known.filter(|_| !name.contains('-') && !["config", "migrate"].contains(&&*name));
        let known = known.ok_or_else(|| {
            format!("there is no option {name}; `hongbao serve --help` lists them, here with _ for -")
        })?;
        if known.get_env().is_some_and(|variable| std::env::var_os(variable).is_some()) {
            continue;
        }
        let takes_value = known.get_action().takes_values();
        match (takes_value, value) {
            (false, Value::Boolean(true)) => words.push(format!("--{option}").into()),
            (false, Value::Boolean(false)) => {}
            (false, _) => return Err(format!("{name} is true or false")),
            (true, Value::Table(gateways)) if name == "payments" => {
                words.push(format!("--{option}={}", gateways_of(gateways)?).into());
            }
            (true, value) => words.push(format!("--{option}={}", word(&name, value)?).into()),
        }
    }
    Ok(words)
}

/// Payment gateways, each a table of its own: `[payments.alipay]`.
fn gateways_of(gateways: Table) -> Result<String, String> {
    let gateway = |(name, terms): (String, Value)| {
        let Value::Table(terms) = terms else { return Err(format!("write [payments.{name}], and its terms below")) };
        let mut words = name.clone();
        for (key, value) in terms {
            let value = word(&format!("payments.{name}.{key}"), value)?;
            if value.contains([',', ';']) {
                return Err(format!("payments.{name}.{key} has no , and no ;"));
            }
            words.push_str(&format!(",{key}={value}"));
        }
        Ok(words)
    };
    let gateways: Result<Vec<String>, String> = gateways.into_iter().map(gateway).collect();
    Ok(gateways?.join(";"))
}

fn word(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Array(values) => {
            let words: Result<Vec<String>, String> = values.into_iter().map(|value| word(name, value)).collect();
            Ok(words?.join(","))
        }
        _ => Err(format!("{name} is a string, a whole number or a list of strings")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(file: &str, words: &[&str]) -> Result<crate::config::Serve, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hongbao.toml");
        std::fs::write(&path, file).unwrap();
        let mut all: Vec<OsString> = ["hongbao", "serve", "--config"].map(OsString::from).to_vec();
        all.push(path.into());
        all.extend(words.iter().map(OsString::from));
        match Cli::from_words(all).map_err(|error| error.to_string())?.task {
            Task::Serve(serve) => Ok(serve),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_counts_before_the_file_and_that_before_what_is_usual() {
        let file = r#"
            listen = "127.0.0.1:9000"
            test = true
            backend = "redis"
            redis = ["redis://a:1", "redis://b:2"]
            in_flight_max = 100
            largest_total = 2000000
        "#;
        let serve = parse(file, &["--listen", "127.0.0.1:9001", "--drain-s", "3"]).unwrap();
        assert_eq!(serve.listen.to_string(), "127.0.0.1:9001");
        assert!(serve.test);
        assert_eq!(serve.redis, ["redis://a:1", "redis://b:2"]);
        assert_eq!((serve.in_flight_max, serve.drain_s, serve.connections_max), (100, 3, 10_000));
        assert_eq!(serve.caps.largest_total.map(|it| it.minor()), Some(2_000_000));
    }

    #[test]
    fn payment_gateways_are_tables() {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let gateway = |name: &str, more: &str| {
            format!("[payments.{name}]\nurl = \"https://{name}.example.com/v2\"\nsecret_file = {secret:?}\n{more}\n")
        };
        let both = gateway("alipay", "") + &gateway("wechat", "pay_within_s = 60");
        let serve = parse(&both, &[]).unwrap();
        let told: Vec<_> = serve.payments.iter().map(|it| (&*it.name, &*it.url, it.pay_within_s)).collect();
        assert_eq!(
            told,
            [("alipay", "https://alipay.example.com/v2", 900), ("wechat", "https://wechat.example.com/v2", 60)]
        );
        for (wrong, told) in [
            ("payments = 3".to_owned(), "say NAME,url=URL"),
            ("[payments]\nalipay = 3".to_owned(), "write [payments.alipay]"),
            (gateway("alipay", "speed = 9"), "speed is not known"),
            (gateway("alipay", "keep_s = \"1;2\""), "has no , and no ;"),
        ] {
            let error = parse(&wrong, &[]).expect_err(&wrong);
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_in_the_file_is_told_with_its_name() {
        for (file, told) in [
            ("in_flight = 3", "there is no option in_flight"),
            ("in-flight-max = 3", "there is no option in-flight-max"),
            ("config = \"x\"", "there is no option config"),
            ("in_flight_max = 0", "0 is not in 1..=1000000"),
            ("in_flight_max = 1.5", "is a string, a whole number"),
            ("test = \"yes\"", "test is true or false"),
            ("listen = \"nowhere\"", "name a host and a port"),
            ("[limits]\nlargest_total = 5", "there is no option limits"),
            ("listen = ", "TOML parse error"),
        ] {
            let error = parse(file, &[]).expect_err(file);
            assert!(error.contains("hongbao.toml: ") && error.contains(told), "{file}: {error}");
        }
    }
}
