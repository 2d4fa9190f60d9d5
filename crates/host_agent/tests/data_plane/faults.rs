//! Faults under traffic. Gaps are measured and printed; that traffic comes back is asserted, and that
//! nothing is lost where nothing should be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use host_protocol::Direction;

use super::packet::{inside, udp};
use super::world::{Guest, eventually};
use super::{ip, rule, tenants};

/// How often each fault happens; more in the long form.
fn rounds() -> usize {
    std::env::var("MERIDIAN_FAULT_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A datagram every 10 ms from one guest to another, with its number in it.
struct Pings {
    stop: Arc<AtomicBool>,
    sender: std::thread::JoinHandle<u64>,
    receiver: std::thread::JoinHandle<(u64, Duration)>,
}

impl Pings {
    fn start(from: &Guest, to: &Guest, last: u8) -> Pings {
        let stop = Arc::new(AtomicBool::new(false));
        let sends = udp(from, ip(1), 0);
        let receives = udp(to, ip(last), 7000);
        receives.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (stopped, until) = (stop.clone(), stop.clone());
        let sender = std::thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                sent += u64::from(sends.send_to(b"ping", (ip(last), 7000)).is_ok());
                std::thread::sleep(Duration::from_millis(10));
            }
            sent
        });
        let receiver = std::thread::spawn(move || {
            let (mut got, mut gap, mut last) = (0, Duration::ZERO, Instant::now());
            // Past the end, for what is still on its way.
            let mut quiet = 0;
            while !until.load(Ordering::Relaxed) || quiet < 5 {
                match receives.recv(&mut [0; 16]) {
                    Ok(_) => {
                        gap = gap.max(last.elapsed());
                        (got, last, quiet) = (got + 1, Instant::now(), 0);
                    }
                    Err(_) => quiet += 1,
                }
            }
            (got, gap)
        });
        Pings { stop, sender, receiver }
    }

    /// Sent, lost, and the longest time without one.
    fn end(self) -> (u64, u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap();
        let (got, gap) = self.receiver.join().unwrap();
        (sent, sent - got, gap)
    }
}

/// Octets from one end of a TCP connection to the other, as fast as they go.
struct Bulk {
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Bulk {
    /// The client begins the connection; `push` says which end sends.
    fn start(client: &Guest, server: &Guest, last: u8, client_sends: bool) -> Bulk {
        let to = SocketAddr::from((ip(last), 7100));
        let listener = inside(server, || TcpListener::bind(to).unwrap());
        let mut near =
            inside(client, || TcpStream::connect_timeout(&to, Duration::from_secs(10)).unwrap());
        let (mut far, _) = listener.accept().unwrap();
        let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        }
        if !client_sends {
            std::mem::swap(&mut near, &mut far);
        }
        let (count, stopped, until) = (received.clone(), stop.clone(), stop.clone());
        std::thread::spawn(move || {
            let chunk = [7; 16 * 1024];
            while !stopped.load(Ordering::Relaxed) {
                let _ = near.write(&chunk);
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while !until.load(Ordering::Relaxed) {
                if let Ok(length) = far.read(&mut buffer) {
                    count.fetch_add(length as u64, Ordering::Relaxed);
                }
            }
        });
        Bulk { received, stop }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until more arrives than there was.
    fn flows(&self, what: &str) {
        let before = self.received();
        eventually(what, || self.received() > before + 1_000_000);
    }

    /// Waits until nothing more arrives; how long that took from now.
    fn ends(&self) -> Duration {
        let begin = Instant::now();
        let mut last = (self.received(), Instant::now());
        while last.1.elapsed() < Duration::from_millis(1500) {
            assert!(begin.elapsed() < Duration::from_secs(30), "the transfer goes on");
            std::thread::sleep(Duration::from_millis(5));
            let now = self.received();
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
        last.1.duration_since(begin)
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_rule_that_is_taken_away_ends_a_bulk_transfer_either_way() {
    let (mut world, red, _) = tenants().parts();
    world.port("red1").security_rules = vec![rule(Direction::Egress, None, None)];
    for (receiver, last) in [(&red[1], 2), (&red[2], 3)] {
        let id = format!("red{last}");
        for client_sends in [true, false] {
            let allowed = vec![rule(Direction::Ingress, Some(6), Some(7100))];
            world.port(&id).security_rules = allowed.clone();
            world.apply();
            let bulk = Bulk::start(&red[0], receiver, last, client_sends);
            bulk.flows("a bulk transfer");
            world.port(&id).security_rules.clear();
            let begin = Instant::now();
            world.apply();
            let applied = begin.elapsed();
            let after = bulk.ends();
            println!(
                "to host {}, {} sends: applied in {applied:?}, last octet {after:?} later",
                if last == 2 { 1 } else { 2 },
                if client_sends { "client" } else { "server" },
            );
            // The guest keeps sending, and nothing more comes until the rule is back.
            let stopped = bulk.received();
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(bulk.received(), stopped);
        }
    }
}

#[test]
fn traffic_comes_back_after_the_switch_and_its_database_were_killed() {
    let (mut world, red, _) = tenants().parts();
    let bulk = Bulk::start(&red[0], &red[2], 3, true);
    bulk.flows("a transfer before");
    for what in (0..rounds()).flat_map(|_| ["ovsdb-server", "ovs-vswitchd"]) {
        let pings = Pings::start(&red[0], &red[2], 3);
        std::thread::sleep(Duration::from_millis(500));
        world.kill_and_restart(what);
        bulk.flows("the same transfer after a restart");
        let (sent, lost, gap) = pings.end();
        println!("{what} killed: {lost} of {sent} datagrams lost, longest gap {gap:?}");
        assert!(sent > lost, "nothing came back");
    }
}

#[test]
fn nothing_is_lost_when_flows_are_replaced_by_the_same_and_by_others() {
    let (mut world, red, _) = tenants().parts();
    let pings = Pings::start(&red[0], &red[2], 3);
    for round in 0..10 {
        // Another port's rules change, and all flows are compiled anew.
        let rules = vec![rule(Direction::Ingress, Some(6), Some(8000 + round))];
        world.port("red2").security_rules = rules;
        world.apply();
    }
    let (sent, lost, gap) = pings.end();
    println!("10 changes of flows: {lost} of {sent} datagrams lost, longest gap {gap:?}");
    assert_eq!(lost, 0, "a change of another port's flows lost packets");
}
