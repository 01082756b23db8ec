"""Mutants of leases, and of hosts that have lost theirs (rules 3 and 4)."""

from __future__ import annotations

from tests.simulation.mutants.edit import Edit
from tests.simulation.mutants.mutant import Mutant

_CLAIMS = "placement.claims:"
_LEASE = "placement.lease:"
_LIFECYCLE = "actors.lifecycle:Lifecycle."

LEASES: dict[str, Mutant] = {
    "lease-from-reply": Mutant(
        "3",
        "a lease counts from the renewal's reply",
        (Edit(_LEASE + "Lease.renewed", "deadline_s = sent_at_s +", "deadline_s = now_s +"),),
        ("two_owners", "burials"),
        ("hosts", "storm"),
        first=32,
    ),
    "no-margin": Mutant(
        "3",
        "neither holder nor claimant keeps the margin that pays for drifting clocks",
        (
            Edit(_LEASE + "Lease.renewed", " - self.terms.margin_s", ""),
            Edit(_LEASE + "LeaseTerms.proof_s", " + self.margin_s", ""),
        ),
        ("two_owners", "burials"),
        ("hosts", "storm"),
        first=32,
    ),
    "burial-without-counter": Mutant(
        "3",
        "a host is buried although it has renewed since it was seen",
        (
            Edit(
                _CLAIMS + "may_bury",
                "current is not None and current == seen",
                "current is not None",
            ),
        ),
        ("two_owners", "burials"),
        ("hosts", "storm"),
        first=1079,
    ),
    "counter-not-watched": Mutant(
        "3",
        "a claimant counts from when it first saw a host, whatever its counter did since",
        (
            Edit(
                _LEASE + "Sightings.observe",
                "seen[incarnation]\n        if incarnation in seen and seen[incarnation][0]"
                " == counter",
                "(counter, seen[incarnation][1])\n        if incarnation in seen",
            ),
        ),
        ("two_owners", "burials"),
        ("planned", "hosts"),
    ),
    "serves-past-its-lease": Mutant(
        "4",
        "nothing is checked at dequeue, reply, send and save",
        (
            Edit(
                "actors.system:System.is_serving",
                "return keeper is not None and keeper.is_held()",
                "return True",
            ),
        ),
        ("leases",),
        ("hosts",),
    ),
    "turns-outlive-the-lease": Mutant(
        "4",
        "handlers go on when the lease is lost",
        (Edit(_LIFECYCLE + "kill", "call.worker.cancel()", "pass"),),
        ("leases",),
        ("registry", "storm"),
        first=59,
    ),
    "actors-outlive-the-lease": Mutant(
        "4",
        "activations are not ended when the lease is lost",
        (
            Edit(
                "actors.system:System.fenced",
                "self.lifecycle.kill(activation, Reason.FENCED)",
                "pass",
            ),
        ),
        ("leases", "left"),
        ("hosts",),
    ),
    "rejoins-too-early": Mutant(
        "4",
        "a host joins again while something of its last incarnation still runs",
        (Edit("actors.system:System.wait_empty", "while self.activations:", "while False:"),),
        ("rejoins",),
        ("hosts",),
    ),
}
