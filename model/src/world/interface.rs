//! Chooses the network interface for Gloo: the one that leads to the master. By default Gloo takes the
//! address of the host's name or the loopback. Ranks on two machines may then never meet, and ranks on one
//! machine may listen on a network that they do not need.

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::environment::{Membership, Rendezvous};

/// The variables that name the interface, of Gloo and of NCCL's bootstrap.
const NAMES: [&str; 2] = ["GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"];

/// Makes Gloo and NCCL use the interface that leads to the master, unless a variable names another one. Returns false if
/// none leads there, as while the machine's cable is out.
pub(super) fn choose(member: &Membership) -> bool {
    let address = match &member.rendezvous {
        Rendezvous::File(_) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Rendezvous::Tcp { host, port, .. } => own_address(host, *port),
    };
    let Some(name) = address.and_then(interface_of) else {
        return false;
    };
    for variable in NAMES
        .into_iter()
        .filter(|variable| std::env::var_os(variable).is_none())
    {
        // SAFETY: the group's threads, which are the only ones to read these variables outside Rust, do not
        // exist yet; Rust's readers take the lock that `set_var` takes.
        unsafe { std::env::set_var(variable, &name) };
    }
    true
}

/// Returns the address from which this machine reaches the master. Connecting a UDP socket sends nothing.
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

/// Returns the name of the interface with this address.
fn interface_of(address: IpAddr) -> Option<String> {
    let mut first = std::ptr::null_mut();
    // SAFETY: `first` has room for one pointer, and the list is freed below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return None;
    }
    let (mut at, mut name) = (first, None);
    while !at.is_null() && name.is_none() {
        // SAFETY: `at` is an entry of the list, which ends with a null pointer.
        let entry = unsafe { &*at };
        if address_of(entry) == Some(address) {
            // SAFETY: interface names end with NUL.
            let text = unsafe { CStr::from_ptr(entry.ifa_name) };
            name = Some(text.to_string_lossy().into_owned());
        }
        at = entry.ifa_next;
    }
    // SAFETY: the list came from `getifaddrs` and is freed once.
    unsafe { libc::freeifaddrs(first) };
    name
}

fn address_of(entry: &libc::ifaddrs) -> Option<IpAddr> {
    if entry.ifa_addr.is_null() {
        return None;
    }
    // SAFETY: the address family says which of the two structures this is.
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
