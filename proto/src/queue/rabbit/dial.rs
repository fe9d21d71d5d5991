//! One attempt to connect. Bounded in time in all its parts, which the library is not: a broker that takes the connection
//! and then says nothing would keep a thread of it for ever.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, process};

use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use tokio::net::lookup_host;

use super::config::Endpoint;
use super::faults;
use crate::clock::SharedClock;
use crate::fault::Result;

/// From the first packet until the broker has let us in.
const WITHIN: Duration = Duration::from_secs(10);

/// Connects. `purpose` is shown by the broker beside our name.
pub(super) async fn dial(endpoint: &Endpoint, purpose: &str, clock: &SharedClock) -> Result<Connection> {
    let context = || format!("connect to {}", endpoint.shown);
    let tls = endpoint.tls()?;
    let attempt = Attempt::default();
    let kept = Arc::clone(&attempt.0);
    let name = format!("{} {purpose} {}", endpoint.name, process::id());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime().map_err(|e| faults::lost(context(), e))?;
    let uri = endpoint.uri.clone();
    let connecting = Connection::connector(
        uri,
        runtime,
        async move |uri: AMQPUri, runtime| {
            // This runs on a thread of the library, which nobody could cancel.
            let reach = async {
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for address in lookup_host((uri.authority.host.as_str(), uri.authority.port)).await? {
                    match AsyncTcpStream::connect(&runtime, address).await {
                        Ok(stream) => {
                            if let AsyncTcpStream::Plain(plain) = &stream {
                                keep(&kept, plain.get_ref().as_fd().try_clone_to_owned()?.into());
                            }
                            return match &tls {
                                Some(tls) => stream.into_rustls(tls, &uri.authority.host).await,
                                None => Ok(stream),
                            };
                        }
                        Err(e) => last = e,
                    }
                }
                Err(last)
            };
            match tokio::time::timeout(WITHIN, reach).await {
                Ok(reached) => reached.map_err(lapin::Error::from),
                Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        },
        properties,
    );
    let connection = tokio::select! {
        made = connecting => made.map_err(|e| faults::of_connecting(&e, &endpoint.shown))?,
        () = clock.sleep(WITHIN) => {
            return Err(faults::unreachable(context(), format!("no answer within {} s", WITHIN.as_secs())));
        }
    };
    attempt.settle(Socket::Made);
    Ok(connection)
}

/// An attempt under way. Given up, it shuts its socket, which ends the library's thread too.
#[derive(Default)]
struct Attempt(Arc<Mutex<Socket>>);

#[derive(Default)]
enum Socket {
    #[default]
    Unopened,
    Open(TcpStream),
    /// The connection is made: its socket is the library's affair.
    Made,
    GivenUp,
}

impl Attempt {
    fn settle(&self, how: Socket) {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Socket::Open(open), Socket::GivenUp) = (&*socket, &how) {
            shut(open);
        }
        *socket = how;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let made = matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), Socket::Made);
        if !made {
            self.settle(Socket::GivenUp);
        }
    }
}

fn keep(attempt: &Mutex<Socket>, opened: TcpStream) {
    let mut socket = attempt.lock().unwrap_or_else(PoisonError::into_inner);
    match *socket {
        Socket::Unopened | Socket::Open(_) => *socket = Socket::Open(opened),
        Socket::GivenUp => shut(&opened),
        Socket::Made => {}
    }
}

fn shut(socket: &TcpStream) {
    // An error means that it is shut already.
    let _ = socket.shutdown(Shutdown::Both);
}
