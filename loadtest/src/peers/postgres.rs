//! Red envelopes in PostgreSQL as they are usually built: a row a share, the
//! next free one taken with SKIP LOCKED, one share a user by a unique index.

use super::closed::{Measured, histogram};
use super::process::{self, Process};
use super::{Absence, Options};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const REMEDY: &str = "apt-get install postgresql";
/// Where Debian keeps the server's programs, by version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Free shares for a second of a turn.
const SHARES_PER_S: u64 = 40_000;
const TABLE: &str = "CREATE TABLE share (envelope int, n int, amount bigint NOT NULL, winner bigint, \
    PRIMARY KEY (envelope, n)) WITH (fillfactor = 50); \
    CREATE INDEX free ON share (envelope, n) WHERE winner IS NULL; \
    CREATE UNIQUE INDEX once ON share (envelope, winner) WHERE winner IS NOT NULL; ";
const TAKE: &str = "\\set winner random(1, 1000000000000)\n\
    UPDATE share SET winner = :winner WHERE envelope = 1 AND n = (SELECT n FROM share \
    WHERE envelope = 1 AND winner IS NULL LIMIT 1 FOR UPDATE SKIP LOCKED) \
    AND NOT EXISTS (SELECT 1 FROM share WHERE envelope = 1 AND winner = :winner) RETURNING amount;\n";

/// How its programs are called: it refuses to run as root, so as its own user then.
struct Programs {
    directory: PathBuf,
    user: Option<&'static str>,
}

impl Programs {
    fn find() -> Result<Programs, Absence> {
        let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
        let mut places: Vec<_> = versions.collect();
        places.sort();
        places.reverse();
        let postgres = process::need("postgres", &places, REMEDY)?;
        let directory = postgres.parent().map(Path::to_owned).unwrap_or_default();
        process::need("pgbench", std::slice::from_ref(&directory), REMEDY)?;
        let user = rustix::process::geteuid().is_root().then_some("postgres");
        Ok(Programs { directory, user })
    }

    fn command(&self, name: &str) -> Command {
        let program = self.directory.join(name);
        match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]);
                command.arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// Lets the server's user have the directory.
    fn give(&self, directory: &Path) -> Result<(), String> {
        let Some(user) = self.user else { return Ok(()) };
        let passwd = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let line = fields.into_iter().find(|fields| fields.first() == Some(&user) && fields.len() > 3);
        let id = |field: usize| line.as_ref().and_then(|line| line[field].parse().ok());
        let (Some(uid), Some(gid)) = (id(2), id(3)) else { return Err(format!("there is no user {user}")) };
        chown(directory, Some(uid), Some(gid)).map_err(|error| error.to_string())?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(|error| error.to_string())
    }
}

pub(super) fn turn(options: &Options, directory: &Path) -> Result<Measured, Absence> {
    let programs = Programs::find()?;
    programs.give(directory)?;
    let data = directory.join("data");
    let mut create = programs.command("initdb");
    create.args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--pgdata"]).arg(&data);
    process::output(create.current_dir(directory))?;
    let mut command = programs.command("postgres");
    // A name of its own directory, no port; a buffer that holds the table; syncs as they come.
    command.args(["-c", "listen_addresses=", "-c", "shared_buffers=512MB", "-c", "max_connections=1100"]);
    command.arg("-c").arg(format!("unix_socket_directories={}", directory.display()));
    command.arg("-D").arg(&data).current_dir(directory);
    let log = directory.join("log");
    let mut server = Process::start(command, Some(&log))?.ended_by(Signal::INT);
    let sql = |statements: &str| {
        let mut psql = programs.command("psql");
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--username=postgres", "--dbname=postgres", "--host"]);
        psql.arg(directory).args(["--set=ON_ERROR_STOP=1", "--command", statements]);
        process::output(psql.current_dir(directory)).map(|told| told.trim().to_owned())
    };
    server.wait_until(|| sql("SELECT 1").is_ok())?;
    let shares = (SHARES_PER_S as f64 * options.duration.as_secs_f64()).max(20_000.0) as u64;
    sql(&format!("{TABLE} INSERT INTO share SELECT 1, n, 100 FROM generate_series(1, {shares}) n"))?;
    sql("VACUUM ANALYZE share")?;
    sql("CHECKPOINT")?;
    let script = directory.join("take.sql");
    fs::write(&script, TAKE).map_err(|error| error.to_string())?;
    let mut bench = programs.command("pgbench");
    let threads = options.connections.min(2);
    bench.args(["--no-vacuum", "--log", "--protocol=prepared", "--username=postgres", "--host"]).arg(directory);
    bench.args([&format!("--client={}", options.connections), &format!("--jobs={threads}")]);
    bench.args([&format!("--time={}", options.duration.as_secs().max(1)), "--file"]).arg(&script);
    bench.arg("postgres");
    let told = process::output(bench.current_dir(directory))?;
    let measured = read(&told, directory)?;
    let winners: u64 = sql("SELECT count(winner) FROM share")?.parse().map_err(|_| "no count".to_owned())?;
    if winners != measured.grabs {
        let why =
            if winners == shares { " (all shares were taken: --duration is too long for this machine)" } else { "" };
        return Err(format!("{} transactions, {winners} winners{why}", measured.grabs).into());
    }
    Ok(measured)
}

/// What `pgbench` says of the rate, and its log of a line a transaction: client,
/// number, microseconds, ...
fn read(told: &str, directory: &Path) -> Result<Measured, String> {
    let figure = |line: &str| line.split_once(" = ")?.1.split(' ').next()?.parse::<f64>().ok();
    let per_s = told.lines().find(|line| line.starts_with("tps = ")).and_then(figure);
    let per_s = per_s.ok_or_else(|| format!("pgbench tells no tps: {told}"))?;
    let mut latency_us = histogram();
    for entry in fs::read_dir(directory).map_err(|error| error.to_string())?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("pgbench_log.") {
            continue;
        }
        let log = fs::read_to_string(entry.path()).map_err(|error| error.to_string())?;
        for line in log.lines() {
            let us = line.split(' ').nth(2).and_then(|us| us.parse().ok());
            latency_us.saturating_record(us.ok_or_else(|| format!("pgbench logs no time: {line}"))?);
        }
    }
    Ok(Measured::new(latency_us.len(), per_s, &latency_us))
}
