//! A small HTTP/1.1 server, plain or TLS, with connection faults.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{future, io};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::lock;

/// The treatment of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptMode {
    /// Serve them.
    Serve,
    /// Reset them immediately.
    Reset,
    /// Accept them and send nothing, so that a TLS handshake never completes.
    Stall,
}

/// A port of the loopback interface that refuses connections. No other process can bind it before it is dropped.
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    /// Binds a free port without listening.
    pub fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self(socket)
    }

    /// The URL that refuses connections, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

/// The response to a request, or the end of the connection without one.
pub(crate) type HandlerResult = Result<Response<Full<Bytes>>, End>;

/// Handles a request on a connection.
pub(crate) type Handler = Arc<dyn Fn(u64, Request<Incoming>) -> BoxFuture<'static, HandlerResult> + Send + Sync>;

/// The end of a connection without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A TCP reset, which the peer sees as an error.
    Reset,
    /// An orderly end.
    Close,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Error for End {}

/// A listening server. Dropping it closes the listener and all connections.
pub(crate) struct Server {
    address: SocketAddr,
    accept_mode: Arc<Mutex<AcceptMode>>,
    idle_limit: watch::Sender<Option<Duration>>,
    open_connections: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(tls: Option<TlsAcceptor>, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accept_mode = Arc::new(Mutex::new(AcceptMode::Serve));
        let idle_limit = watch::Sender::new(None);
        let open_connections = watch::Sender::new(0);
        let acceptor = Acceptor {
            tls,
            handler,
            accept_mode: Arc::clone(&accept_mode),
            idle_limit: idle_limit.subscribe(),
            open_connections: open_connections.clone(),
        };
        let task = tokio::spawn(acceptor.run(listener));
        Self { address, accept_mode, idle_limit, open_connections, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set_accept_mode(&self, mode: AcceptMode) {
        *lock(&self.accept_mode) = mode;
    }

    pub(crate) fn close_idle_after(&self, limit: Option<Duration>) {
        self.idle_limit.send_replace(limit);
    }

    pub(crate) async fn all_connections_closed(&self) {
        let _ = self.open_connections.subscribe().wait_for(|open| *open == 0).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Acceptor {
    tls: Option<TlsAcceptor>,
    handler: Handler,
    accept_mode: Arc<Mutex<AcceptMode>>,
    idle_limit: watch::Receiver<Option<Duration>>,
    open_connections: watch::Sender<usize>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        for number in 1.. {
            let stream = loop {
                tokio::select! {
                    accepted = listener.accept() => break accepted.unwrap().0,
                    Some(_) = connections.join_next() => {}
                }
            };
            let mode = *lock(&self.accept_mode);
            let (tls, idle_limit, handler) = (self.tls.clone(), self.idle_limit.clone(), Arc::clone(&self.handler));
            let open = OpenConnection::new(&self.open_connections);
            connections.spawn(async move {
                // Declared before the stream, so that it is dropped after the stream is closed.
                let _open = open;
                let stream = stream;
                match mode {
                    AcceptMode::Serve => {}
                    AcceptMode::Reset => return reset(&stream),
                    AcceptMode::Stall => return future::pending().await,
                }
                let _ = stream.set_nodelay(true);
                let stream = match tls {
                    None => Stream::Plain(stream),
                    // The client reports a failed handshake.
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Stream::Tls(Box::new(stream)),
                        Err(_) => return,
                    },
                };
                serve(number, stream, idle_limit, handler).await;
            });
        }
    }
}

/// Counts a connection until it is dropped.
struct OpenConnection(watch::Sender<usize>);

impl OpenConnection {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|open| *open += 1);
        Self(count.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

async fn serve(number: u64, stream: Stream, idle_limit: watch::Receiver<Option<Duration>>, handler: Handler) {
    // The start of the idle period. `None` before the first request and during a request.
    let idle_since = watch::Sender::new(None);
    let idle = idle_since.subscribe();
    let idle_since = Arc::new(idle_since);
    let service = service_fn(move |request| {
        idle_since.send_replace(None);
        let response = handler(number, request);
        let idle_since = Arc::clone(&idle_since);
        async move {
            let response = response.await;
            idle_since.send_replace(Some(Instant::now()));
            response
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let should_reset = {
        let mut idle_too_long = pin!(idle_too_long(idle_limit, idle));
        tokio::select! {
            // The connection is polled first, so that a response is written before the connection counts as idle.
            biased;
            result = &mut connection => result.is_err_and(|error| is_reset(&error)),
            () = &mut idle_too_long => false,
        }
    };
    if should_reset {
        reset(connection.into_parts().io.inner().tcp());
    }
}

async fn idle_too_long(mut limit: watch::Receiver<Option<Duration>>, mut idle: watch::Receiver<Option<Instant>>) {
    loop {
        let deadline = limit.borrow_and_update().zip(*idle.borrow_and_update()).map(|(limit, since)| since + limit);
        let expired = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = expired => return,
            Ok(()) = limit.changed() => {}
            Ok(()) = idle.changed() => {}
            else => future::pending().await,
        }
    }
}

/// Returns `true` if the handler ended the connection with a reset.
fn is_reset(error: &hyper::Error) -> bool {
    error.source().and_then(|source| source.downcast_ref()) == Some(&End::Reset)
}

/// Makes the following close a TCP reset, which the peer sees as an error instead of an orderly end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// A connection, plain or TLS.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
