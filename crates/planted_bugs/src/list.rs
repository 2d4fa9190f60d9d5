//! The list.

/// A mistake that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Chooses it; `planted("NAME")` stands where it is made.
    pub name: &'static str,
    /// What goes wrong, in a sentence.
    pub what: &'static str,
}

const fn bug(name: &'static str, what: &'static str) -> Bug {
    Bug { name, what }
}

/// Bugs planted by those who wrote the checks.
pub(crate) const BUGS: &[Bug] = &[
    bug(
        "skip_lease_epoch",
        "A worker whose lease was taken over goes on writing: the epoch is not checked.",
    ),
    bug("commit_twice", "A transaction is run and committed a second time now and then."),
    bug(
        "acknowledge_before_commit",
        "A transaction is answered, and then not committed, now and then.",
    ),
    bug("forget_undo_of_claim", "A create that fails does not give its room on the host back."),
    bug("forget_undo_of_ports", "A create that fails leaves its ports bound to the host."),
    bug(
        "reuse_port_number_early",
        "A port's number is free before the hosts have said that they forgot it.",
    ),
    bug("lose_tombstone", "A host is not told, now and then, that an object must go."),
    bug("ignore_generation", "A host takes an older version of a document over a newer one."),
    bug("double_release_quota", "Deleting a server gives its quota back twice."),
    bug("drop_wakeup", "A workflow that waits for an event is not told of it."),
    bug("accept_old_lineage", "Reports that follow another lineage of the database are taken."),
    bug("leak_address", "A deleted port's addresses stay allocated."),
    bug(
        "free_address_early",
        "A deleted port's address is given out while a host may still use it for the old port.",
    ),
    bug("claim_without_room", "Room is claimed on a host that has none left."),
    bug(
        "leave_host_unproven",
        "A create moves on to another host before the first has said that nothing is left there.",
    ),
    bug("drop_journal_entry", "A change is not journalled, now and then."),
    bug("lose_report", "A host forgets a report before it was answered."),
    bug(
        "position_before_documents",
        "A host moves its place in the sequence past a document that it did not keep.",
    ),
    bug("forget_idempotency", "A request that is sent again under its key is carried out again."),
    bug("forget_sum", "Room that is given back is not taken off the host's sum of servers."),
];
