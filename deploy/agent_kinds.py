"""The kinds that every host has besides its app's: those of the agent host. An adapter."""

from __future__ import annotations

from importlib.util import find_spec

from actors import Actor
from deploy.agent_record import AgentRecord


def agent_kinds(isolation: str) -> list[type[Actor]]:
    """Agents' records and, where Rustic AI is installed, the kind that runs its agents in
    ``isolation`` ("process" or "thread")."""
    if not has_rustic():
        return [AgentRecord]
    from deploy.rustic.agents import RusticAgent, RusticThreadAgent

    return [AgentRecord, RusticAgent if isolation == "process" else RusticThreadAgent]


def has_rustic() -> bool:
    """Whether the extra ``roost[rustic]`` is there."""
    try:
        return find_spec("rustic_ai.core") is not None
    except ModuleNotFoundError:
        return False
