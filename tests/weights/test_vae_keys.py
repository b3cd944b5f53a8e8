"""Names of diffusers' Wan VAE. That the numbers agree is proved in tests/vae/test_wan.py."""

import pytest
import torch

from rtr_core.errors import WeightsError
from rtr_core.vae.wan import WanVae
from rtr_core.vae.wan_config import WAN_2_1, WAN_2_2
from rtr_core.weights.vae_keys import from_diffusers, is_diffusers

WAN_2_2_IN_DIFFUSERS = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
}


@pytest.mark.parametrize(("config", "options"), [(WAN_2_1, {}), (WAN_2_2, WAN_2_2_IN_DIFFUSERS)])
def test_the_released_sizes_have_the_names_and_shapes_of_diffusers(config, options):
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKLWan(**options).state_dict()
        ours = WanVae(config).state_dict()
    renamed = from_diffusers(theirs)
    assert {name: t.shape for name, t in renamed.items()} == {n: t.shape for n, t in ours.items()}
    assert is_diffusers(theirs)
    assert not is_diffusers(ours)


def test_a_tensor_of_something_else_is_refused_by_name():
    with pytest.raises(WeightsError, match=r"encoder\.mystery\.weight"):
        from_diffusers({"encoder.mystery.weight": torch.zeros(1)})
