"""What goes wrong in a move of real host processes is named, shown by ``roost ps``, and holds up
nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import Any

import trio

import actors
from tests.integration.cluster import Cluster, home_of, open_cluster, until
from tests.integration.moves_app import Hanging, Note, Stubborn, Versioned
from tests.integration.shell import ROOT, environment
from wire.ids import ActorId

APP, NEXT = "tests.integration.moves_app", "tests.integration.moves_app_next"
EACH = 16


async def _ps(cluster: Cluster, *flags: str) -> str:
    command = [sys.executable, "-m", "deploy", "ps", "--address", cluster.hosts["host-1"].address]
    run = partial(
        subprocess.run, [*command, *flags], env=environment(), cwd=ROOT, capture_output=True,
        text=True, timeout=30, check=True,
    )  # fmt: skip
    done: subprocess.CompletedProcess[str] = await trio.to_thread.run_sync(run)
    return done.stdout


async def _listed(cluster: Cluster) -> dict[str, dict[str, Any]]:
    return {row["actor"]: row for row in json.loads(await _ps(cluster, "--json"))}


def _belonging_to(system: actors.System, kind: type[actors.Actor], host: str) -> set[str]:
    name = kind.__roost_kind__
    return {f"{name}/k{i}" for i in range(EACH) if home_of(system, kind, f"k{i}") == host}


async def _fill(system: actors.System) -> None:
    for i in range(EACH):
        await system.ref(Note, f"k{i}").write(b"x" * i)
        await system.ref(Versioned, f"k{i}").put(f"text {i}")
        await system.ref(Stubborn, f"k{i}").put(i)
        await system.ref(Hanging, f"k{i}").add(i)


async def _check_states(system: actors.System) -> None:
    for i in range(EACH):
        assert await system.ref(Note, f"k{i}").read() == i
        assert await system.ref(Versioned, f"k{i}").get() == f"text {i}"
        assert await system.ref(Stubborn, f"k{i}").get() == i
        assert await system.ref(Hanging, f"k{i}").add(0) == i


def test_what_cannot_move_is_named_with_its_reason_and_the_rest_of_the_move_goes_on() -> None:
    async def scenario(system: actors.HostSystem) -> None:
        await _fill(system)
        await system.spawn_id(ActorId("Fleeting", "f"), durable=True)
        cluster.hosts["host-x"].kill()
        cluster.add_host("host-2", ROOST_APP=NEXT)

        def has_changed() -> bool:
            ids = {m.host_id for m in system.ring.members}
            return "host-2" in ids and "host-x" not in ids

        await until("the newcomer is up and the other is gone", has_changed)
        notes = _belonging_to(system, Note, "host-2")
        hanging = _belonging_to(system, Hanging, "host-2")
        stubborn = _belonging_to(system, Stubborn, "host-2")
        unread = _belonging_to(system, Versioned, "host-2")
        assert min(map(len, (notes, hanging, stubborn, unread))) > 0

        async def all_is_told() -> bool:
            rows = await _listed(cluster)
            told = {name for name, row in rows.items() if row["reason"]}
            moved = {name for name, row in rows.items() if row["host_id"] == "host-2"}
            return told == {"Fleeting/f"} | hanging | stubborn | unread and moved >= notes | hanging

        await until("what moves has moved, and what does not says why", all_is_told)
        rows = await _listed(cluster)
        for name in stubborn:
            why = f"{name}: restore raised RuntimeError: this snapshot is not to my taste"
            assert (rows[name]["host_id"], rows[name]["reason"]) == ("host-1", why)
        for name in unread:
            assert rows[name]["host_id"] == "host-1"
            assert rows[name]["reason"].startswith(
                f"the snapshot of {name} does not decode on host-2: Expected `int`, got `str`"
            )
        for name in hanging:
            why = f"{name}: on_deactivate took more than 0.5 s and was cancelled"
            assert (rows[name]["host_id"], rows[name]["reason"]) == ("host-2", why)
        gone = rows["Fleeting/f"]
        assert gone["status"] == "failed"
        assert gone["reason"] == "Fleeting/f is durable, but no host knows kind 'Fleeting'"
        await _check_states(system)
        table = await _ps(cluster)
        for name, row in rows.items():
            line = next(line for line in table.splitlines() if line.split()[0] == name)
            assert row["reason"] in line

    with open_cluster(ROOST_APP=APP) as cluster:
        cluster.add_host("host-1", {"system": {"deactivate_timeout_s": 0.5}})
        cluster.add_host("host-x", ROOST_APP=f"{NEXT}:Fleeting")
        cluster.wait_ready()
        cluster.play(scenario, within_s=90)
