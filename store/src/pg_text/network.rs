//! Network addresses.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::Bytes;

const FAMILY_INET: u8 = 2;
const FAMILY_INET6: u8 = 3;

/// `inet_send`: family, prefix length, whether a cidr, address length, address. The prefix of a whole host is left out
/// but for a cidr.
pub(super) fn inet(value: &mut Bytes<'_>, cidr: bool) -> Option<String> {
    let (family, prefix, _is_cidr, length) = (value.u8()?, value.u8()?, value.u8()?, value.u8()?);
    let (address, full) = match (family, length) {
        (FAMILY_INET, 4) => (Ipv4Addr::from(value.array::<4>()?).to_string(), 32),
        (FAMILY_INET6, 16) => (ipv6(value.array::<16>()?), 128),
        _ => return None,
    };
    Some(if prefix != full || cidr { format!("{address}/{prefix}") } else { address })
}

/// Two hexadecimal digits a byte, parted by colons.
pub(super) fn mac(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        let colon = if index > 0 { ":" } else { "" };
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

/// `pg_inet_net_ntop`: the first longest run of two or more zero words becomes `::`, and what embeds an IPv4
/// address ends in dotted form.
fn ipv6(bytes: [u8; 16]) -> String {
    let words: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let (base, length) = longest_zero_run(&words);
    let dotted = base == 0 && (length == 6 || (length == 5 && words[5] == 0xffff));
    let mut text = String::new();
    let mut index = 0;
    while index < 8 {
        if length >= 2 && index == base {
            text.push(':');
            index += length;
            if index == 8 {
                text.push(':');
            }
            continue;
        }
        if index > 0 {
            text.push(':');
        }
        if index == 6 && dotted {
            let _ = write!(text, "{}", Ipv4Addr::new(bytes[12], bytes[13], bytes[14], bytes[15]));
            break;
        }
        let _ = write!(text, "{:x}", words[index]);
        index += 1;
    }
    text
}

fn longest_zero_run(words: &[u16]) -> (usize, usize) {
    let mut best = (0, 0);
    let mut start = None;
    for (index, word) in words.iter().chain(std::iter::once(&1)).enumerate() {
        if *word == 0 {
            start.get_or_insert(index);
        } else if let Some(begin) = start.take()
            && index - begin > best.1
        {
            best = (begin, index - begin);
        }
    }
    best
}
