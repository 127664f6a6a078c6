//! A small HTTP/1.1 server, plain or TLS, whose connections can be made to fail: the part that both fakes share.

use crate::lock;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// What becomes of new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepting {
    /// They are served.
    Serve,
    /// They are reset at once.
    Reset,
    /// They are taken, and nothing is ever said on them: a TLS handshake never ends.
    Stall,
}

/// Answers a request that came in on a connection; `None` resets the connection instead.
pub(crate) type Handler =
    Arc<dyn Fn(u64, Request<Incoming>) -> BoxFuture<'static, Option<Response<Full<Bytes>>>> + Send + Sync>;

/// A listening server, which ends, with all its connections, when it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    accepting: Arc<Mutex<Accepting>>,
    idle: watch::Sender<Option<Duration>>,
    open: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(tls: Option<TlsAcceptor>, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("a listener has an address");
        let accepting = Arc::new(Mutex::new(Accepting::Serve));
        let (idle, idle_limit) = watch::channel(None);
        let open = watch::Sender::new(0);
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&accepting), idle_limit, open.clone(), handler));
        Self { address, accepting, idle, open, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn accept(&self, accepting: Accepting) {
        *lock(&self.accepting) = accepting;
    }

    pub(crate) fn close_idle_after(&self, limit: Option<Duration>) {
        self.idle.send_replace(limit);
    }

    pub(crate) async fn no_connection(&self) {
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// A connection that is counted as long as this lives.
struct Open(watch::Sender<usize>);

impl Open {
    fn count(counter: &watch::Sender<usize>) -> Self {
        counter.send_modify(|open| *open += 1);
        Self(counter.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    accepting: Arc<Mutex<Accepting>>,
    idle_limit: watch::Receiver<Option<Duration>>,
    open: watch::Sender<usize>,
    handler: Handler,
) {
    let mut connections = JoinSet::new();
    for number in 1.. {
        let stream = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => break stream,
                    Err(error) => panic!("accept: {error}"),
                },
                Some(_) = connections.join_next() => {}
            }
        };
        let accepting = *lock(&accepting);
        let (tls, idle_limit, handler) = (tls.clone(), idle_limit.clone(), Arc::clone(&handler));
        let open = Open::count(&open);
        connections.spawn(async move {
            // Dropped last, when the connection is closed.
            let _open = open;
            let stream = stream;
            match accepting {
                Accepting::Serve => {}
                Accepting::Reset => return reset(&stream),
                Accepting::Stall => return std::future::pending().await,
            }
            let _ = stream.set_nodelay(true);
            let stream = match tls {
                None => Stream::Plain(stream),
                // A client that does not like the certificate is the client's to report.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Stream::Tls(Box::new(stream)),
                    Err(_) => return,
                },
            };
            serve(number, stream, idle_limit, handler).await;
        });
    }
}

async fn serve(number: u64, stream: Stream, idle_limit: watch::Receiver<Option<Duration>>, handler: Handler) {
    // Since when the connection has been idle; `None` before its first request and while one is answered.
    let (idle_since, idle) = watch::channel(None);
    let idle_since = Arc::new(idle_since);
    let service = service_fn(move |request| {
        idle_since.send_replace(None);
        let answer = handler(number, request);
        let idle_since = Arc::clone(&idle_since);
        async move {
            let answer = answer.await.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset));
            idle_since.send_replace(Some(Instant::now()));
            answer
        }
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let refused = {
        let mut too_idle = pin!(too_idle(idle_limit, idle));
        tokio::select! {
            // The connection first, so that an answer is written before its connection counts as idle.
            biased;
            done = &mut connection => done.is_err_and(|error| error.is_user()),
            () = &mut too_idle => false,
        }
    };
    if refused {
        reset(connection.into_parts().io.inner().tcp());
    }
}

async fn too_idle(mut limit: watch::Receiver<Option<Duration>>, mut idle: watch::Receiver<Option<Instant>>) {
    loop {
        let until = limit.borrow_and_update().zip(*idle.borrow_and_update()).map(|(limit, since)| since + limit);
        let elapsed = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = elapsed => return,
            Ok(()) = limit.changed() => {}
            Ok(()) = idle.changed() => {}
            else => std::future::pending().await,
        }
    }
}

/// Makes the close that follows a reset, which the peer sees as an error and not as an orderly end.
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
