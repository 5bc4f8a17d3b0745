//! What people are told of an order before it is given, in the portal and by commands.

/// What an order does, and what can be done afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) consequence: &'static str,
    pub(crate) then: &'static str,
}

/// Until it is committed.
const NOT_GIVEN_UP: &str = "Nothing is given up yet: the recovery point can be changed as often as wanted, and the \
     failover be cancelled, until it is committed.";

pub(crate) const FAILOVER: Words = Words {
    consequence: "A recovery point is written to the disks of the item, and its replication stops: what its source writes \
                  from then on is not taken until the failover is cancelled.",
    then: NOT_GIVEN_UP,
};

pub(crate) const CHANGE_POINT: Words = Words {
    consequence: "The disks of the item are rolled to another recovery point, back or forward.",
    then: NOT_GIVEN_UP,
};

pub(crate) const CANCEL_FAILOVER: Words = Words {
    consequence: "Its disks are brought back to the newest changes that came from its source.",
    then: "It follows its source again, from where it stopped, and a source that was brought to rest takes writes again. \
           Every recovery point stays.",
};

pub(crate) const COMMIT: Words = Words {
    consequence: "The way back is given up: no other recovery point can be chosen, and the failover cannot be cancelled any \
                  more. A test failover shows first whether the machine starts from this point.",
    then: "Its disks are released by the master target: they can be detached, and their machine be started. Its source \
           stops replicating; one that is shut down is told so when it comes back.",
};

/// Until a failover of a group is committed.
const NOT_GIVEN_UP_BY_GROUP: &str = "Nothing is given up yet: the recovery point can be changed as often as wanted, and the \
     failover be cancelled, until it is committed. When one item cannot be failed over, those that were before stay so, and \
     the others go back.";

pub(crate) const GROUP_FAILOVER: Words = Words {
    consequence: "A recovery point that all of its items share is written to their disks, and their replication stops: what \
                  their sources write from then on is not taken until the failover is cancelled.",
    then: NOT_GIVEN_UP_BY_GROUP,
};

pub(crate) const GROUP_CHANGE_POINT: Words = Words {
    consequence: "The disks of its items are rolled to another recovery point that all of them share, back or forward.",
    then: NOT_GIVEN_UP_BY_GROUP,
};

pub(crate) const GROUP_CANCEL_FAILOVER: Words = Words {
    consequence: "The disks of its items that are failed over are brought back to the newest changes that came from their \
                  sources.",
    then: "They follow their sources again, from where they stopped, and sources that were brought to rest take writes \
           again. Every recovery point stays.",
};

pub(crate) const GROUP_COMMIT: Words = Words {
    consequence: "The way back of all its items is given up: no other recovery point can be chosen, and the failover cannot \
                  be cancelled any more.",
    then: "The disks are released by the master target: they can be detached, and their machines be started. The sources \
           stop replicating; one that is shut down is told so when it comes back.",
};
