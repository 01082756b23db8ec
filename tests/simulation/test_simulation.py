"""The simulator itself, and a short run of it: all profiles are clean, seeds replay, and what is
broken on purpose is found."""

from __future__ import annotations

import json
import os
from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.__main__ import as_script, main
from tests.simulation.linear import Add, objection, wing_gong
from tests.simulation.machine import ClusterMachine
from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.edit import Edit, Stale, edited
from tests.simulation.mutants.hunt import hunt
from tests.simulation.run import profile_of, run_seed
from tests.simulation.storm import PROFILES

FULL = bool(os.environ.get("ROOST_FULL"))
SEEDS = range(100 if FULL else 4 * len(PROFILES))

#: What the short run must have met, so that no later change takes it away unnoticed.
MET = (
    "host started", "host crashed", "host restarted", "host drained", "host frozen",
    "frozen at a send", "frozen with a request out", "joined or drained while another did",
    "clock off by over 0.5 %", "slow turn", "move done", "lease lost", "host buried",
    "one-way partition", "link cut", "link resumed", "batch arrived twice",
    "envelopes waited for credit", "registry down", "registry replaced", "registry lost data",
    "registry's clock stepped", "registry cut off from a host",
    "script ran after its client gave up", "request late", "request sent again", "reply lost",
    "rumour of a live host", "durable spawned", "durable stopped", "counter operation checked",
    "stream item",
)  # fmt: skip

#: Seeds that have found a fault.
ONCE_BROKEN = (
    71, 73, 76, 372, 20298, 20432, 20914, 21148, 21490, 21495, 21503, 21531, 21645, 21681, 21700,
    21748, 40133, 51011, 60287, 61158, 100387, 100894, 101434,
)  # fmt: skip


def test_every_profile_is_clean_and_everything_that_a_run_should_meet_has_happened() -> None:
    happened: Counter[str] = Counter()
    for seed in SEEDS:
        result = run_seed(seed)
        assert not result.violations, f"make sim SEED={seed}: {result.violations}"
        happened.update(result.counts)
    assert not [name for name in MET if not happened[name]]


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_a_seed_that_once_found_a_fault_is_clean(seed: int) -> None:
    assert not run_seed(seed).violations


def test_a_seed_replays_to_the_same_events() -> None:
    seed = 5
    assert profile_of(seed).name == "storm"
    first, again = run_seed(seed), run_seed(seed)
    assert first.events == again.events
    assert first.trace == again.trace
    assert run_seed(seed + 6).trace != first.trace


@pytest.mark.parametrize(
    "name", ["saves-without-number", "resumes-at-its-old-epoch", "claims-at-once"]
)
def test_a_broken_protocol_is_found(name: str) -> None:
    found = hunt(name, seconds=30.0)
    assert found.broken in MUTANTS[name].breaks, found


def test_every_mutant_still_says_what_the_code_says() -> None:
    for mutant in MUTANTS.values():
        with edited(mutant.edits):
            pass


def test_an_edit_of_code_that_has_changed_is_refused() -> None:
    with pytest.raises(Stale), edited([Edit("placement.claims:owns", "no such words", "")]):
        pass


def test_a_storm_that_hypothesis_writes_breaks_nothing() -> None:
    run_state_machine_as_test(
        ClusterMachine,
        settings=settings(
            max_examples=200 if FULL else 6, stateful_step_count=15, deadline=None,
            derandomize=True, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


def test_hypothesis_shrinks_what_breaks_to_a_script_that_replays() -> None:
    with edited(MUTANTS["own-claim-keeps-its-epoch"].edits):
        with pytest.raises(AssertionError, match="epochs") as raised:
            run_state_machine_as_test(
                ClusterMachine,
                settings=settings(
                    max_examples=5, stateful_step_count=6, deadline=None, derandomize=True,
                    suppress_health_check=list(HealthCheck), database=None,
                    report_multiple_bugs=False,
                ),
            )  # fmt: skip
        (replay,) = [line for line in raised.value.__notes__ if line.startswith("replay: ")]
        _, seed, script = replay.replace("--script", "--seed").split("--seed")
        steps = as_script(script.strip().strip('"'))
        assert any("epochs" in v for v in run_seed(int(seed), script=steps).violations)


def test_the_command_prints_one_line_of_json_for_each_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--seed", "2", "--steps", "5", "--json"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["seed"] == 2
    assert row["violations"] == []
    assert row["counts"]["call"] > 10


def test_both_ways_to_judge_a_counters_history_agree() -> None:
    rng, verdicts = Random(7), Counter[bool]()
    for _ in range(3_000):
        history = [_random_add(rng) for _ in range(rng.randint(1, 5))]
        judged = not objection(history)
        assert judged == wing_gong(history), history
        verdicts[judged] += 1
    assert min(verdicts.values()) > 300


def _random_add(rng: Random) -> Add:
    start = float(rng.randint(0, 8))
    if rng.random() < 0.2:
        return Add(start, float("inf"), None)
    return Add(start, start + rng.randint(0, 4), rng.randint(1, 4))
