"""What tests on real processes share: a cluster whose hosts nobody harms, and foreign stubs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cluster import Cluster, open_cluster


@pytest.fixture(scope="package")
def two_hosts() -> Iterator[Cluster]:
    """``host-1`` and ``host-2``; tests on them leave them serving, and use keys of their own."""
    with open_cluster(hosts=2) as cluster:
        yield cluster
