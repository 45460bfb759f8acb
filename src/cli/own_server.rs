//! Where a server with this configuration is reached from the machine that it runs on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address to connect to for one that is listened on; `None` if that leaves the port open.
pub(super) fn address(bind: SocketAddr) -> Option<SocketAddr> {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    (bind.port() != 0).then_some(SocketAddr::new(ip, bind.port()))
}
