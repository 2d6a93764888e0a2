//! Lines that devices and hosts without an agent send by syslog: each becomes an event of the manager's own, with its
//! sender's address as location.

use std::net::IpAddr;
use std::sync::Arc;

use tally_net::{AuthdError, Authority, Split, SyslogPort, SyslogTransport};
use tally_ossec::keys::Address;
use tally_ossec::syslog::{Splitter, text};
use tally_types::{LogLine, LogQueue};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, channel};

use crate::config::{SyslogInput, Transport};
use crate::input::Input;
use crate::queue::Inlet;

/// Messages between the ports and the ingest thread's own queue.
const WAITING_MAX: usize = 1024;
/// Messages that become one input.
const AT_ONCE: usize = 256;

/// What can be wrong with an input.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    #[error(transparent)]
    Port(#[from] AuthdError),
    #[error("[[syslog]] {0}: \"{1}\" is no address and no network: write 192.0.2.7, 192.0.2.0/24 or any")]
    Address(std::net::SocketAddr, String),
    #[error("[[syslog]] {0}: nobody is allowed to send; name who may: allow = [\"192.0.2.0/24\"]")]
    Nobody(std::net::SocketAddr),
}

/// Opens all of them, and tells their addresses.
pub fn start(
    inputs: &[SyslogInput],
    authority: &Authority,
    runtime: &Runtime,
    inlet: &Inlet<Input>,
) -> Result<Vec<std::net::SocketAddr>, SyslogError> {
    let (sender, messages) = channel(WAITING_MAX);
    let mut open = Vec::new();
    for input in inputs {
        let transport = match input.transport {
            Transport::Udp => SyslogTransport::Udp,
            Transport::Tcp => SyslogTransport::Tcp,
            Transport::Tls => SyslogTransport::Tls,
        };
        let own = input.certificate.as_deref().zip(input.key.as_deref());
        let gate = gate(input)?;
        let port = runtime.block_on(SyslogPort::bind(input.listen, transport, authority, own, gate))?;
        open.push(port.local_addr());
        runtime.spawn(port.serve::<Stream>(sender.clone()));
    }
    runtime.spawn(hand_over(messages, inlet.clone()));
    Ok(open)
}

/// Who is denied is not heard, nor is who is not allowed.
fn gate(input: &SyslogInput) -> Result<tally_net::SyslogGate, SyslogError> {
    let networks = |texts: &[String]| {
        let parse =
            |text: &String| Address::parse(text).ok_or_else(|| SyslogError::Address(input.listen, text.clone()));
        texts.iter().map(parse).collect::<Result<Vec<_>, _>>()
    };
    let (allow, deny) = (networks(&input.allow)?, networks(&input.deny)?);
    if allow.is_empty() {
        return Err(SyslogError::Nobody(input.listen));
    }
    Ok(Arc::new(move |address: IpAddr| {
        !deny.iter().any(|network| network.covers(address)) && allow.iter().any(|network| network.covers(address))
    }))
}

/// Many messages are one input: the ingest thread is asked once for all of them.
async fn hand_over(mut messages: Receiver<(IpAddr, Box<[u8]>)>, inlet: Inlet<Input>) {
    let mut waiting = Vec::new();
    while messages.recv_many(&mut waiting, AT_ONCE).await > 0 {
        let lines: Vec<_> = waiting.drain(..).filter_map(|(address, message)| line(address, &message)).collect();
        let bytes = lines.iter().map(|line| line.text.len() + 128).sum();
        if inlet.send(Input::Lines { lines }, bytes).await.is_err() {
            return;
        }
    }
}

/// `None` of an empty message.
fn line(address: IpAddr, message: &[u8]) -> Option<LogLine> {
    let text = text(message);
    (!text.is_empty()).then(|| LogLine::new(address.to_string(), LogQueue::Syslog, &*text))
}

#[derive(Default)]
struct Stream(Splitter);

impl Split for Stream {
    fn take(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        self.0.take(bytes, each);
    }

    fn end(&mut self, each: &mut dyn FnMut(&[u8])) {
        self.0.end(each);
    }
}
