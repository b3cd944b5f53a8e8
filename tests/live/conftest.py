"""Pages are served by the built-in model."""

import pytest

from rtr_core import Stylizer


@pytest.fixture(scope="session")
def stylizer() -> Stylizer:
    return Stylizer.load("rtr-tiny", device="cpu")


@pytest.fixture
def made(monkeypatch):
    """All peers of a server, to see what becomes of them."""
    from rtr_core.live.peer import Peer

    peers, begin = [], Peer.__init__

    def remembered(peer, heard):
        begin(peer, heard)
        peers.append(peer)

    monkeypatch.setattr(Peer, "__init__", remembered)
    return peers
