"""Small autoencoders of every family, with weights that never change."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rtr_core.vae.stream import Vae
from rtr_core.vae.tiny import TinyVae
from rtr_core.vae.tiny_config import TinyVaeConfig
from rtr_core.vae.wan import WanVae
from rtr_core.vae.wan_config import WAN_2_1, WAN_2_2
from tests.vae.seeded import noise, with_seeded_weights

SMALL_TINY = TinyVaeConfig(
    channels=4,
    encoder_widths=(8, 12, 16),
    decoder_widths=(16, 12, 8),
    encoder_time=(2, 2),
    decoder_time=(2, 2),
    depth=1,
    patch=2,
)
FAMILIES = {
    "wan 2.1": lambda: WanVae(replace(WAN_2_1, dim=4, decoder_dim=4, depth=1)),
    "wan 2.2": lambda: WanVae(replace(WAN_2_2, dim=4, decoder_dim=8, depth=1)),
    "tiny": lambda: TinyVae(SMALL_TINY),
    "tiny 8x8x2": lambda: TinyVae(
        TinyVaeConfig(
            encoder_widths=(8, 8, 8, 8),
            decoder_widths=(8, 8, 8, 8),
            encoder_time=(2, 1, 1),
            decoder_time=(1, 1, 2),
            depth=2,
        )
    ),
    "tiny 8x8x1": lambda: TinyVae(
        TinyVaeConfig(
            encoder_widths=(8, 8, 8, 8),
            decoder_widths=(8, 8, 8, 8),
            encoder_time=(1, 1, 1),
            decoder_time=(1, 1, 1),
            depth=1,
        )
    ),
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(family: str) -> Vae:
    network: nn.Module = with_seeded_weights(FAMILIES[family]())
    return network.eval().requires_grad_(False)  # type: ignore[return-value]


@pytest.fixture(params=FAMILIES)
def vae(request) -> Vae:
    return small(request.param)


@pytest.fixture(params=["wan 2.1", "tiny"])
def either_vae(request) -> Vae:
    """One of each kind, where more would prove nothing more."""
    return small(request.param)


@pytest.fixture
def clip() -> Tensor:
    """Eleven frames of 64x32, which no stride divides evenly in time."""
    return noise("clip", (1, 3, 11, 32, 64))
