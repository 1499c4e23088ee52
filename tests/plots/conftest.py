from collections.abc import Iterator

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    plt.close("all")  # what other tests left open
    yield
    plt.close("all")
