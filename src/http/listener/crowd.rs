//! Counts connections, in all and for each peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::meters::HttpMeters;
use super::ListenerSettings;

/// Who is connected.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    most_of_one: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    peers: HashMap<IpAddr, usize>,
}

/// Which bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// That of all connections.
    All,
    /// That of this peer.
    Peer,
}

/// A connection's place; free again once it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    meters: Arc<HttpMeters>,
    peer: IpAddr,
}

impl Full {
    /// The word for it in metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Peer => "peer",
        }
    }
}

impl Crowd {
    pub(super) fn new(limits: &ListenerSettings) -> Self {
        Self {
            most: limits.max_connections,
            most_of_one: limits.max_connections_per_peer,
            inside: Mutex::default(),
        }
    }

    /// A place, if both bounds leave one.
    pub(super) fn enter(
        self: &Arc<Self>,
        peer: IpAddr,
        meters: &Arc<HttpMeters>,
    ) -> Result<Seat, Full> {
        let peer = one_peer(peer);
        let mut inside = self.lock();
        if inside.total >= self.most {
            return Err(Full::All);
        }
        let own = inside.peers.get(&peer).copied().unwrap_or(0);
        if own >= self.most_of_one {
            return Err(Full::Peer);
        }
        inside.peers.insert(peer, own + 1);
        inside.total += 1;
        meters.connections.set(inside.total as u64);
        Ok(Seat {
            crowd: Arc::clone(self),
            meters: Arc::clone(meters),
            peer,
        })
    }

    /// Counters are whole at every moment, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inside = self.crowd.lock();
        inside.total -= 1;
        if let Some(own) = inside.peers.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                inside.peers.remove(&self.peer);
            }
        }
        self.meters.connections.set(inside.total as u64);
    }
}

/// One IPv6 customer has a whole /64, so its addresses count as one.
fn one_peer(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(most: usize, most_of_one: usize) -> impl Fn(&str) -> Result<Seat, Full> {
        let crowd = Arc::new(Crowd::new(&ListenerSettings {
            max_connections: most,
            max_connections_per_peer: most_of_one,
            ..ListenerSettings::default()
        }));
        let meters = Arc::new(HttpMeters::default());
        move |peer| crowd.enter(peer.parse().expect("an address"), &meters)
    }

    #[test]
    fn both_bounds_hold_and_leaving_makes_room() {
        let enter = crowd(3, 2);
        let first = enter("10.0.0.1").expect("empty");
        let _second = enter("10.0.0.1").expect("room");
        assert_eq!(enter("10.0.0.1").err(), Some(Full::Peer));
        let _other = enter("10.0.0.2").expect("another's bound");
        assert_eq!(enter("10.0.0.3").err(), Some(Full::All));
        drop(first);
        let _again = enter("10.0.0.1").expect("room again");
    }

    #[test]
    fn one_network_of_ipv6_is_one_peer_and_mapped_addresses_are_ipv4() {
        let enter = crowd(9, 1);
        let _held = enter("2001:db8::1").expect("empty");
        assert_eq!(enter("2001:db8::ffff:2").err(), Some(Full::Peer));
        let _other = enter("2001:db8:0:1::1").expect("another network");
        let _mapped = enter("::ffff:10.0.0.1").expect("another peer");
        assert_eq!(enter("10.0.0.1").err(), Some(Full::Peer));
        let _different = enter("::ffff:10.0.0.2").expect("not one network with the other");
    }
}
