"""How far apart two tensors are, as one number."""

from torch import Tensor


def distance(came: Tensor, expected: Tensor) -> float:
    """Relative L2."""
    came, expected = came.double(), expected.double()
    return float((came - expected).norm() / expected.norm())
