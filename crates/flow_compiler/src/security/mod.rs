//! Security groups: which connections a port takes part in.
//!
//! ```text
//!            EGRESS_TRACK ──ct(zone)──► EGRESS_STATE ──original──► RULES_EGRESS ─┐
//!                                            └────────reply──────► RULES_INGRESS ┤
//!                                                                                ├► ACCEPT ─► on
//!            INGRESS_TRACK ─ct(zone)──► INGRESS_STATE ─original──► RULES_INGRESS ┤
//!                                            └────────reply──────► RULES_EGRESS ─┘
//! ```
//! The rules look at the packet that began the connection, so a reply is judged by the rule that
//! its connection needs, each time. What no rule allows is dropped. A rule about a group is met by the
//! addresses of those local ports and neighbours of the network whose documents name the group.
//!
//! Rules without state come before the tracker: a packet that one of them allows is not tracked at
//! all, and its answer needs a rule of its own.

pub(crate) mod rules;

use openflow::{Actions, Ct, Field, Flow, Match, Subfield, ct_state};

use crate::Cookie;
use crate::plan::{Plan, Port};
use crate::tables::*;

/// ICMPv6 that no rule judges, as IPv6 does not work without it: multicast listener discovery
/// (RFC 2710, 3810) and neighbour discovery (RFC 4861). PROTOCOL_GUARD has seen to what is sent.
const NEIGHBOUR_DISCOVERY: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];

pub(crate) fn flows(plan: &Plan<'_>, out: &mut Vec<Flow>) {
    let host = Cookie::Host.encode();
    let mut push = |table, priority, m, actions| {
        out.push(Flow::new(table, priority, m, actions).cookie(host));
    };
    for kind in NEIGHBOUR_DISCOVERY {
        let m = || Match::any().icmpv6_type(kind);
        push(EGRESS_TRACK, 90, m(), Actions::new().goto(LOOKUP));
        push(INGRESS_TRACK, 90, m(), Actions::new().goto(DELIVER));
    }
    push(INGRESS_TRACK, 90, Match::any().arp(), Actions::new().goto(DELIVER));

    let original = || Match::any().ct_state(ct_state::TRK, ct_state::INV | ct_state::RPL);
    let reply = || Match::any().ct_state(ct_state::TRK | ct_state::RPL, ct_state::INV);
    push(EGRESS_STATE, 100, original(), Actions::new().goto(RULES_EGRESS));
    push(EGRESS_STATE, 100, reply(), Actions::new().goto(RULES_INGRESS));
    push(INGRESS_STATE, 100, original(), Actions::new().goto(RULES_INGRESS));
    push(INGRESS_STATE, 100, reply(), Actions::new().goto(RULES_EGRESS));

    // The commit is on the side: the packet itself goes on without another look-up.
    let commit = || Ct::zone_from(Subfield::new(Field::Reg(REG_TRACK), 0, 16)).commit();
    let new = ct_state::TRK | ct_state::NEW;
    for (path, onward) in [
        (PATH_EGRESS, Actions::new().resubmit(LOOKUP)),
        (PATH_INGRESS, Actions::new().goto(DELIVER)),
    ] {
        let on_path = || Match::any().reg_masked(REG_TRACK, path, PATH_MASK);
        let mut committing = onward.clone();
        committing.apply.insert(0, openflow::Action::Ct(commit()));
        // The switch lets `ct` stand only beside a match that says that there is IP in the frame.
        for family in [Match::ipv4, Match::ipv6] {
            let m = family(on_path()).ct_state(new, ct_state::REL);
            push(ACCEPT, 100, m, committing.clone());
        }
        push(ACCEPT, 90, on_path().ct_state(ct_state::TRK, 0), onward);
    }
    // What no stateless rule allows is a matter for the tracker.
    for (table, next) in [(STATELESS_EGRESS, EGRESS_STATE), (STATELESS_INGRESS, INGRESS_STATE)] {
        for family in [Match::ipv4, Match::ipv6] {
            let zone = Subfield::new(Field::Reg(REG_TRACK), 0, 16);
            let actions = Actions::new().ct(Ct::zone_from(zone).table(next));
            push(table, 10, family(Match::any()), actions);
        }
    }
    for (_, port) in plan.ports() {
        track(port, plan.rules.is_partly_stateless(port.rules), out);
    }
    plan.rules.flows(&plan.networks, out);
}

fn track(port: &Port<'_>, stateless: bool, out: &mut Vec<Flow>) {
    let sent = || Match::any().in_port(port.local.ofport);
    let got = || Match::any().reg(REG_DESTINATION, port.local.ofport);
    let mut push = |table, m, actions| {
        out.push(Flow::new(table, 80, m, actions).cookie(port.cookie()));
    };
    if !port.local.spec.port_security {
        push(EGRESS_TRACK, sent(), Actions::new().goto(LOOKUP));
        push(INGRESS_TRACK, got(), Actions::new().goto(DELIVER));
        return;
    }
    let zone = port.local.ct_zone;
    let through = |path: u32, state: u8, rules: u8| {
        let actions = Actions::new()
            .set_reg(REG_RULES, port.rules)
            .set_reg(REG_TRACK, path | u32::from(zone));
        match stateless {
            true => actions.goto(rules),
            false => actions.ct(Ct::zone(zone).table(state)),
        }
    };
    for family in [Match::ipv4, Match::ipv6] {
        push(EGRESS_TRACK, family(sent()), through(PATH_EGRESS, EGRESS_STATE, STATELESS_EGRESS));
        push(INGRESS_TRACK, family(got()), through(PATH_INGRESS, INGRESS_STATE, STATELESS_INGRESS));
    }
}
