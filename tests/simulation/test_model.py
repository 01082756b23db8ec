"""The model of the protocol: clean within small bounds, and each rule's absence found out.

``python -m tests.simulation.model`` searches the large bounds; see docs/protocol.md.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from tests.simulation.model.__main__ import main
from tests.simulation.model.bounds import Bounds
from tests.simulation.model.mutants import MUTANTS, hunt, without
from tests.simulation.model.report import STANDARD
from tests.simulation.model.rules import PROTOCOL, Rules
from tests.simulation.model.search import check, explore
from tests.simulation.model.shape import permuted, permuted_cluster
from tests.simulation.model.space import Space
from tests.simulation.model.trace import tell

ONE_FAULT = Bounds(
    crashes=1, freezes=1, failovers=1, give_ups=1, repeats=1, restores=1, faults=1
)  # fmt: skip


@pytest.mark.parametrize(
    ("hosts", "actors", "bounds", "fine"),
    [
        (2, 1, replace(ONE_FAULT, transfers=1, saves=1, releases=1), False),
        (2, 1, replace(ONE_FAULT, transfers=1, saves=1), True),
        (2, 1, replace(ONE_FAULT, faults=2, transfers=1), False),
        (2, 2, replace(ONE_FAULT, transfers=1), False),
        (3, 1, replace(ONE_FAULT, transfers=1), False),
    ],
    ids=["all kinds of work", "leases step by step", "two faults", "two actors", "three hosts"],
)
def test_the_protocol_breaks_nothing_within_small_bounds(
    hosts: int, actors: int, bounds: Bounds, fine: bool
) -> None:
    found, space = check(hosts, actors, bounds, fine=fine)
    assert not found.broken, "\n".join(tell(space, found))
    assert found.exhausted
    assert found.states > 1_000


@pytest.mark.parametrize("name", MUTANTS)
def test_without_a_rule_a_promise_is_broken(name: str) -> None:
    found, space = hunt(name)
    assert found.broken == MUTANTS[name].breaks
    story = list(tell(space, found))
    assert story[-1] == f"BROKEN: {found.broken}"
    assert len(story) >= 3 * len(found.path)


def test_every_rule_has_a_mutant() -> None:
    assert [field.name for field in fields(Rules)] == list(MUTANTS)


@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if mutant.off])
def test_a_rule_that_stands_behind_another_is_not_missed_as_long_as_that_holds(name: str) -> None:
    found, _ = check(2, 1, MUTANTS[name].bounds, without(name))
    assert not found.broken
    assert found.exhausted


@pytest.mark.parametrize("name", ["assertion_ends_at_claim", "claims_numbered"])
def test_dropping_dead_letters_hides_no_counter_example(name: str) -> None:
    """Mutants are searched with dead letters kept; these are about what arrives very late."""
    space = Space(2, 1, MUTANTS[name].bounds, without(name), fine=False)
    space.prune = True
    found, _ = explore(space, 60.0)
    assert found.broken == MUTANTS[name].breaks


def test_dropping_dead_letters_only_merges_states() -> None:
    bounds = replace(ONE_FAULT, transfers=1, saves=1)
    pruned, unpruned = (Space(2, 1, bounds, PROTOCOL, fine=False) for _ in range(2))
    unpruned.prune = False
    few, _ = explore(pruned, 60.0)
    many, _ = explore(unpruned, 60.0)
    assert not few.broken
    assert not many.broken
    assert few.states < many.states


def test_renaming_hosts_hides_no_state() -> None:
    """All states with hosts told apart, renamed to their least form, are the states searched."""
    bounds = replace(ONE_FAULT, transfers=1)
    reduced, whole = (Space(2, 1, bounds, PROTOCOL, fine=False) for _ in range(2))
    whole.forget_renamings()
    _, few = explore(reduced, 60.0)
    _, many = explore(whole, 60.0)
    assert len(few) < len(many)
    assert {forms(reduced, state) for state in few} == {forms(whole, state) for state in many}


def forms(space: Space, state: int) -> frozenset[object]:
    """The state under every naming of two hosts."""
    left, number, actors = space.unpack(state)
    budget, cluster, actor = space.budgets[left], space.clusters[number], space.actors[actors[0]]
    orders = ((0, 1), (1, 0))
    return frozenset((budget, permuted_cluster(cluster, o), permuted(actor, o)) for o in orders)


def test_a_search_that_is_cut_short_does_not_count_as_exhausted() -> None:
    found, _ = check(2, 2, STANDARD[0].bounds, deadline_s=0.05)
    assert not found.exhausted
    assert not found.broken


def test_the_command_prints_states_bounds_and_verdict_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = ["--hosts", "2", "--actors", "1", "--json", "--faults", "0", "--transfers", "1"]
    assert main(small) == 0
    (search,) = json.loads(capsys.readouterr().out)["searches"]
    assert search["exhausted"]
    assert search["broken"] == ""
    assert search["states"] > 10
    assert search["bounds"]["transfers"] == 1


def test_the_command_tells_a_mutants_counter_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mutant", "hold_after_generation"]) == 0
    out = capsys.readouterr().out
    assert "BROKEN: two activations of one actor may act" in out
    assert "lose_data" in out
