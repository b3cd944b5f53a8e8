"""What a device multiplies quickly."""

import torch


def has_bf16(device: torch.device) -> bool:
    """Whether it multiplies in bf16. A CPU without AVX-512, as in most desktops, takes a product of
    matrices number by number then: on one such a hundred times as long as in fp32."""
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and bool(
            torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
    return device.type != "cuda" or torch.cuda.is_bf16_supported()
