//! Lines that documents give to paste are pasted: into a shell, against the real binary in test mode, and
//! what comes out is what the document says.
//!
//! A block of JSON or text is what the lines before it print, line by line. Ids, hashes and times are others in
//! each run: one that stands twice in the document stands twice in what comes out.

#![allow(missing_docs, unreachable_pub, reason = "nothing outside reads this crate")]

#[path = "crash/client.rs"]
#[allow(dead_code, reason = "only readiness is asked for")]
mod client;
#[path = "crash/process.rs"]
#[allow(dead_code, reason = "not all that the crash tests do is done here")]
mod process;
#[path = "../../engine/tests/redis_stand/mod.rs"]
mod redis_stand;

use process::{Running, audit, hongbao, run, told};
use redis_stand::{RedisServer, ServerOptions, is_missing};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// A fenced block: what stands behind the fence, and its lines.
struct Block {
    kind: String,
    text: String,
}

/// The blocks of a document in the sections that are wanted, by their titles; what stands before the first has none.
fn blocks(file: &str, is_wanted: fn(&str) -> bool) -> Vec<Block> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (mut found, mut open, mut is_in) = (Vec::new(), None::<Block>, is_wanted(""));
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => open = Some(Block { kind: kind.to_owned(), text: String::new() }),
            (Some(_), Some(_)) => found.extend(open.take().filter(|_| is_in)),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    is_in = is_wanted(title);
                }
            }
        }
    }
    assert!(open.is_none(), "{file}: a block has no end");
    found
}

/// Between what blocks print.
const MARK: &str = "=== the lines end";

/// Starts the server as the first block says, in front of Redis if one is given; pastes the others, and compares.
fn paste(file: &str, is_wanted: fn(&str) -> bool, figures: Figures, redis: Option<&RedisServer>) {
    let has = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !has("curl") || !has("bash") {
        eprintln!("skipped: there is no curl to paste into");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let blocks = blocks(file, is_wanted);
    let (start, rest) = blocks.split_first().expect("there are blocks");
    let (before, options) = start.text.trim().split_once(" serve").expect("the first starts the server");
    let mut server = hongbao();
    server.args(["serve", "--listen", "127.0.0.1:0"]).args(options.split_whitespace()).current_dir(directory.path());
    if let Some(redis) = redis {
        server.args(["--backend", "redis", "--redis", &redis.url()]);
    }
    let key = before.split_whitespace().find_map(|word| word.strip_prefix("HONGBAO_ADMIN_KEY="));
    let (server, address) = Running::ready(server.env("HONGBAO_ADMIN_KEY", key.expect("with a key")));

    let is_shell = |block: &&Block| block.kind.is_empty();
    let pasted: Vec<String> =
        rest.iter().filter(is_shell).map(|block| format!("{}\necho '{MARK}'\n", moved(&block.text, address))).collect();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hongbao"), directory.path().join("hongbao")).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("bash");
    shell.args(["-c", &pasted.concat()]).current_dir(directory.path()).env("PATH", path).env("no_proxy", "*");
    let output = run(shell.env_remove("HONGBAO_ADMIN_KEY").env_remove("HONGBAO_KEY"));
    assert!(output.status.success(), "{}", told(&output));
    let printed = String::from_utf8(output.stdout.clone()).expect("text");
    let mark = format!("{MARK}\n");
    let mut printed = printed.split(&mark);

    let mut same = Same { figures, known: HashMap::new() };
    let mut told_of_block = "";
    for (at, block) in rest.iter().enumerate() {
        match &*block.kind {
            "" => {
                told_of_block = printed.next().expect("each block has its end");
                let is_shown = rest.get(at + 1).is_some_and(|next| !next.kind.is_empty());
                assert!(is_shown || !told_of_block.contains("\"code\":"), "{}\n{told_of_block}", block.text);
            }
            "json" | "text" => {
                let lines =
                    |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
                let (shown, came) = (lines(&block.text), lines(&moved_back(told_of_block, address)));
                let all =
                    format!("{file} shows\n{}and what came was\n{}\n{}", block.text, came.join("\n"), told(&output));
                assert_eq!(shown.len(), came.len(), "{all}");
                for (shown, came) in shown.iter().zip(&came) {
                    same.line(shown, came).unwrap_or_else(|why| panic!("{why}\n{all}"));
                }
            }
            other => panic!("{file}: nobody knows what to do with a block of {other:?}"),
        }
    }
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
    let data = options.split_whitespace().skip_while(|word| *word != "--data").nth(1).unwrap_or("data");
    let audited = match redis {
        None => audit(&directory.path().join(data)),
        Some(redis) => run(hongbao().args(["audit", "--redis", &redis.url()])),
    };
    assert!(audited.status.success(), "{}", told(&audited));
}

/// Lines as they are pasted here: at the server's address, with files of their own.
fn moved(text: &str, address: SocketAddr) -> String {
    text.replace("localhost:8080", &address.to_string()).replace("/tmp/", "./")
}

fn moved_back(text: &str, address: SocketAddr) -> String {
    text.replace(&address.to_string(), "localhost:8080")
}

/// Whether figures are the document's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figures {
    /// To the fen.
    AsShown,
    /// They are drawn: what is the same in the document is the same.
    Drawn,
}

