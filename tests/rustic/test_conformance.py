"""rusticai-testing's own test of an execution engine, unmodified, on three host processes."""

from __future__ import annotations

import pytest
from rustic_ai.testing.execution.base_test_integration import IntegrationTestABC


class TestRoostEngine(IntegrationTestABC):
    @pytest.fixture
    def org_id(self) -> str:
        return "organization"

    @pytest.fixture
    def messaging(self, guild_id, three_hosts):
        return three_hosts.messaging()

    @pytest.fixture
    def execution_engine(self, three_hosts) -> str:
        return "deploy.rustic.RoostExecutionEngine"
