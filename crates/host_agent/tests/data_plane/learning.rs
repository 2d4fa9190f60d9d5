//! An underlay that learns and forgets, as switches do: a host that a network does not concern hears
//! nothing of it, as long as locators are announced.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use host_agent::agent::announce;

use super::packet::{Tap, udp};
use super::world::World;
use super::{ip, network, port, server};

/// How long the underlay remembers.
const AGEING: Duration = Duration::from_secs(10);

/// Frames on a host's wire: of tenants, and announcements.
#[derive(Debug, Default)]
struct Counted {
    tenants: u64,
    announcements: u64,
}

fn count(wire: &Tap, into: &mut Counted) {
    while let Some(frame) = wire.next() {
        let announcement =
            frame.get(12..14) == Some(&[0x88, 0xb5]) && frame[..6] == announce::GROUP.0;
        // What the test machine's own kernel says on its devices is nobody's.
        let locator = matches!(frame[0] & 0xef, 0x02);
        if announcement {
            into.announcements += 1;
        } else if locator {
            into.tenants += 1;
        }
    }
}

/// One frame from each locator of a host, out of its wire.
fn announce_all(world: &World, host: usize) -> usize {
    let wire = Tap::device(&world.wires[host]);
    let locators = announce::locators(
        host as u16 + 1,
        world.ports.iter().filter(|(h, _)| *h == host).map(|(_, port)| port.port_number),
        world.networks.iter().map(|network| network.network_number),
    );
    for locator in &locators {
        wire.send(&announce::frame(*locator));
    }
    locators.len()
}

#[test]
fn a_host_that_is_not_concerned_hears_no_tenants_frame() {
    let mut world =
        World::on_learning_underlay(vec![network("red", 1), network("blue", 2)], 3, AGEING);
    let [one, three] = [(0, 1), (1, 3)].map(|(host, last)| {
        let port = port("red", u32::from(last), last);
        world.servers.push(server(&port));
        world.plug(host, port)
    });
    // The third host has a guest of another tenant.
    let other = port("blue", 5, 5);
    world.servers.push(server(&other));
    world.plug(2, other);
    world.apply();
    let directory = tempfile::tempdir().unwrap();
    for guest in [&one, &three] {
        guest.dhcp(directory.path());
    }
    let sender = udp(&one, ip(1), 6000);
    let receiver = udp(&three, ip(3), 6000);
    receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let bystander = Tap::device(&world.wires[2]);

    // The receiver is silent for more than twice the ageing time, and announced every third of it.
    let begin = Instant::now();
    let mut announced = Instant::now() - AGEING;
    let (mut arrived, mut counted, mut announcements) = (0u64, Counted::default(), 0);
    while begin.elapsed() < AGEING * 5 / 2 {
        if announced.elapsed() >= AGEING / 3 {
            announced = Instant::now();
            announcements += (0..3).map(|host| announce_all(&world, host)).sum::<usize>();
        }
        sender.send_to(b"to a silent port", (ip(3), 6000)).unwrap();
        let all = (Ipv4Addr::BROADCAST, 6001);
        sender.send_to(b"to all of red", all).unwrap();
        arrived += u64::from(receiver.recv(&mut [0; 64]).is_ok());
        count(&bystander, &mut counted);
        std::thread::sleep(Duration::from_millis(50));
    }
    let rate = counted.announcements as f64 / begin.elapsed().as_secs_f64();
    println!(
        "{arrived} frames arrived in {:?}; on the host not concerned: {counted:?}, {rate:.2} \
         announcements a second of {announcements} sent",
        begin.elapsed()
    );
    assert!(arrived > 20, "{arrived} frames arrived");
    assert_eq!(counted.tenants, 0, "{counted:?}");
    assert!(counted.announcements > 0, "announcements reach every switch, so every host");

    // Without announcements the switch forgets, and floods: the count can be other than zero.
    let begin = Instant::now();
    while counted.tenants == 0 {
        assert!(begin.elapsed() < AGEING * 6, "the underlay never forgot");
        sender.send_to(b"to a silent port", (ip(3), 6000)).unwrap();
        while receiver.recv(&mut [0; 64]).is_ok() {}
        count(&bystander, &mut counted);
    }
    println!("without announcements a stray frame after {:?}", begin.elapsed());
}
