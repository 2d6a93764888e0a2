//! The UDP port, owned by us and lent to QUIC.
//!
//! Every QUIC packet that our peers send has the bit 0x40 in its first byte (RFC 9000 §17; we do not grease it, and tell
//! the peer so). What lacks it is foreign and never reaches quinn: OSSEC's datagrams begin with `!`, `:` or `#`, which all
//! lack it. Here is where they part; what nobody takes is counted and dropped.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};

use crate::counter::Counters;
use crate::foreign::{ForeignDatagram, ForeignInlet};
use crate::limit::SOCKET_BUFFER_BYTES;

/// RFC 9000 §17.2: the fixed bit.
const FIXED_BIT: u8 = 0x40;

#[derive(Debug)]
pub(crate) struct SharedPort {
    quic: Arc<dyn AsyncUdpSocket>,
    foreign: Arc<ForeignInlet>,
}

impl SharedPort {
    /// Opens the port; what is foreign is put into a queue of its own. Must be called within a tokio runtime.
    pub(crate) fn bind(address: SocketAddr, counters: Arc<Counters>) -> io::Result<(Self, Receiver<ForeignDatagram>)> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        // As large as the kernel allows: a smaller buffer only loses datagrams that QUIC sends again.
        let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
        let _ = state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
        let (foreign, receiver) = ForeignInlet::new(counters);
        Ok((Self { quic: TokioRuntime.wrap_udp_socket(socket)?, foreign }, receiver))
    }

    pub(crate) fn foreign(&self) -> Arc<ForeignInlet> {
        self.foreign.clone()
    }

    /// Empties the buffers that hold foreign datagrams; quinn passes over an empty one. A buffer that the kernel merged
    /// (GRO) holds datagrams of one sender and one kind; should its later ones be of another, QUIC drops them.
    fn part(&self, bufs: &[IoSliceMut<'_>], metas: &mut [RecvMeta]) {
        for (buf, meta) in bufs.iter().zip(metas) {
            let foreign = buf.first().is_some_and(|first| first & FIXED_BIT == 0);
            if foreign && meta.len > 0 {
                self.foreign.take(&buf[..meta.len.min(buf.len())], meta);
                meta.len = 0;
            }
        }
    }
}

impl AsyncUdpSocket for SharedPort {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.quic.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.quic.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.quic.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(n)) = received {
            self.part(bufs, &mut meta[..n]);
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.quic.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.quic.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.quic.may_fragment()
    }
}
