//! A connection after authentication: the seam where TLS will go.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::inherited::Noted;

/// Unacknowledged data older than this ends the connection (A8).
const USER_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 5;

/// Sets what both lanes need.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES),
    )
}

/// An authenticated connection. Reading and writing may happen on different threads at once.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: Noted<TcpStream>,
}

impl Stream {
    /// Takes over a connection; call it in the runtime that will read it.
    pub(super) fn adopt(tcp: std::net::TcpStream) -> io::Result<Self> {
        Ok(Self { tcp: Noted::new(TcpStream::from_std(tcp)?) })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.tcp.readable().await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Reads into the spare room of `buffer`; 0 is the end.
    pub(super) fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        self.tcp.try_read_buf(buffer)
    }

    pub(super) fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.tcp.try_write_vectored(slices)
    }

    /// Ends the sending side.
    pub(super) fn finish(&self) {
        // An error means that the connection is gone already.
        let _ = SockRef::from(&*self.tcp).shutdown(Shutdown::Write);
    }

    /// Ends both sides: whoever reads or writes is woken.
    pub(super) fn shut_down(&self) {
        let _ = SockRef::from(&*self.tcp).shutdown(Shutdown::Both);
    }
}
