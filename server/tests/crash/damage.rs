//! Bytes that change on the disk: damage is refused, a torn tail is cut.

use crate::client::{Ask, Client};
use crate::process::{Running, audit, hongbao, run, serve, told};
use crate::refusals::{BROKEN, USAGE, refused};
use hongbao_engine::store::{FjallOptions, FjallRows, KeyRange, Rows, Table};
use serde_json::{Value, json};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The size of a block, of a segment's header, and what frames are aligned to.
const BLOCK_BYTES: u64 = 4096;
const DEPOSITS: u64 = 20;

/// A server with money in it.
fn funded(data: &Path) -> (Running, SocketAddr) {
    let (server, address) = Running::ready(&mut serve(data, &[]));
    let mut client = Client::new(address);
    for n in 0..DEPOSITS {
        let ask = Ask::post("/v1/wallets/bob/deposits", &json!({ "amount": 100, "reference": format!("r{n}") }));
        client.json(&ask.with_key(format!("k{n}")));
    }
    (server, address)
}

fn bob(address: SocketAddr) -> Value {
    Client::new(address).json(&Ask::get("/v1/wallets/bob"))["available"].clone()
}

/// The newest segment of the journal.
pub fn newest_segment(data: &Path) -> PathBuf {
    let files = std::fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("segment-")).max().unwrap()
}

pub struct Frame {
    pub offset: u64,
    bytes: Vec<u8>,
}

impl Frame {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }
}

/// The frames of a segment, as the layout in the journal's `frame.rs` has them.
pub fn frames(segment: &Path) -> Vec<Frame> {
    let file = File::open(segment).unwrap();
    let mut frames: Vec<Frame> = Vec::new();
    let mut offset = BLOCK_BYTES;
    loop {
        let mut frame = Frame { offset, bytes: vec![0; BLOCK_BYTES as usize] };
        file.read_exact_at(&mut frame.bytes, offset).unwrap();
        let epoch = frames.first().map_or(frame.u64(8), |first| first.u64(8));
        if frame.bytes[..4] != *b"HBFR" || frame.u64(8) != epoch {
            return frames;
        }
        offset += (40 + u64::from(frame.u32(28))).next_multiple_of(BLOCK_BYTES);
        frames.push(frame);
    }
}

pub fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[test]
fn a_flipped_byte_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (status, log) = funded(&data).0.stop();
    assert!(status.success(), "{log}");
    let segment = newest_segment(&data);
    let frames = frames(&segment);
    assert!(frames.len() as u64 >= DEPOSITS, "one caller after the other is one frame after the other");
    let name = segment.display().to_string();
    // In the segment's header, a frame's header, a payload, and the last frame of all.
    let last = frames.last().unwrap().offset;
    for (flipped, block) in
        [(20, 0), (frames[3].offset + 10, 3), (frames[7].offset + 50, 7), (last + 30, frames.len() - 1)]
    {
        flip(&segment, flipped);
        let offset = format!("corrupt at offset {}", if flipped < BLOCK_BYTES { 0 } else { frames[block].offset });
        refused(&mut serve(&data, &[]), BROKEN, &[&name, &offset, "Remedy: ", "backup"]);
        let output = audit(&data);
        assert!(output.status.code() == Some(1) && told(&output).contains(&offset), "{}", told(&output));
        flip(&segment, flipped);
    }
    // Refusing changed nothing: with the bytes as they were, it starts.
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    assert_eq!(bob(address), DEPOSITS * 100);
    assert!(server.stop().0.success());
}

#[test]
fn a_flipped_byte_before_sound_frames_is_refused_after_a_crash_too() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    funded(&data).0.kill();
    let segment = newest_segment(&data);
    let frame = &frames(&segment)[5];
    flip(&segment, frame.offset + 41);
    let offset = format!("corrupt at offset {}", frame.offset);
    refused(
        &mut serve(&data, &[]),
        BROKEN,
        &[&segment.display().to_string(), &offset, "a sound one follows", "Remedy: "],
    );
    flip(&segment, frame.offset + 41);
    let (_server, address) = Running::ready(&mut serve(&data, &[]));
    assert_eq!(bob(address), DEPOSITS * 100, "refusing changed nothing");
}

/// What a crash in the middle of a write leaves: the head of the next frame,
/// and a checksum that its bytes do not have.
#[test]
fn a_torn_tail_is_cut_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    funded(&data).0.kill();
    let segment = newest_segment(&data);
    let frames = frames(&segment);
    let last = frames.last().unwrap();
    let end = last.offset + (40 + u64::from(last.u32(28))).next_multiple_of(BLOCK_BYTES);
    let mut torn = vec![0; BLOCK_BYTES as usize];
    torn[..4].copy_from_slice(b"HBFR");
    torn[4..8].copy_from_slice(&1u32.to_le_bytes());
    torn[8..16].copy_from_slice(&last.u64(8).to_le_bytes());
    torn[16..24].copy_from_slice(&(last.u64(16) + u64::from(last.u32(24))).to_le_bytes());
    torn[24..28].copy_from_slice(&1u32.to_le_bytes());
    torn[28..32].copy_from_slice(&9_000u32.to_le_bytes());
    torn[32..36].copy_from_slice(&last.u32(4).to_le_bytes());
    torn[36..40].copy_from_slice(&1u32.to_le_bytes());
    torn[40..].fill(b'x');
    File::options().write(true).open(&segment).unwrap().write_all_at(&torn, end).unwrap();

    let output = audit(&data);
    assert!(output.status.success(), "a torn tail is no difference: {}", told(&output));
    for reported in [true, false] {
        let (server, address) = Running::ready(&mut serve(&data, &[]));
        assert_eq!(bob(address), DEPOSITS * 100, "nothing that was acknowledged is cut");
        let log = server.kill();
        let line = log.lines().find(|line| line.contains("cut a torn batch"));
        assert_eq!(line.is_some(), reported, "told once, when it is cut:\n{log}");
        if let Some(line) = line {
            let offset = format!("offset={end}");
            assert!(line.contains(&segment.display().to_string()) && line.contains(&offset), "{line}");
        }
    }
}

