//! Mutants: the compiler's flows with one mistake, each of a kind that a compiler could make.
//! Every one must be caught by the checks that the right flows pass.

use flow_compiler::tables;
use host_protocol::{Direction, Remote, SecurityRule};
use openflow::{Action, Actions, Field, Flow, Match, ct_state};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::world::{self, Cloud, WIRE};
use crate::{Step, any_step, check};

/// What a mistake does to a flow table; `None` leaves the flow out.
type Mutation = fn(Flow) -> Option<Flow>;

/// A match without one of its fields.
fn without(m: &Match, field: Field) -> Match {
    m.fields()
        .iter()
        .filter(|f| f.field != field)
        .fold(Match::any(), |m, f| m.with_masked(f.field, f.value, f.mask))
}

fn drops_field(flow: Flow, table: u8, field: Field) -> Option<Flow> {
    if flow.table != table {
        return Some(flow);
    }
    Some(Flow { match_fields: without(&flow.match_fields, field), ..flow })
}

fn is_ct(action: &Action) -> bool {
    matches!(action, Action::Ct(ct) if ct.commit)
}

/// Whether the flow is a clause of a rule about a group: 0 what the rule says, 1 who is a member.
fn is_clause(flow: &Flow, which: u8) -> bool {
    let is =
        |action: &Action| matches!(action, Action::Conjunction { clause, .. } if *clause == which);
    flow.actions.apply.iter().any(is)
}

fn accepts(flow: Flow, which: u8) -> Option<Flow> {
    let actions = Actions::new().goto(tables::ACCEPT);
    Some(if is_clause(&flow, which) { Flow { actions, priority: 89, ..flow } } else { flow })
}