/// What stands for what.
struct Same {
    figures: Figures,
    known: HashMap<String, String>,
}

impl Same {
    fn line(&mut self, shown: &str, came: &str) -> Result<(), String> {
        match (serde_json::from_str::<Value>(shown), serde_json::from_str::<Value>(came)) {
            (Ok(shown), Ok(came)) => self.value(&shown, &came),
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => Err(format!("{shown}\nis not of the kind of\n{came}")),
            (Err(_), Err(_)) => {
                let words = |line: &str| line.split([' ', '=', ',']).map(str::to_owned).collect::<Vec<_>>();
                let (shown, came) = (words(shown), words(came));
                if shown.len() != came.len() {
                    return Err(format!("{shown:?}\nhas not as many words as\n{came:?}"));
                }
                shown.iter().zip(&came).try_for_each(|(shown, came)| self.word(shown, came))
            }
        }
    }

    fn value(&mut self, shown: &Value, came: &Value) -> Result<(), String> {
        match (shown, came) {
            (Value::Object(shown), Value::Object(came)) => {
                let names = |of: &serde_json::Map<String, Value>| of.keys().cloned().collect::<Vec<_>>();
                if names(shown) != names(came) {
                    return Err(format!("{:?} are not {:?}", names(shown), names(came)));
                }
                shown.iter().zip(came.values()).try_for_each(|((name, shown), came)| {
                    self.value(shown, came).map_err(|why| format!("{name}: {why}"))
                })
            }
            (Value::Array(shown), Value::Array(came)) if shown.len() == came.len() => {
                shown.iter().zip(came).try_for_each(|(shown, came)| self.value(shown, came))
            }
            (Value::String(shown), Value::String(came)) => self.word(shown, came),
            (Value::Number(shown), Value::Number(came)) if self.figures == Figures::Drawn => {
                self.stands_for(&shown.to_string(), &came.to_string())
            }
            (shown, came) if shown == came => Ok(()),
            (shown, came) => Err(format!("{shown} is shown and {came} came")),
        }
    }

    fn word(&mut self, shown: &str, came: &str) -> Result<(), String> {
        match (varies(shown), varies(came)) {
            (Some(kind), Some(other)) if kind == other => self.stands_for(shown, came),
            _ if shown == came => Ok(()),
            _ => Err(format!("{shown} is shown and {came} came")),
        }
    }

    fn stands_for(&mut self, shown: &str, came: &str) -> Result<(), String> {
        let known = self.known.entry(shown.to_owned()).or_insert_with(|| came.to_owned());
        if known == came { Ok(()) } else { Err(format!("{shown} was {known} before and is {came}")) }
    }
}

