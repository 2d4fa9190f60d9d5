//! Frames as octets and back, for a real switch.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::{Body, Frame, Mac, Tuple};

/// The internet's checksum (RFC 1071).
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, proto: u8, body: &[u8]) -> Vec<u8> {
    let length = (20 + body.len() as u16).to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, proto, 0, 0];
    header.extend_from_slice(&src.octets());
    header.extend_from_slice(&dst.octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    [&header, body].concat()
}

fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, proto: u8, mut body: Vec<u8>, sum_at: usize) -> Vec<u8> {
    let pseudo =
        [&src.octets()[..], &dst.octets(), &(body.len() as u32).to_be_bytes(), &[0, 0, 0, proto]];
    let sum = checksum(&[&pseudo.concat(), &body]);
    body[sum_at..sum_at + 2].copy_from_slice(&sum);
    let length = (body.len() as u16).to_be_bytes();
    let header = [0x60, 0, 0, 0, length[0], length[1], proto, 255];
    [&header[..], &src.octets(), &dst.octets(), &body].concat()
}

/// The octets of a frame.
pub fn encode(frame: &Frame) -> Vec<u8> {
    let (kind, body): (u16, Vec<u8>) = match &frame.body {
        Body::Arp { op, sha, spa, tha, tpa } => {
            let head = [&[0, 1, 8, 0, 6, 4][..], &op.to_be_bytes()].concat();
            (0x0806, [&head[..], sha, &spa.octets(), tha, &tpa.octets()].concat())
        }
        Body::Other(kind) => (*kind, vec![0; 46]),
        Body::Nd { kind, src, dst, target, mac, flags } => {
            let head = [&[*kind, 0, 0, 0][..], &flags.to_be_bytes(), &target.octets()].concat();
            let option = if *kind == 135 { 1 } else { 2 };
            let told = mac.map_or(Vec::new(), |mac| [&[option, 1][..], &mac].concat());
            (0x86dd, ipv6(*src, *dst, 58, [head, told].concat(), 2))
        }
        Body::Ip(tuple) => {
            let ports = [tuple.src_port.to_be_bytes(), tuple.dst_port.to_be_bytes()].concat();
            let (mut body, sum_at) = match tuple.proto {
                17 => ([&ports[..], &12_u16.to_be_bytes(), &[0, 0], b"data"].concat(), 6),
                1 | 58 => {
                    let head = [tuple.src_port as u8, tuple.dst_port as u8, 0, 0];
                    ([&head[..], &tuple.icmp_id.to_be_bytes(), &[0, 1], b"data"].concat(), 2)
                }
                other => panic!("protocol {other} is not replayed"),
            };
            match (tuple.src, tuple.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => {
                    if tuple.proto == 1 {
                        let sum = checksum(&[&body]);
                        body[sum_at..sum_at + 2].copy_from_slice(&sum);
                    }
                    (0x0800, ipv4(src, dst, tuple.proto, &body))
                }
                (IpAddr::V6(src), IpAddr::V6(dst)) => {
                    (0x86dd, ipv6(src, dst, tuple.proto, body, sum_at))
                }
                mixed => panic!("{mixed:?}"),
            }
        }
    };
    let tag = frame.tag.map_or(Vec::new(), |vid| [0x8100_u16, vid].map(u16::to_be_bytes).concat());
    let mut out = [&frame.eth_dst[..], &frame.eth_src, &tag, &kind.to_be_bytes(), &body].concat();
    out.resize(out.len().max(60), 0);
    out
}

fn mac(bytes: &[u8]) -> Mac {
    bytes[..6].try_into().unwrap()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn v4(bytes: &[u8], at: usize) -> Ipv4Addr {
    let octets: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
    octets.into()
}

fn v6(bytes: &[u8], at: usize) -> Ipv6Addr {
    let octets: [u8; 16] = bytes[at..at + 16].try_into().unwrap();
    octets.into()
}

/// The frame of octets that [`encode`] made, whatever a switch did to its fields.
pub fn decode(bytes: &[u8]) -> Frame {
    let tagged = u16_at(bytes, 12) == 0x8100;
    let (tag, at) = if tagged { (Some(u16_at(bytes, 14) & 0xfff), 16) } else { (None, 12) };
    let body = &bytes[at + 2..];
    let transport = |proto: u8, src: IpAddr, dst: IpAddr, rest: &[u8]| {
        let (src_port, dst_port, icmp_id) = match proto {
            1 | 58 => (rest[0].into(), rest[1].into(), u16_at(rest, 4)),
            // Not read by the tables, and not kept by the model.
            _ => (u16_at(rest, 0), u16_at(rest, 2), 7),
        };
        Body::Ip(Tuple { proto, src, dst, src_port, dst_port, icmp_id })
    };
    let body = match u16_at(bytes, at) {
        0x0806 => Body::Arp {
            op: u16_at(body, 6),
            sha: mac(&body[8..]),
            spa: v4(body, 14),
            tha: mac(&body[18..]),
            tpa: v4(body, 24),
        },
        0x0800 => transport(body[9], v4(body, 12).into(), v4(body, 16).into(), &body[20..]),
        0x86dd if body[6] == 58 && matches!(body[40], 135 | 136) => {
            let length = usize::from(u16_at(body, 4));
            Body::Nd {
                kind: body[40],
                src: v6(body, 8),
                dst: v6(body, 24),
                target: v6(body, 48),
                mac: (length >= 32).then(|| mac(&body[66..])),
                flags: u32::from(u16_at(body, 44)) << 16 | u32::from(u16_at(body, 46)),
            }
        }
        0x86dd => transport(body[6], v6(body, 8).into(), v6(body, 24).into(), &body[40..]),
        other => Body::Other(other),
    };
    Frame { eth_dst: mac(bytes), eth_src: mac(&bytes[6..]), tag, body }
}