/// The history of a few lives, some of them ended by a crash, from the archive.
#[test]
fn an_archive_holds_everything_from_the_first_record() {
    let directory = tempfile::tempdir().unwrap();
    let [data, archive] = ["data", "archive"].map(|name| directory.path().join(name));
    let archived = || std::fs::read_dir(&archive).map_or(0, Iterator::count);
    let path = archive.display().to_string();
    for life in 0..3 {
        let (server, address) = Running::ready(&mut serve(&data, &["--archive", &path]));
        let ask = Ask::post("/v1/wallets/bob/deposits", &json!({ "amount": 100 }));
        Client::new(address).json(&ask.with_key(format!("k{life}")));
        // What the life before wrote is in the store by now, or soon.
        let until = Instant::now() + Duration::from_secs(60);
        while archived() < life {
            assert!(Instant::now() < until, "a segment that is not needed any more is archived:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        if life == 1 {
            server.kill();
        } else {
            assert!(server.stop().0.success());
        }
    }
    let audit = || run(hongbao().args(["audit", "--archive", &path, "--data"]).arg(&data));
    assert!(audit().status.success(), "{}", told(&audit()));
    assert!(told(&audit()).contains("3 records read"), "{}", told(&audit()));
    let first = std::fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    flip(&first, BLOCK_BYTES + 45);
    assert_eq!(audit().status.code(), Some(1), "{}", told(&audit()));
    assert!(told(&audit()).contains(&first.display().to_string()), "{}", told(&audit()));
}

#[test]
fn audit_finds_a_difference() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    assert!(funded(&data).0.stop().0.success());
    let clean = audit(&data);
    assert!(clean.status.success() && told(&clean).contains("clean"), "{}", told(&clean));
    {
        let rows = FjallRows::open(&data.join("store"), FjallOptions::default()).unwrap();
        let (key, _) = rows.snapshot().scan(Table::Entries, &KeyRange::all()).nth(4).unwrap().unwrap();
        rows.commit(vec![(Table::Entries, key, None)]).unwrap();
        rows.persist().unwrap();
    }
    let output = audit(&data);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("difference 1: bob's wallet"), "{}", told(&output));
}

#[test]
fn a_directory_that_is_none_is_wrong_usage() {
    let directory = tempfile::tempdir().unwrap();
    let (missing, foreign) = (directory.path().join("nothing"), directory.path().join("notes"));
    std::fs::create_dir_all(foreign.join("journal")).unwrap();
    for (data, why) in [(&missing, "does not exist"), (&foreign, "is not a data directory")] {
        for task in [&["audit"][..], &["clock", "accept"]] {
            let name = data.display().to_string();
            refused(hongbao().args(task).arg("--data").arg(data), USAGE, &[&name, why, "--data"]);
        }
        let copy = ["copy", "--to", "redis://127.0.0.1:1", "--from"];
        refused(hongbao().args(copy).arg(data), USAGE, &[why, "name the server's with --from"]);
    }
    assert!(!missing.exists());
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1, "nothing was made");
    let data = directory.path().join("data");
    assert!(funded(&data).0.stop().0.success());
    let archive = missing.display().to_string();
    refused(hongbao().args(["audit", "--archive", &archive, "--data"]).arg(&data), USAGE, &[&archive, "--archive"]);
}

#[test]
fn a_damaged_store_is_refused_with_the_remedy_and_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let [data, archive] = ["data", "archive"].map(|name| directory.path().join(name));
    let path = archive.display().to_string();
    let rebuild = || run(hongbao().args(["rebuild", "--archive", &path, "--data"]).arg(&data));
    let (server, address) = Running::ready(&mut serve(&data, &["--archive", &path]));
    let ask = Ask::post("/v1/wallets/bob/deposits", &json!({ "amount": 100 })).with_key("k".to_owned());
    let answered = Client::new(address).json(&ask);
    assert!(told(&rebuild()).contains("in use"), "{}", told(&rebuild()));
    assert!(server.stop().0.success());
    let store = data.join("store");
    std::fs::write(store.join("version"), b"something else").unwrap();
    let refused = run(&mut serve(&data, &["--archive", &path]));
    for says in [store.display().to_string(), format!("hongbao rebuild --data {}", data.display())] {
        assert!(told(&refused).contains(&says), "{}", told(&refused));
    }
    let output = rebuild();
    assert!(output.status.success() && told(&output).contains("store.old-1"), "{}", told(&output));
    let (server, address) = Running::ready(&mut serve(&data, &["--archive", &path]));
    assert_eq!(Client::new(address).json(&ask), answered, "the key still knows its answer");
    assert!(server.stop().0.success());
}