/// The kind of a word that is another one in each run.
fn varies(word: &str) -> Option<&str> {
    let is_of = |text: &str, of: fn(&u8) -> bool| text.bytes().all(|byte| of(&byte));
    if let Some((prefix, digits)) = word.split_once('_')
        && digits.len() == 26
        && is_of(digits, u8::is_ascii_alphanumeric)
    {
        return Some(prefix);
    }
    if word.len() == 64 && is_of(word, u8::is_ascii_hexdigit) {
        return Some("hash");
    }
    word.parse::<jiff::Timestamp>().is_ok().then_some("time")
}

#[test]
fn the_readmes_lines_do_what_it_says() {
    let is_wanted = |title: &str| {
        ["Grab something", "An app with money of its own", "Give something", "Buy together"].contains(&title)
    };
    paste("README.md", is_wanted, Figures::Drawn, None);
}

#[test]
fn the_storys_figures_agree() {
    paste("docs/STORY.md", |_| true, Figures::AsShown, None);
}

#[test]
fn gifts_go_as_their_page_says() {
    paste("docs/GIFTS.md", |_| true, Figures::AsShown, None);
}

#[test]
fn sale_money_goes_as_its_page_says() {
    paste("docs/MONEY.md", |_| true, Figures::AsShown, None);
}

#[test]
fn the_orders_lines() {
    paste("docs/ORDERS.md", |_| true, Figures::AsShown, None);
}

#[test]
fn the_ways_to_sell() {
    paste("docs/SELLING.md", |_| true, Figures::AsShown, None);
}

#[test]
fn sale_money_goes_so_in_front_of_redis() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    paste("docs/MONEY.md", |_| true, Figures::AsShown, Some(&redis));
}

/// All but the export, which is of a directory.
#[test]
fn the_storys_figures_agree_in_front_of_redis() {
    if is_missing() {
        return;
    }
    let redis = RedisServer::start(ServerOptions::default());
    paste("docs/STORY.md", |title| title != "The books of the night", Figures::AsShown, Some(&redis));
}

#[test]
fn what_differs_is_seen() {
    let differs = |figures, pairs: &[(&str, &str)]| {
        let mut same = Same { figures, known: HashMap::new() };
        pairs.iter().find_map(|(shown, came)| same.line(shown, came).err())
    };
    let id = |digit: &str| format!("pay_{}", digit.repeat(26));
    let (one, two) = (id("1"), id("2"));
    let of = |text: &str, id: &str| text.replace("ID", id);
    for (figures, pairs, is_same) in [
        (Figures::AsShown, vec![(r#"{"a":1}"#, r#"{"a":1}"#)], true),
        (Figures::AsShown, vec![(r#"{"a":1}"#, r#"{"a":2}"#)], false),
        (Figures::Drawn, vec![(r#"{"a":1}"#, r#"{"a":2}"#), (r#"[1]"#, r#"[2]"#)], true),
        (Figures::Drawn, vec![(r#"{"a":1}"#, r#"{"a":2}"#), (r#"[1]"#, r#"[3]"#)], false),
        (Figures::Drawn, vec![(r#"{"a":1}"#, r#"{"a":1,"b":1}"#)], false),
        (Figures::Drawn, vec![(r#"{"a":"x"}"#, r#"{"a":"y"}"#)], false),
        (Figures::AsShown, vec![("a=25.00 b", "a=25.00 b")], true),
        (Figures::AsShown, vec![("a=25.00 b", "a=25.01 b")], false),
        (Figures::AsShown, vec![("a b", "a b c")], false),
    ] {
        assert_eq!(differs(figures, &pairs).is_none(), is_same, "{pairs:?}");
    }
    let line = "line=2 id=ID";
    let (shown, came) = (of(line, &one), of(line, &two));
    assert_eq!(differs(Figures::AsShown, &[(&shown, &came), (&shown, &came)]), None);
    assert!(differs(Figures::AsShown, &[(&shown, &came), (&shown, &shown)]).is_some(), "it is another one");
    assert!(differs(Figures::AsShown, &[(&shown, &of(line, "pay_1"))]).is_some(), "no id");
    let at = |second: u8| format!(r#"{{"at":"2026-02-17T20:00:0{second}.000Z"}}"#);
    assert_eq!(differs(Figures::AsShown, &[(&at(1), &at(2))]), None);
}
