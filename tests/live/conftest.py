"""Pages are served by the built-in model."""

import pytest

from rtr_core import Stylizer


@pytest.fixture(scope="session")
def stylizer() -> Stylizer:
    return Stylizer.load("rtr-tiny", device="cpu")
