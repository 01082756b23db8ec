"""The kinds that every host has besides its app's: those of the agent host. An adapter."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from actors import Actor
from deploy.agent_record import AgentRecord
from wire.errors import ConfigError


def agent_kinds(isolation: str, preload: Sequence[str] = ()) -> list[type[Actor]]:
    """Agents' records and, where Rustic AI is installed, the kind that runs its agents in
    ``isolation`` ("process" or "thread"). ``preload``: modules that a fork server would import; in
    threads the host itself does. Raises ConfigError when one of them cannot be imported."""
    if not has_rustic():
        return [AgentRecord]
    from deploy.rustic.agents import RusticAgent, RusticThreadAgent

    if isolation == "process":
        return [AgentRecord, RusticAgent]
    for name in preload:
        try:
            import_module(name)
        except Exception as exc:
            raise ConfigError(f"PRELOAD: {name!r} cannot be imported: {exc}") from exc
    return [AgentRecord, RusticThreadAgent]


def has_rustic() -> bool:
    """Whether the extra ``roost[rustic]`` is there."""
    try:
        return find_spec("rustic_ai.core") is not None
    except ModuleNotFoundError:
        return False
