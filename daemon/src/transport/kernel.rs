//! What the kernel grants a socket, and counts about it.

use std::net::UdpSocket;

use rustix::net::sockopt;
use socket2::Socket;

/// What is asked of the system: a burst of a whole election, or of some thousand entries, while the node's
/// thread does not run for 50 ms.
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Asks for a large buffer: past the system's limit if this process may, else as much as the limit allows. What
/// was granted is reported, and bounds what leaders send at once.
pub(super) fn enlarge_receive_buffer(socket: &Socket) {
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER_BYTES).is_err() {
        // The kernel cuts the size to its limit (`net.core.rmem_max`) without an error.
        let _granted_less = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    }
}

/// The kernel doubles what was asked for, and counts its own bookkeeping in: half of it is for datagrams.
pub(super) fn receive_buffer_bytes(socket: &UdpSocket) -> u64 {
    sockopt::socket_recv_buffer_size(socket).map_or(0, |granted| granted as u64 / 2)
}

/// The number by which the kernel's tables name this socket.
pub(super) fn inode(socket: &UdpSocket) -> Option<u64> {
    rustix::fs::fstat(socket).ok().map(|stat| stat.st_ino)
}

/// Datagrams dropped because one of these sockets was full. 0 where the table cannot be read.
pub(super) fn drops(inodes: &[u64]) -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/udp").unwrap_or_default();
    drops_in(&table, inodes)
}

/// `table` has one line a socket; its tenth word is the inode and its last one the drops (proc(5)).
fn drops_in(table: &str, inodes: &[u64]) -> u64 {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let inode: u64 = words.nth(9)?.parse().ok()?;
        let drops: u64 = words.next_back()?.parse().ok()?;
        inodes.contains(&inode).then_some(drops)
    };
    table.lines().skip(1).filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::drops_in;

    #[test]
    fn only_the_drops_of_our_sockets_count() {
        let table = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  375: 4D4DFFEF:15B3 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 23011 2 0000000000000000 17
  375: 4D4DFFEF:15B3 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 23012 2 0000000000000000 400
  376: 0100007F:D431 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 23013 2 0000000000000000 3
";
        assert_eq!(drops_in(table, &[23011, 23013]), 20);
        assert_eq!(drops_in("", &[1]), 0);
        assert_eq!(drops_in("a\nb c", &[1]), 0);
    }
}
