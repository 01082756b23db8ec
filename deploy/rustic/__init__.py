"""Rustic AI on Roost, without Ray: ``deploy.rustic.RoostExecutionEngine`` is the one setting.

- ``engine``: the execution engine, what a guild uses
- ``cluster``: the way from any thread to the hosts, which it finds through REDIS_URL
- ``agents``: the kinds that run Rustic AI's agents on the hosts
- ``wrapper``: one agent, from its specs to its end
- ``messaging``: what the agents of one guild in one process share

Needs the extra ``roost[rustic]`` (Python 3.13).
"""

from deploy.rustic.engine import RoostExecutionEngine

__all__ = ["RoostExecutionEngine"]