const MUTANTS: &[(&str, Mutation)] = &[
    ("guests' tags are not looked at", |f| drops_field(f, tables::CLASSIFY, Field::VlanTci)),
    ("look-up forgets the network", |f| drops_field(f, tables::LOOKUP, Field::Metadata)),
    ("flood forgets the network", |f| drops_field(f, tables::FLOOD_LOCAL, Field::Metadata)),
    ("wire source is not checked", |f| drops_field(f, tables::WIRE_SOURCE, Field::EthSrc)),
    ("spoofed MACs pass", |f| drops_field(f, tables::ADDRESS_GUARD, Field::EthSrc)),
    ("spoofed IPv4 passes", |f| drops_field(f, tables::ADDRESS_GUARD, Field::Ipv4Src)),
    ("spoofed IPv6 passes", |f| drops_field(f, tables::ADDRESS_GUARD, Field::Ipv6Src)),
    ("forged ARP passes", |f| drops_field(f, tables::ADDRESS_GUARD, Field::ArpSpa)),
    ("ARP's MAC is not looked at", |f| drops_field(f, tables::ADDRESS_GUARD, Field::ArpSha)),
    ("guests may be DHCP servers", |f| {
        let server = f.table == tables::PROTOCOL_GUARD
            && f.match_fields.get(Field::UdpSrc).is_some_and(|(port, _)| port == 67);
        (!server).then_some(f)
    }),
    ("rules forget the destination port", |f| {
        drops_field(f, tables::RULES_INGRESS, Field::CtTpDst)
    }),
    ("rules forget the remote", |f| drops_field(f, tables::RULES_INGRESS, Field::CtIpv4Src)),
    ("rules forget whose they are", |f| {
        drops_field(f, tables::RULES_EGRESS, Field::Reg(tables::REG_RULES))
    }),
    ("rules about a group let anyone in", |f| accepts(f, 0)),
    ("members need no rule", |f| accepts(f, 1)),
    ("members of other networks count", |f| match is_clause(&f, 1) {
        true => drops_field(f, tables::RULES_INGRESS, Field::Metadata),
        false => Some(f),
    }),
    ("members are nobody", |f| (!is_clause(&f, 1)).then_some(f)),
    ("some members are forgotten", |f| {
        let odd = |field| f.match_fields.get(field).is_some_and(|(address, _)| address & 1 == 1);
        let gone = is_clause(&f, 1) && (odd(Field::CtIpv4Src) || odd(Field::CtIpv6Src));
        (!gone).then_some(f)
    }),
    ("rules look at the wrong end", |f| {
        let Some((value, mask)) =
            f.match_fields.get(Field::CtIpv4Dst).filter(|_| f.table == tables::RULES_EGRESS)
        else {
            return Some(f);
        };
        let m = without(&f.match_fields, Field::CtIpv4Dst);
        Some(Flow { match_fields: m.with_masked(Field::CtIpv4Src, value, mask), ..f })
    }),
    ("connections are not recorded", |mut f| {
        f.actions.apply.retain(|action| !is_ct(action));
        Some(f)
    }),
    ("answers are judged as questions", |f| {
        let reply = f.table == tables::INGRESS_STATE
            && f.match_fields
                .get(Field::CtState)
                .is_some_and(|(v, _)| v & u128::from(ct_state::RPL) != 0);
        if reply {
            return Some(Flow { actions: Actions::new().goto(tables::RULES_INGRESS), ..f });
        }
        Some(f)
    }),
    ("established connections pass unjudged", |f| {
        let reply = matches!(f.table, tables::INGRESS_STATE | tables::EGRESS_STATE)
            && f.match_fields
                .get(Field::CtState)
                .is_some_and(|(v, _)| v & u128::from(ct_state::RPL) != 0);
        if reply {
            return Some(Flow { actions: Actions::new().goto(tables::ACCEPT), ..f });
        }
        Some(f)
    }),
    ("own MACs reach the wire", |mut f| {
        if matches!(f.table, tables::LOOKUP | tables::FLOOD_REMOTE) {
            f.actions.apply.retain(|action| !matches!(action, Action::Move { .. }));
        }
        if f.table == tables::WIRE_SEND && f.priority > 0 {
            f.match_fields = Match::any();
        }
        Some(f)
    }),
    ("guests find locators", |mut f| {
        if f.table == tables::WIRE_SOURCE {
            f.actions.apply.clear();
        }
        Some(f)
    }),
    ("group addresses are not put back", |mut f| {
        if f.table == tables::WIRE_DELIVER {
            f.actions.apply.clear();
        }
        Some(f)
    }),
    ("ports that are down are served", |f| {
        let everything = Actions::new().output(world::ofport(0));
        let miss = f.table == tables::LOOKUP && f.priority == 0;
        Some(if miss { Flow { actions: everything, ..f } } else { f })
    }),
    ("solicitations are answered across networks", |f| {
        let f = drops_field(f, tables::NEIGHBOUR, Field::Metadata)?;
        drops_field(f, tables::NEIGHBOUR_ANSWER, Field::Metadata)
    }),
    ("others' addresses are advertised", |f| {
        drops_field(f, tables::PROTOCOL_GUARD, Field::NdTarget)
    }),
    ("solicitations tell another's MAC", |f| drops_field(f, tables::PROTOCOL_GUARD, Field::NdSll)),
    ("advertisements tell another's MAC", |f| drops_field(f, tables::PROTOCOL_GUARD, Field::NdTll)),
    ("one's own address is said to be taken", |f| {
        (!(f.table == tables::NEIGHBOUR && f.priority == 200)).then_some(f)
    }),
    ("who looks whether an address is free is answered", |f| {
        (!(f.table == tables::NEIGHBOUR && f.priority == 150)).then_some(f)
    }),
    ("an answer does not say which MAC", |mut f| {
        if f.table == tables::NEIGHBOUR_ANSWER {
            f.actions.apply.retain(|a| !matches!(a, Action::SetField { field: Field::NdTll, .. }));
        }
        Some(f)
    }),
    ("rules without state forget the remote", |f| {
        let f = drops_field(f, tables::STATELESS_INGRESS, Field::Ipv4Src)?;
        drops_field(f, tables::STATELESS_INGRESS, Field::Ipv6Src)
    }),
    ("rules without state forget whose they are", |f| {
        drops_field(f, tables::STATELESS_INGRESS, Field::Reg(tables::REG_RULES))
    }),
    ("rules without state are forgotten", |f| {
        let rule = matches!(f.table, tables::STATELESS_EGRESS | tables::STATELESS_INGRESS);
        (!(rule && f.priority > 10)).then_some(f)
    }),
    ("ports with rules without state are not tracked", |f| {
        let rest = f.table == tables::STATELESS_EGRESS && f.priority == 10;
        Some(if rest { Flow { actions: Actions::new().goto(tables::LOOKUP), ..f } } else { f })
    }),
    ("ARP is answered across networks", |f| drops_field(f, tables::ARP, Field::Metadata)),
    ("every frame from the wire is ours", |f| {
        let own = f.table == tables::CLASSIFY
            && f.match_fields.get(Field::InPort).is_some_and(|(port, _)| port == WIRE.into())
            && f.match_fields.get(Field::EthDst).is_some();
        if own {
            let actions = Actions::new().set_metadata(100).goto(tables::FLOOD_LOCAL);
            return Some(Flow { actions, ..f });
        }
        Some(f)
    }),
];

