//! The random cases once more, through a real vswitchd: what leaves by which port is the same as in
//! the interpreter, whose results the model judges. The same frames are traced, and the trace says
//! what the switch did.
//!
//! TCP is left out: its packets would need the sequence numbers of real connections, which the tests of
//! the data plane have. So are ICMP errors, which would have to carry the packets that they are about.

use flow_compiler::trace::{Connection, End, Probe, trace};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::frame::{Body, Frame};
use crate::interpreter::Bridge;
use crate::switch::RealSwitch;
use crate::world::{self, Cloud, HOSTS, WIRE, ofport};
use crate::{Step, any_step, honest, reply_of};

fn is_replayed(frame: &Frame) -> bool {
    match &frame.body {
        Body::Ip(tuple) => {
            matches!((tuple.proto, tuple.src_port), (17, _) | (1, 0 | 8) | (58, 128 | 129))
        }
        _ => true,
    }
}

/// Both kinds of bridges, side by side.
struct Pair {
    played: Vec<Bridge>,
    real: RealSwitch,
    traced: usize,
}

impl Pair {
    fn replace(&mut self, cloud: &Cloud) {
        for host in 0..HOSTS {
            let flows = cloud.compile(host);
            self.real.replace(host, &flows);
            self.played[host].replace(flows);
        }
    }

    /// A frame comes in; both say the same. Returns what leaves.
    fn run(&mut self, cloud: &Cloud, host: usize, port: u32, frame: &Frame) -> Vec<(u32, Frame)> {
        let mut played = self.played[host].run(port, frame);
        let mut real = self.real.run(host, port, frame);
        played.sort();
        real.sort();
        assert_eq!(
            real, played,
            "host {host}, port {port}: the switch, then the interpreter, on {frame:?}"
        );
        self.trace(cloud, host, port, frame, &real);
        real
    }

    /// Where nothing was tracked before, the trace knows all that the switch did.
    fn trace(
        &mut self,
        cloud: &Cloud,
        host: usize,
        port: u32,
        frame: &Frame,
        real: &[(u32, Frame)],
    ) {
        let Body::Ip(tuple) = &frame.body else { return };
        if frame.tag.is_some() || !self.played[host].is_first(tuple) {
            return;
        }
        let probe = Probe {
            eth_src: cloud_types::MacAddress(frame.eth_src),
            eth_dst: cloud_types::MacAddress(frame.eth_dst),
            ip_src: tuple.src,
            ip_dst: tuple.dst,
            protocol: tuple.proto,
            src_port: tuple.src_port,
            dst_port: tuple.dst_port,
        };
        let traced = trace(&cloud.compile(host), port, &probe, Connection::New);
        let mut ends: Vec<(u32, [u8; 6], [u8; 6])> = traced
            .ends
            .iter()
            .filter_map(|end| match end {
                End::Output { ofport, packet } => {
                    Some((*ofport, packet.eth_src.0, packet.eth_dst.0))
                }
                End::Answered { packet } => Some((port, packet.eth_src.0, packet.eth_dst.0)),
                End::Dropped { .. } => None,
            })
            .collect();
        let mut left: Vec<(u32, [u8; 6], [u8; 6])> =
            real.iter().map(|(port, frame)| (*port, frame.eth_src, frame.eth_dst)).collect();
        ends.sort();
        left.sort();
        assert_eq!(
            ends, left,
            "host {host}, port {port}: the trace, then the switch, on {frame:?}"
        );
        self.traced += 1;
    }
}

/// Replays steps; how many frames were sent.
fn replay(pair: &mut Pair, mut cloud: Cloud, steps: &[Step]) -> usize {
    pair.played = (0..HOSTS).map(|_| Bridge::new(Vec::new())).collect();
    pair.real.forget();
    pair.replace(&cloud);
    let mut last: Option<(usize, Frame)> = None;
    let mut sent = 0;
    for step in steps {
        let named = |port: &Option<proptest::sample::Index>| {
            let named = port.map(|port| port.index(cloud.ports.len()));
            named.or(last.as_ref().map(|(port, _)| *port))
        };
        let (from, frame) = match step {
            Step::Groups { port, groups } => {
                let Some(index) = named(port) else { continue };
                cloud.ports[index].spec.security_groups = groups.clone();
                pair.replace(&cloud);
                continue;
            }
            Step::Rules { port, rules } => {
                let Some(index) = named(port) else { continue };
                cloud.ports[index].spec.security_rules = rules.clone();
                pair.replace(&cloud);
                continue;
            }
            Step::Send { from, frame } => {
                let from = from.index(cloud.ports.len());
                (from, honest(&cloud, from, frame.clone()))
            }
            Step::Answer => {
                let Some((from, heard)) = &last else { continue };
                let Some(frame) = reply_of(&cloud, *from, heard) else { continue };
                (*from, frame)
            }
        };
        if !is_replayed(&frame) {
            continue;
        }
        sent += 1;
        let host = cloud.ports[from].host;
        let mut heard = pair.run(&cloud, host, ofport(from), &frame);
        let wire: Vec<Frame> = heard
            .iter()
            .filter(|(port, _)| *port == WIRE)
            .map(|(_, frame)| frame.clone())
            .collect();
        for frame in wire {
            for other in (0..HOSTS).filter(|other| *other != host) {
                heard.extend(pair.run(&cloud, other, WIRE, &frame));
            }
        }
        last = heard.into_iter().find_map(|(port, frame)| {
            let index = (0..cloud.ports.len()).find(|index| ofport(*index) == port)?;
            Some((index, frame))
        });
    }
    sent
}

#[test]
fn a_real_switch_does_with_the_same_flows_what_the_interpreter_does() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = (world::cloud(false), proptest::collection::vec(any_step(), 40..60));
    let mut pair = Pair { played: Vec::new(), real: RealSwitch::start(), traced: 0 };
    let mut sent = 0;
    for _ in 0..8 {
        let (cloud, steps) = strategy.new_tree(&mut runner).unwrap().current();
        sent += replay(&mut pair, cloud, &steps);
    }
    println!("{sent} frames replayed, {} ways traced", pair.traced);
    assert!(sent > 100 && pair.traced > 30, "{sent} sent, {} traced", pair.traced);
}
