//! A connection that is kept alive, and what goes over it.

use crate::process::KEY;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A request, which can be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub key: Option<String>,
    pub body: String,
}

impl Ask {
    pub fn get(path: impl Into<String>) -> Ask {
        Ask { method: "GET", path: path.into(), key: None, body: String::new() }
    }

    pub fn post(path: impl Into<String>, body: &Value) -> Ask {
        Ask { method: "POST", path: path.into(), key: None, body: body.to_string() }
    }

    pub fn with_key(mut self, key: impl Into<String>) -> Ask {
        self.key = Some(key.into());
        self
    }

    /// The parts of the path behind `/v1`, without the query.
    pub fn segments(&self) -> Vec<&str> {
        let path = self.path.split('?').next().unwrap_or_default();
        path.split('/').skip(2).collect()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Whether the header said that it was answered before.
    pub replayed: bool,
    /// After how many seconds to ask again, if that was said.
    pub retry_after_s: Option<u64>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody listens: the request was not sent.
    Unsent,
    /// It was sent, at least in part, and may or may not have been done.
    Unknown,
}

/// A server's door, and how long whoever is told 503 there asks again.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    pub address: SocketAddr,
    pub patience: Duration,
}

impl From<SocketAddr> for Door {
    fn from(address: SocketAddr) -> Door {
        Door { address, patience: Duration::ZERO }
    }
}

/// Between two askings of somebody who is patient.
const PAUSE: Duration = Duration::from_millis(50);

/// One connection at a time.
pub struct Client {
    door: Door,
    stream: Option<BufReader<TcpStream>>,
    key: String,
}

impl Client {
    pub fn new(door: impl Into<Door>) -> Client {
        Client::with_key(door, KEY)
    }

    pub fn with_key(door: impl Into<Door>, key: &str) -> Client {
        Client { door: door.into(), stream: None, key: key.to_owned() }
    }

    pub fn send(&mut self, ask: &Ask) -> Result<Answer, NoAnswer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(self.door.address).map_err(|_| NoAnswer::Unsent)?),
        };
        let (answer, stays) = self.converse(&mut stream, ask).map_err(|_| NoAnswer::Unknown)?;
        self.stream = stays.then_some(stream);
        Ok(answer)
    }

    /// Sends to a server that is not being killed.
    pub fn ask(&mut self, ask: &Ask) -> Answer {
        let until = Instant::now() + self.door.patience;
        loop {
            let answer = self.send(ask).unwrap_or_else(|why| panic!("{why:?}: {ask:?}"));
            if answer.status != 503 || Instant::now() >= until {
                return answer;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The JSON of a 2xx answer.
    pub fn json(&mut self, ask: &Ask) -> Value {
        let answer = self.ask(ask);
        assert!((200..300).contains(&answer.status), "{ask:?}: {answer:?}");
        answer.json()
    }

    fn converse(&self, stream: &mut BufReader<TcpStream>, ask: &Ask) -> io::Result<(Answer, bool)> {
        let key = ask.key.as_ref().map_or(String::new(), |key| format!("idempotency-key: {key}\r\n"));
        let content = if ask.method == "GET" { "" } else { "content-type: application/json\r\n" };
        let request = format!(
            "{} {} HTTP/1.1\r\nhost: hongbao\r\nauthorization: Bearer {}\r\n{key}{content}content-length: {}\r\n\r\n{}",
            ask.method,
            ask.path,
            self.key,
            ask.body.len(),
            ask.body
        );
        stream.get_mut().write_all(request.as_bytes())?;
        let mut line = read_line(stream)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let (mut bytes, mut replayed, mut retry_after_s, mut stays) = (0, false, None, true);
        loop {
            line = read_line(stream)?;
            let Some((name, value)) = line.split_once(':') else { break };
            match (name, value.trim()) {
                ("content-length", value) => bytes = value.parse().map_err(|_| io::ErrorKind::InvalidData)?,
                ("idempotency-replayed", "true") => replayed = true,
                ("retry-after", seconds) => retry_after_s = seconds.parse().ok(),
                ("connection", "close") => stays = false,
                _ => {}
            }
        }
        let mut body = vec![0; bytes];
        stream.read_exact(&mut body)?;
        let body = String::from_utf8(body).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok((Answer { status, replayed, retry_after_s, body }, stays))
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    // Only a server that hangs takes so long.
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    Ok(stream)
}

fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if !line.ends_with('\n') => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line.trim_end().to_owned()),
    }
}
