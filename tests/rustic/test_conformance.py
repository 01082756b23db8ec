"""rusticai-testing's own test of an execution engine, unmodified, on three host processes."""

from __future__ import annotations

import pytest
from rustic_ai.testing.execution.base_test_integration import IntegrationTestABC

from tests.rustic.conftest import rustic_cluster


class TestRoostEngine(IntegrationTestABC):
    """Agents in processes."""

    @pytest.fixture
    def org_id(self) -> str:
        return "organization"

    @pytest.fixture
    def messaging(self, guild_id, three_hosts):
        return three_hosts.messaging()

    @pytest.fixture
    def execution_engine(self, three_hosts) -> str:
        return "deploy.rustic.RoostExecutionEngine"


class TestRoostEngineWithThreads(TestRoostEngine):
    """Agents in threads of the hosts."""

    @pytest.fixture
    def three_hosts(self):
        with rustic_cluster(3, AGENT_ISOLATION="thread") as cluster:
            yield cluster
