//! A proxy in front of an HTTP server that does as it is told to each request: loses answers, cuts bodies, answers by
//! itself. One connection carries one request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request, before it is sent on.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.head, name)
    }
}

/// What the proxy does to a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing.
    Pass,
    /// Sends it on without this header.
    Strip(&'static str),
    /// Sends it on with one byte of its body changed.
    DamageRequest,
    /// Sends it on, and closes the connection instead of passing the answer back.
    LoseAnswer,
    /// Closes the connection without sending it on.
    Refuse,
    /// Passes this many bytes of the answer's body back, then closes the connection.
    Cut(usize),
    /// Passes this many bytes of the answer's body back, with a length that says that this is all.
    Shorten(usize),
    /// Passes the answer back with one byte of its body changed.
    Damage,
    /// Keeps the connection and says nothing.
    Stall,
    /// Answers by itself, as S3 does: status, code, more headers.
    Answer(u16, &'static str, &'static str),
    /// Answers by itself, as S3 does, and says back what came in this header: status, code, header.
    Echo(u16, &'static str, &'static str),
    /// Answers by itself with a page that is not of S3.
    Page(u16),
}

/// A running proxy; it ends when dropped.
pub struct HttpProxy {
    pub endpoint: String,
    task: JoinHandle<()>,
}

impl HttpProxy {
    /// Starts one before `upstream` (a URL). `rule` is asked for each request, and told its number, from 0.
    pub async fn start(upstream: &str, rule: impl Fn(&Request, u32) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let upstream: SocketAddr = upstream.trim_start_matches("http://").parse().unwrap();
        let (rule, count) = (Arc::new(rule), Arc::new(AtomicU32::new(0)));
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (rule, count) = (Arc::clone(&rule), Arc::clone(&count));
                tokio::spawn(async move {
                    // A connection that breaks is what a proxy like this is for.
                    let _ = serve(client, upstream, |r| rule(r, count.fetch_add(1, Ordering::SeqCst))).await;
                });
            }
        });
        Self { endpoint, task }
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    rule: impl Fn(&Request) -> Act,
) -> std::io::Result<()> {
    let Some(mut request) = receive(&mut client).await? else { return Ok(()) };
    let act = rule(&request);
    match &act {
        Act::Refuse => return Ok(()),
        Act::Stall => return std::future::pending().await,
        Act::Answer(status, code, headers) => {
            return answer(&mut client, *status, headers, &error(code, "as told")).await;
        }
        Act::Echo(status, code, name) => {
            let said = request.header(name).unwrap_or_default();
            return answer(&mut client, *status, "", &error(code, &format!("no longer good: {said}"))).await;
        }
        Act::Page(status) => {
            return answer(&mut client, *status, "Content-Type: text/html\r\n", "<html>gate</html>").await;
        }
        Act::DamageRequest => {
            if let Some(byte) = request.body.last_mut() {
                *byte ^= 1;
            }
        }
        _ => {}
    }
    let left_out = if let Act::Strip(name) = &act { name } else { "connection" };
    let (head, mut body) = ask(upstream, &request, left_out).await?;
    let head = match act {
        Act::LoseAnswer => return Ok(()),
        Act::Cut(at) => {
            body.truncate(at);
            head
        }
        Act::Damage => {
            if let Some(byte) = body.last_mut() {
                *byte ^= 1;
            }
            head
        }
        Act::Shorten(at) => {
            body.truncate(at);
            without(&head, "content-length") + &format!("content-length: {}\r\n", body.len())
        }
        _ => head,
    };
    client.write_all(format!("{head}\r\n").as_bytes()).await?;
    client.write_all(&body).await?;
    client.shutdown().await
}

/// Sends a request on; the head of the answer, without its empty line, and its body.
async fn ask(upstream: SocketAddr, request: &Request, left_out: &str) -> std::io::Result<(String, Vec<u8>)> {
    let mut server = TcpStream::connect(upstream).await?;
    let head = without(&without(&request.head, "connection"), left_out) + "connection: close\r\n\r\n";
    server.write_all(head.as_bytes()).await?;
    server.write_all(&request.body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let end = end_of_head(&answer).ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_off(end);
    answer.truncate(end - 2);
    let head = String::from_utf8_lossy(&answer).into_owned();
    Ok((without(&head, "connection") + "connection: close\r\n", body))
}

async fn receive(client: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = end_of_head(&bytes) {
            break end;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let mut body = bytes.split_off(end);
    bytes.truncate(end - 2);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    if value(&head, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let length = value(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    let mut words = head.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Request { method, target, head: without(&head, "expect"), body }))
}

fn error(code: &str, message: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>")
}

async fn answer(client: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Told\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    pairs.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

fn without(head: &str, name: &str) -> String {
    let is = |line: &&str| !line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
    head.lines().filter(is).map(|line| format!("{line}\r\n")).collect()
}
