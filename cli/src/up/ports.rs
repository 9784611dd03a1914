//! Ports of 127.0.0.1 that are ours for as long as the mesh runs.
//!
//! A port that was found free is somebody else's a moment later, and a configuration with a port in it cannot be taken
//! back. So a port is *held*: a socket is bound to it and never listens, and is open for sharing, so that the process
//! it is meant for can bind it beside us: an Envoy does with `SO_REUSEPORT` (its listeners) or `SO_REUSEADDR` (its admin
//! interface), services with `SO_REUSEADDR`, as every server framework sets it. Connections only ever reach a socket that
//! listens.
//!
//! Who listens on a port keeps us from it, whereas what is left of closed connections (`TIME_WAIT`, for a minute) does
//! not: else a mesh could not be started again where it just was. Two that hold would not keep each other off,
//! as neither listens. So whoever holds a port also has the UDP port of the same number, which is shared with nobody.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use anyhow::Context;
use socket2::{Domain, Socket, Type};

/// Ports below are where people run things by hand.
const LOWEST: u16 = 10_000;

/// Fewer candidates than this are not worth avoiding the kernel's own range for.
const FEW: usize = 2_000;

/// A port of 127.0.0.1 that nobody else can take.
#[derive(Debug)]
pub(crate) struct Held {
    address: SocketAddr,
    _socket: Socket,
    /// Keeps others like us off.
    _mark: UdpSocket,
}

impl Held {
    /// Holds this port, or says why not.
    pub(crate) fn port(port: u16) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mark = UdpSocket::bind(address)?;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        // Only now: before, it would let us in beside another of our user's Envoys.
        socket.set_reuse_port(true)?;
        Ok(Self {
            address,
            _socket: socket,
            _mark: mark,
        })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Finds ports to hold.
#[derive(Debug)]
pub(crate) struct Ports {
    candidates: Vec<u16>,
    next: usize,
}

impl Ports {
    /// Starts anywhere, so that two meshes that start together rarely try the same ports.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let candidates = candidates(&ephemeral());
        let start = getrandom::u32().context("the system gives no random numbers")?;
        let next = start as usize % candidates.len();
        Ok(Self { candidates, next })
    }

    /// Holds a port that nobody had.
    pub(crate) fn hold(&mut self) -> anyhow::Result<Held> {
        for _ in 0..self.candidates.len() {
            let port = self.candidates[self.next];
            self.next = (self.next + 1) % self.candidates.len();
            match Held::port(port) {
                Ok(held) => return Ok(held),
                // Taken, or kept by the system for itself: not ours, try the next.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
                    ) => {}
                Err(error) => return Err(error).context(format!("cannot bind 127.0.0.1:{port}")),
            }
        }
        anyhow::bail!(
            "127.0.0.1 has no free port between {LOWEST} and {}",
            u16::MAX
        )
    }
}

/// The ports that the kernel gives to outgoing connections: one of those may be in use for a moment when a process we
/// start, or restart, wants to listen on it.
fn ephemeral() -> RangeInclusive<u16> {
    // The range of IANA, which macOS and the BSDs use.
    let fallback = 49_152..=u16::MAX;
    let Ok(text) = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range") else {
        return fallback;
    };
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(low)), Some(Ok(high))) if low <= high => low..=high,
        _ => fallback,
    }
}

fn candidates(ephemeral: &RangeInclusive<u16>) -> Vec<u16> {
    let outside: Vec<u16> = (LOWEST..=u16::MAX)
        .filter(|port| !ephemeral.contains(port))
        .collect();
    if outside.len() < FEW {
        (LOWEST..=u16::MAX).collect()
    } else {
        outside
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn no_port_is_held_twice() {
        let (mut one, mut other) = (Ports::new().unwrap(), Ports::new().unwrap());
        // The worst case: both begin at the same port.
        other.next = one.next;
        let held: Vec<Held> = (0..50)
            .flat_map(|_| [one.hold().unwrap(), other.hold().unwrap()])
            .collect();
        let distinct: BTreeSet<u16> = held.iter().map(|held| held.address().port()).collect();
        assert_eq!(distinct.len(), held.len());
    }

    #[test]
    fn the_process_it_is_meant_for_can_listen_and_others_cannot_hold_it() {
        let held = Ports::new().unwrap().hold().unwrap();
        // The standard library sets SO_REUSEADDR, as services do.
        let listener = TcpListener::bind(held.address()).unwrap();
        let client = std::net::TcpStream::connect(held.address()).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(
            Held::port(held.address().port()).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }

    #[test]
    fn several_workers_can_listen_on_a_held_port() {
        let held = Ports::new().unwrap().hold().unwrap();
        let workers: Vec<Socket> = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_reuse_port(true).unwrap();
                socket.bind(&held.address().into()).unwrap();
                socket.listen(16).unwrap();
                socket
            })
            .collect();
        for _ in 0..20 {
            std::net::TcpStream::connect(held.address()).unwrap();
        }
        drop(workers);
    }

    #[test]
    fn a_port_that_somebody_has_is_not_held() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(
            Held::port(port).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }

    #[test]
    fn what_is_left_of_closed_connections_keeps_nobody_off() {
        let held = Ports::new().unwrap().hold().unwrap();
        let address = held.address();
        let listener = TcpListener::bind(address).unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        // The side that closes first is left with the remains.
        drop((server, listener, held));
        drop(client);
        assert_eq!(Held::port(address.port()).unwrap().address(), address);
    }

    #[test]
    fn the_kernels_own_range_is_avoided_unless_it_is_nearly_everything() {
        assert_eq!(
            candidates(&(32_768..=60_999)),
            (10_000..=32_767)
                .chain(61_000..=65_535)
                .collect::<Vec<u16>>()
        );
        assert_eq!(
            candidates(&(1_024..=65_000)),
            (10_000..=65_535).collect::<Vec<u16>>()
        );
    }
}
