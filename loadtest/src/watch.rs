//! The seconds of a run while it lasts: merged, written to `latency.hlog`, shown.
//!
//! **Invariant:** every interval is told once, whole (all workers' parts merged)
//! and in order.

use crate::live::Live;
use crate::summary::Second;
use crate::tally::{Interval, new_histogram};
use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriter, IntervalLogWriterBuilder, LogEntry,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

/// A histogram a second, from when requests were due.
pub(crate) const LATENCY_FILE: &str = "latency.hlog";
/// One histogram of the run, from when requests were sent.
pub(crate) const SERVICE_FILE: &str = "service.hlog";

/// All seconds of a run.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) latency: Histogram<u64>,
    pub(crate) seconds: Vec<Second>,
}

/// Merges the workers' seconds until all workers are done, telling each.
/// `offered` is what is due in each second.
///
/// # Errors
/// Why the log could not be written.
pub(crate) fn watch(
    intervals: &Receiver<Interval>,
    workers: u32,
    started: SystemTime,
    offered: &[f64],
    log: Option<&Path>,
) -> io::Result<Watched> {
    let mut out: Box<dyn Write> = match log {
        Some(path) => Box::new(BufWriter::new(File::create(path)?)),
        None => Box::new(io::sink()),
    };
    let mut serializer = V2DeflateSerializer::new();
    let what = "[Latency from the intended start, in microseconds; Interval_Max in milliseconds]";
    let mut writer = begin(&mut out, &mut serializer, started, what)?;
    let mut live = Live::new(offered);
    let mut watched = Watched { latency: new_histogram(), seconds: Vec::new() };
    let mut open: BTreeMap<u64, (u32, Interval)> = BTreeMap::new();
    let mut tell = |interval: Interval, watched: &mut Watched| {
        let second = second(&interval, offered);
        live.show(&second);
        watched.seconds.push(second);
        watched.latency += &interval.latency;
        write(&mut writer, &interval.latency, interval.second)
    };
    for part in intervals {
        let entry = open.entry(part.second).or_insert_with(|| (0, Interval::new(part.second)));
        entry.0 += 1;
        merge(&mut entry.1, &part);
        while let Some(first) = open.first_entry() {
            if first.get().0 < workers {
                break;
            }
            tell(first.remove().1, &mut watched)?;
        }
    }
    for (_, interval) in open.into_values() {
        tell(interval, &mut watched)?;
    }
    live.finish();
    out.flush()?;
    Ok(watched)
}

fn merge(into: &mut Interval, part: &Interval) {
    into.latency += &part.latency;
    into.wins += part.wins;
    into.sold_outs += part.sold_outs;
    into.errors += part.errors;
}

fn second(interval: &Interval, offered: &[f64]) -> Second {
    let at = |quantile| interval.latency.value_at_quantile(quantile);
    Second {
        second: interval.second,
        offered: offered.get(interval.second as usize).copied().unwrap_or(0.0),
        answers: interval.latency.len(),
        wins: interval.wins,
        sold_outs: interval.sold_outs,
        errors: interval.errors,
        p50_us: at(0.5),
        p99_us: at(0.99),
        max_us: interval.latency.max(),
    }
}

fn begin<'a, 'b, W: Write>(
    out: &'a mut W,
    serializer: &'b mut V2DeflateSerializer,
    started: SystemTime,
    what: &str,
) -> io::Result<IntervalLogWriter<'a, 'b, W, V2DeflateSerializer>> {
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(what)
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1000.0)
        .begin_log_with(out, serializer)
}

fn write<W: Write>(
    writer: &mut IntervalLogWriter<'_, '_, W, V2DeflateSerializer>,
    histogram: &Histogram<u64>,
    second: u64,
) -> io::Result<()> {
    let start = Duration::from_secs(second);
    writer.write_histogram(histogram, start, Duration::from_secs(1), None).map_err(io::Error::other)
}

/// Writes histograms of consecutive seconds, or a single one of a whole run.
///
/// # Errors
/// With the path.
pub(crate) fn write_log(
    path: &Path,
    started: SystemTime,
    what: &str,
    histograms: &[Histogram<u64>],
) -> Result<(), String> {
    let written = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = begin(&mut out, &mut serializer, started, what)?;
        for (second, histogram) in histograms.iter().enumerate() {
            write(&mut writer, histogram, second as u64)?;
        }
        out.flush()
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}

/// The histograms of a log by their second.
///
/// # Errors
/// With the path.
pub(crate) fn read_log(path: &Path) -> Result<BTreeMap<u64, Histogram<u64>>, String> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let log = std::fs::read(path).map_err(|error| named(&error))?;
    let mut read = BTreeMap::new();
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.map_err(|error| named(&format!("{error:?}")))? else { continue };
        let bytes = base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram());
        let bytes = bytes.map_err(|error| named(&error))?;
        let part: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).map_err(|error| named(&error))?;
        // Histograms read back resize themselves; the sum has the bounds of all others.
        *read.entry(interval.start_timestamp().as_secs()).or_insert_with(new_histogram) += &part;
    }
    Ok(read)
}
