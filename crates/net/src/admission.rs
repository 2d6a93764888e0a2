//! How many strangers may be there at once, and from where. A stranger is a peer of whom it is not yet known that it is
//! an agent; only they are counted by address, since a whole site may stand behind one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts strangers; the map holds only addresses that have one now.
#[derive(Debug)]
pub(crate) struct Admission {
    all_max: usize,
    per_address_max: usize,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One stranger's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn new(all_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { all_max, per_address_max, counted: Mutex::default() })
    }

    pub(crate) fn strangers(&self) -> usize {
        self.counted().all
    }

    /// `None`: there is no place.
    #[must_use]
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = block(address);
        let mut counted = self.counted();
        let here = counted.by_address.get(&address).copied().unwrap_or(0);
        if counted.all >= self.all_max || here >= self.per_address_max {
            return None;
        }
        counted.all += 1;
        counted.by_address.insert(address, here + 1);
        Some(Place { admission: self.clone(), address })
    }

    /// The counts are whole at every moment, so a panic elsewhere that poisoned the lock left nothing half done.
    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counted = self.admission.counted();
        counted.all = counted.all.saturating_sub(1);
        match counted.by_address.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(counted.by_address.remove(&self.address)),
        }
    }
}

/// One party's addresses: an IPv4 address, or the /64 that a single IPv6 host may use all of.
fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_come_back() {
        let admission = Admission::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let a = admission.admit(ip("192.0.2.1")).unwrap();
        let b = admission.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert!(admission.admit(ip("192.0.2.1")).is_none());
        let c = admission.admit(ip("2001:db8::1")).unwrap();
        assert!(admission.admit(ip("192.0.2.9")).is_none());
        drop(a);
        let d = admission.admit(ip("2001:db8::ffff")).unwrap();
        drop(b);
        assert!(admission.admit(ip("2001:db8::2")).is_none());
        assert!(admission.admit(ip("2001:db8:0:1::2")).is_some());
        assert_eq!(admission.strangers(), 2);
        drop((c, d));
        assert_eq!(admission.strangers(), 0);
        assert!(admission.counted().by_address.is_empty());
    }
}
