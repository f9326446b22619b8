//! The address on which the daemon listens for engines. The user gives an address that the other machines can reach.
//! By default the daemon listens on none.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

/// An address with a port. With port 0 the system chooses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

/// The address on which the daemon listens for engines, and the join file that tells it to them.
#[derive(Clone, Debug)]
pub struct JoinDoor {
    /// Address that the daemon listens on.
    pub address: ListenAddress,
    /// Path of the join file that the daemon writes.
    pub file: PathBuf,
}

impl FromStr for ListenAddress {
    type Err = String;

    /// Reads `ADDR` or `ADDR:PORT`, where the address may be a name.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return meant(address, text);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return meant((address, 0).into(), text);
        }
        let (name, port) = text.rsplit_once(':').unwrap_or((text, "0"));
        let port = port
            .parse()
            .map_err(|_| format!("{text}: {port} is not a port, expected ADDR or ADDR:PORT"))?;
        let found = (name, port).to_socket_addrs();
        let found = found.map_err(|error| format!("{text}: {error}"))?.next();
        let address = found.ok_or_else(|| format!("{text}: the name does not resolve to an address"))?;
        if address.ip().is_loopback() && name != "localhost" {
            let ip = address.ip();
            return Err(format!(
                "{text}: the name resolves to {ip} here, which other machines cannot reach; give the address itself"
            ));
        }
        meant(address, text)
    }
}

/// Refuses an address that stands for all addresses of the machine. The daemon could not tell engines which one to
/// dial, and it would also listen on networks for which it is not meant.
fn meant(address: SocketAddr, text: &str) -> Result<ListenAddress, String> {
    if address.ip().is_unspecified() {
        return Err(format!(
            "{text}: this means all networks of this machine; give the address that the other machines can reach"
        ));
    }
    Ok(ListenAddress(address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_a_port_and_one_that_is_all_of_them_is_refused() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1:0"),
            ("10.1.2.3:7000", "10.1.2.3:7000"),
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::1]:7", "[::1]:7"),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.0.to_string(), expected);
        }
        for (text, words) in [
            ("0.0.0.0", "all networks"),
            ("[::]:7000", "all networks"),
            ("10.1.2.3:70000", "70000 is not a port"),
            ("no such name.invalid:1", "no such name.invalid:1: "),
        ] {
            let wrong = text.parse::<ListenAddress>().unwrap_err();
            assert!(wrong.contains(words), "{wrong}");
        }
    }
}
