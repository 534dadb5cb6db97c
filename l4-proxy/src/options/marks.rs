//! `--fwmark MARK=ADDRESS:PORT[,...]`: where what belongs to services by firewall mark comes in.

use l4_proxy::fwmark::Entrance;
use lvs_core::Protocol;

/// What `--fwmark` wants.
pub(super) const WANTED: &str =
    "MARK=VIP:PORT[,udp:VIP:PORT] or packets=VIP:PORT[,VIP:PORT], such as 1=192.0.2.1:80,192.0.2.1:443";

/// Reads one option.
pub(super) fn read(text: &str) -> Option<Vec<Entrance>> {
    let (mark, addresses) = text.split_once('=')?;
    let entrance = |address: &str| {
        if mark == "packets" {
            return Some(Entrance::OfPackets { address: address.parse().ok()? });
        }
        let (protocol, address) = match address.split_once(':') {
            Some(("tcp", address)) => (Protocol::Tcp, address),
            Some(("udp", address)) => (Protocol::Udp, address),
            _ => (Protocol::Tcp, address),
        };
        Some(Entrance::OfMark { mark: mark.parse().ok()?, protocol, address: address.parse().ok()? })
    };
    addresses.split(',').map(entrance).collect()
}

pub(super) const HELP: &str = "\
A service by firewall mark (ipvsadm -f MARK, virtual_server fwmark MARK) has no address of its own.
In IPVS the packet filter marks the packets that belong to it. A proxy has to listen somewhere, and
there are two ways to say where; both may be given more than once.

Every address belongs to one mark. The packet filter needs no rules, and UDP can be served:

  l4-proxy --fwmark 1=192.0.2.1:80,192.0.2.1:443,udp:192.0.2.1:443 ...

The packets' own marks decide, so the rules of an IPVS director stay as they are. TCP only:

  l4-proxy --fwmark packets=192.0.2.1:80,192.0.2.1:443 ...
  sysctl -w net.ipv4.tcp_fwmark_accept=1
  nft -f - <<'RULES'
  table ip l4-marks {
    chain prerouting {
      type filter hook prerouting priority mangle;
      ip daddr 192.0.2.1 tcp dport { 80, 443 } meta mark set 1
    }
  }
  RULES

(or iptables -t mangle -A PREROUTING -d 192.0.2.1 -p tcp -m multiport --dports 80,443 -j MARK
--set-mark 1). The setting is for IPv6 as well; answers to a marked connection carry its mark, so
rules of ip rule fwmark are for them too. A connection whose mark belongs to no service is reset.

Either way all addresses of a mark are one service: a persistent client gets the same server on
each. A real server with port 0 is connected to at the port that the client asked for:

  ipvsadm -A -f 1 -s wlc -p 600
  ipvsadm -a -f 1 -r 10.0.0.1:0 -m
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_mark_are_read() {
        let read = |text: &str| super::read(text).map(|entrances| format!("{entrances:?}"));
        let entrances = super::read("7=192.0.2.1:80,udp:[2001:db8::1]:53").expect("two");
        let [
            Entrance::OfMark { mark, protocol: Protocol::Tcp, .. },
            Entrance::OfMark { protocol: Protocol::Udp, address, .. },
        ] = entrances[..]
        else {
            panic!("{entrances:?}")
        };
        assert_eq!((mark.get(), address.port()), (7, 53));
        assert!(read("packets=192.0.2.1:80").expect("one").contains("OfPackets"));
        for wrong in
            ["", "1", "0=192.0.2.1:80", "1=192.0.2.1", "1=", "x=192.0.2.1:80", "packets=udp:192.0.2.1:80"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
