from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from oracles.fisher import Case
from oracles.quality import CASES


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On matrices this small, threads that wait for one another take longer than the work."""
    with threadpool_limits(1):
        yield


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]