/// Networks on one host whose ports share their addresses and rules about a group, in which only the
/// second network's first port is: what random clouds rarely have.
fn of_one_name(mut cloud: Cloud, mut steps: Vec<Step>) -> (Cloud, Vec<Step>) {
    let rule = |direction, ipv6, remote| SecurityRule {
        direction,
        ipv6,
        protocol: None,
        port_min: None,
        port_max: None,
        remote,
        stateless: false,
    };
    for place in &mut cloud.ports {
        let member = place.network == 1 && place.spec.mac == world::mac(1);
        place.host = 0;
        place.spec.admin_state_up = true;
        place.spec.port_security = true;
        place.spec.allowed_address_pairs.clear();
        place.spec.security_groups = member.then(|| world::group(0)).into_iter().collect();
        place.spec.security_rules = [false, true]
            .into_iter()
            .flat_map(|ipv6| {
                let group = Remote::Group(world::group(0));
                [
                    rule(Direction::Egress, ipv6, Remote::Anyone),
                    rule(Direction::Ingress, ipv6, group),
                ]
            })
            .collect();
    }
    steps.retain(|step| matches!(step, Step::Send { .. }));
    (cloud, steps)
}

/// Applies a mutation; flows that became one keep the first.
fn mutated(cloud: &Cloud, host: usize, mutation: Mutation) -> Vec<Flow> {
    let mut seen = std::collections::HashSet::new();
    let flows = cloud.compile(host).into_iter().filter_map(mutation);
    flows.filter(|f| seen.insert((f.table, f.priority, f.match_fields.clone()))).collect()
}

#[test]
fn every_mutant_is_caught() {
    let cases: Vec<_> = {
        // Seeded: which mutants live must not depend on luck.
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[42; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let strategy = (world::cloud(false), proptest::collection::vec(any_step(), 40..80));
        let mut cases: Vec<_> =
            (0..150).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
        let many = proptest::collection::vec(any_step(), 3000);
        let steps = many.new_tree(&mut runner).unwrap().current();
        let has_two = |cloud: &Cloud, network| {
            cloud.ports.iter().filter(|place| place.network == network).count() >= 2
        };
        let pair = cases.iter().find(|(cloud, _)| has_two(cloud, 0) && has_two(cloud, 1));
        let cloud = pair.unwrap().0.clone();
        cases.push(of_one_name(cloud, steps));
        cases
    };
    for (cloud, steps) in &cases {
        check(cloud.clone(), steps, true, &|c, h| c.compile(h)).unwrap();
    }
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let is_caught = |mutation: Mutation| {
        cases.iter().any(|(cloud, steps)| {
            // The interpreter refuses what the switch would leave undefined: caught too.
            let run = std::panic::AssertUnwindSafe(|| {
                check(cloud.clone(), steps, true, &|c, h| mutated(c, h, mutation)).is_err()
            });
            std::panic::catch_unwind(run).unwrap_or(true)
        })
    };
    let alive: Vec<&str> = std::thread::scope(|scope| {
        let each = MUTANTS.chunks(MUTANTS.len().div_ceil(4)).map(|some| {
            scope.spawn(|| {
                let alive = some.iter().filter(|(_, mutation)| !is_caught(*mutation));
                alive.map(|(name, _)| *name).collect::<Vec<_>>()
            })
        });
        let each: Vec<_> = each.collect();
        each.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    std::panic::set_hook(silent);
    assert!(alive.is_empty(), "not caught: {alive:?}");
}
