//! A line to a TCP server of any protocol, which a test makes slow, silent or broken.

use std::io::Result;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What the line does to what is sent over it, either way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Good,
    /// Each piece arrives so much later.
    Slow(Duration),
    /// It takes connections, and what is sent arrives when the mood changes.
    Silent,
    /// It closes all connections, also new ones.
    Broken,
}

/// A running line; it ends when dropped.
pub struct Line {
    /// Host and port.
    pub address: String,
    mood: watch::Sender<Mood>,
    cuts: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Line {
    /// Starts one to `server` (host and port).
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mood, moods) = watch::channel(Mood::Good);
        let (cuts, cut) = watch::channel(0);
        let server = server.to_owned();
        let task = tokio::spawn(async move {
            // Connections end with the line.
            let mut connections = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                // What was cut before it came is none of its business.
                let mut cut = cut.clone();
                cut.mark_unchanged();
                connections.spawn(carry(client, server.clone(), moods.clone(), cut));
            }
        });
        Self { address, mood, cuts, task }
    }

    /// Changes its mood.
    pub fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Closes the connections that there are.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    client: TcpStream,
    server: String,
    mood: watch::Receiver<Mood>,
    mut cut: watch::Receiver<u32>,
) {
    let mut broken = mood.clone();
    let carried = async {
        spoken(&mut mood.clone()).await;
        let server = TcpStream::connect(server).await?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let there = pump(from_client, to_server, mood.clone());
        tokio::try_join!(there, pump(from_server, to_client, mood)).map(|_| ())
    };
    // Whichever way a connection ends, both ends are closed here.
    tokio::select! {
        _ = carried => {}
        _ = cut.changed() => {}
        _ = broken.wait_for(|mood| *mood == Mood::Broken) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mood: watch::Receiver<Mood>,
) -> Result<()> {
    let mut piece = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut piece).await?;
        if let Mood::Slow(by) = spoken(&mut mood).await {
            tokio::time::sleep(by).await;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
    }
}

/// The mood, when it is not to be silent.
async fn spoken(mood: &mut watch::Receiver<Mood>) -> Mood {
    mood.wait_for(|mood| *mood != Mood::Silent).await.map_or(Mood::Broken, |mood| *mood)
}
