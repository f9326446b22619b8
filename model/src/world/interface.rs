//! The network interface that Gloo is to use: the one on the way to the master. Left to itself Gloo takes the address that the host's
//! own name has, or the loopback, and ranks of two machines never meet; or it listens on a network where one machine's ranks need none.

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::environment::{Membership, Rendezvous};

/// Names the interface that Gloo uses, and NCCL for finding its peers.
const NAMES: [&str; 2] = ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"];

/// Has Gloo and NCCL use the interface on the way to the master, where nobody said otherwise.
pub(super) fn choose(member: &Membership) {
    let address = match &member.rendezvous {
        Rendezvous::File(_) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Rendezvous::Tcp { host, port, .. } => own_address(host, *port),
    };
    let Some(name) = address.and_then(interface_of) else {
        return;
    };
    for variable in NAMES
        .into_iter()
        .filter(|variable| std::env::var_os(variable).is_none())
    {
        // SAFETY: before the group's threads, the only ones that read these; Rust's readers take the lock that this takes.
        unsafe { std::env::set_var(variable, &name) };
    }
}

/// The address from which this machine would speak to a master; nothing is sent.
fn own_address(host: &str, port: u16) -> Option<IpAddr> {
    [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ]
    .into_iter()
    .find_map(|any| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((host, port)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

/// The name of the interface that has an address.
fn interface_of(address: IpAddr) -> Option<String> {
    let mut first = std::ptr::null_mut();
    // SAFETY: room for one pointer; the list is freed below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return None;
    }
    let (mut at, mut name) = (first, None);
    while !at.is_null() && name.is_none() {
        // SAFETY: an entry of the list, which ends with a null pointer.
        let entry = unsafe { &*at };
        if address_of(entry) == Some(address) {
            // SAFETY: the system's names end with NUL.
            let text = unsafe { CStr::from_ptr(entry.ifa_name) };
            name = Some(text.to_string_lossy().into_owned());
        }
        at = entry.ifa_next;
    }
    // SAFETY: what getifaddrs gave, once.
    unsafe { libc::freeifaddrs(first) };
    name
}

fn address_of(entry: &libc::ifaddrs) -> Option<IpAddr> {
    if entry.ifa_addr.is_null() {
        return None;
    }
    // SAFETY: the family says which of the two structures it is.
    unsafe {
        match i32::from((*entry.ifa_addr).sa_family) {
            libc::AF_INET => {
                let found = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                let found = entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(found.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}
