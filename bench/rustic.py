"""A guild of Rustic AI on Roost and on Ray: time to start an agent, and memory that it takes.

Each engine starts the same guild in the same way, one agent after another, in a process of its
own. A start lasts until the agent has initialised, but for Rustic AI's thread engine, which returns
before. CPU time, which a busy machine distorts less, and memory are those of all processes of the
engine (hosts, children, Ray's own), Redis left out; memory is what they take more than before the
first agent, by PSS, so that shared pages count once. Needs Python 3.13 with roost[rustic] and
rusticai-testing; Ray is left out where rusticai-ray is not installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.report import Report, arguments, finish

HOSTS = 3
#: {engine: (times faster to start than Ray, Ray's memory over its own)}, at least.
GOALS = {"roost-process": (10, 5), "roost-thread": (40, 100)}
ENGINES = ("roost-process", "roost-thread", "rustic-threads", "ray")
AGENT = "rustic_ai.testing.execution.integration_agents"
ENGINE_CLASSES = {
    "roost-process": "deploy.rustic.RoostExecutionEngine",
    "roost-thread": "deploy.rustic.RoostExecutionEngine",
    "rustic-threads": "rustic_ai.core.guild.execution.multithreaded.MultiThreadedEngine",
    "ray": "rustic_ai.ray.RayExecutionEngine",
}
SETTLE_S = 3.0
READY_S = 120.0


def main(argv: Sequence[str] | None = None) -> Report:
    options = arguments("rustic", __doc__ or "", repeat=1, argv=argv, agents=(60, "agents"))
    report = Report(f"a guild of Rustic AI, {HOSTS} hosts")
    agents = 12 if options.short else options.agents
    for _ in range(options.repeat):
        for engine in ENGINES:
            if engine == "ray" and find_spec("rustic_ai.ray") is None:
                report.note("Ray is left out: rusticai-ray is not installed")
                continue
            _add(report, engine, _measured(engine, agents))
    _compare(report)
    finish(report, options)
    return report


def _measured(engine: str, agents: int) -> dict[str, float]:
    """What one engine's own process says of itself."""
    command = [sys.executable, "-m", "bench.rustic", "--one", engine, str(agents)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _add(report: Report, engine: str, found: dict[str, float]) -> None:
    report.add(f"{engine}: start", "ms/agent", found["start_ms"], "less")
    report.add(f"{engine}: CPU time", "ms/agent", found["cpu_ms"], "less")
    report.add(f"{engine}: memory", "MB/agent", found["memory_mb"], "less")
    report.add(f"{engine}: agents", "agents", found["agents"])


def _compare(report: Report) -> None:
    figures = report.figures
    if "ray: start" not in figures:
        return
    for engine, goals in GOALS.items():
        for what, goal, words in zip(
            ("start", "memory"), goals, ("times faster to start than Ray", "times less memory"),
            strict=True,
        ):  # fmt: skip
            ray, ours = (figures[f"{e}: {what}"].median for e in ("ray", engine))
            times = ray / max(ours, 0.001)
            met = "met" if times >= goal else "NOT MET"
            report.note(f"{engine}: {times:.0f} {words} (goal {goal}: {met})")


# One engine, in a process of its own ---------------------------------------------------------


def _one(engine: str, agents: int) -> None:
    with ExitStack() as stack:
        guild = _guild(engine, stack)
        _launch(guild, 0)  # connections, imports: what the first agent alone pays
        before, cpu_s = _memory_mb(), _cpu_s()
        began_s = time.perf_counter()
        started = 0
        for n in range(1, agents + 1):
            if not _launch(guild, n):
                break
            started += 1
        took_s, cpu_s = time.perf_counter() - began_s, _cpu_s() - cpu_s
        time.sleep(SETTLE_S)  # no wait for a condition: threads and caches grow for a moment
        grown = _memory_mb() - before
        found = {
            "start_ms": took_s / max(started, 1) * 1e3,
            "cpu_ms": cpu_s / max(started, 1) * 1e3,
            "memory_mb": grown / max(started, 1),
            "agents": started,
        }
        print(json.dumps(found), flush=True)
    os._exit(0)  # threads of Rustic AI's messaging would keep this process


def _launch(guild: Any, n: int) -> bool:
    from rustic_ai.core.guild.builders import AgentBuilder
    from rustic_ai.testing.execution.integration_agents import InitiatorProbeAgent

    builder = AgentBuilder(InitiatorProbeAgent).set_id(f"a{n}").set_name(f"agent {n}")
    guild.launch_agent(builder.set_description("idle").build_spec())
    if guild.execution_engine.get_qualified_class_name().endswith("RayExecutionEngine"):
        return _ray_ready(guild, f"a{n}")
    return True


def _ray_ready(guild: Any, id: str) -> bool:
    """Ray's engine returns before the agent has initialised, and for ever where none fits."""
    import ray

    engine = guild.execution_engine
    done, _ = ray.wait([engine.agent_actors[guild.id][id]], timeout=READY_S)
    return bool(done)


def _guild(engine: str, stack: ExitStack) -> Any:
    from rustic_ai.core.guild.guild import Guild
    from rustic_ai.core.messaging import MessagingConfig

    from deploy import embedded

    port = stack.enter_context(embedded.serve()).url.rsplit(":", 1)[1].split("/")[0]
    if engine == "ray":
        import ray

        os.environ.setdefault("RUSTIC_NUM_CPUS_PER_AGENT", "0.01")
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    elif engine.startswith("roost-"):
        stack.enter_context(_hosts(engine.removeprefix("roost-")))
    messaging = MessagingConfig(
        backend_module="rustic_ai.redis.messaging.backend", backend_class="RedisMessagingBackend",
        backend_config={"redis_client": {"host": "127.0.0.1", "port": int(port)}},
    )  # fmt: skip
    return Guild(
        id="guild", name="guild", description="for the benchmark", organization_id="org",
        execution_engine_clz=ENGINE_CLASSES[engine], messaging_config=messaging,
    )  # fmt: skip


@contextmanager
def _hosts(isolation: str) -> Iterator[None]:
    from deploy import children, embedded

    with embedded.serve() as redis:
        os.environ["REDIS_URL"] = redis.url
        env = os.environ | {
            "GRPC_PORT": "0", "GRPC_BIND": "127.0.0.1", "LOG_LEVEL": "error",
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
            "AGENT_ISOLATION": isolation, "PRELOAD": f"rustic_ai.redis.messaging.backend,{AGENT}",
        }  # fmt: skip
        hosts = [
            children.spawn(
                [sys.executable, "-m", "deploy", "host"], env=env | {"HOSTNAME": f"host-{n}"},
                stdout=subprocess.PIPE,
            )
            for n in range(HOSTS)
        ]  # fmt: skip
        try:
            for host in hosts:
                assert host.stdout is not None
                if b"ready at" not in host.stdout.readline():
                    raise RuntimeError("a host did not start: see above")
            yield
        finally:
            for host in hosts:
                host.kill()
                host.wait()


def _memory_mb() -> float:
    """PSS of this process and of all that it started, the Redis servers left out."""
    return sum(_over_all(lambda process: process.memory_full_info().pss)) / 1e6


def _cpu_s() -> float:
    """CPU time so far of the same processes, and of those that they have seen end."""
    return sum(_over_all(lambda process: sum(process.cpu_times()[:4])))


def _over_all(read: Callable[[Any], float]) -> Iterator[float]:
    import psutil

    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        try:
            if "valkey" not in process.name():
                yield read(process)
        except psutil.Error:
            continue


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        _one(sys.argv[2], int(sys.argv[3]))
    else:
        main()
