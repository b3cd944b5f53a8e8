"""FSDP: each process keeps a share of every weight, gradient and optimizer state, by rows.

    sharded(network)                # in place; parameters keep their names, and their gradients

What is large is shared, the transformers, block by block: a block is gathered while it computes,
forwards and backwards, and let go of. Text encoders, autoencoders and discriminators stay whole on
each process; they are small, and their gradients are averaged. It runs on gloo too, on the CPU.
"""

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import RankError
from ..model.transformer import Transformer
from . import ranks

M = TypeVar("M", bound=nn.Module)

# what is called beside `forward`, and needs the weights as well
OF_BLOCK = ("keys_and_values", "encode_context")
OF_TRANSFORMER = ("remember", "remember_reference", "encode_context")


def sharded(module: M, device: torch.device) -> M:
    """With all its transformers shared by the processes there are."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (ranks.count(),))
    for part in [each for each in module.modules() if isinstance(each, Transformer)]:
        for block in part.blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=True)
            for name in OF_BLOCK:
                register_fsdp_forward_method(block, name)
        # what is outside of the blocks stays there until the pass backwards, which may begin
        # within the transformer: critics are judged by their blocks' results
        fully_shard(part, mesh=mesh, reshard_after_forward=False)
        for name in OF_TRANSFORMER:
            register_fsdp_forward_method(part, name)
    return module


def let_go(module: nn.Module) -> None:
    """Of all that was gathered for passes without a way back: what is left is each one's share."""
    for part in module.modules():
        if hasattr(part, "reshard"):
            part.reshard()  # type: ignore[operator]


def check_sharding(modules: Iterable[nn.Module]) -> None:
    """Refuse what would not share anything."""
    if not ranks.is_launched():
        raise RankError(
            "Weights are shared by processes: launch with torchrun --nproc-per-node N, N may be "
            "1, or leave --shard out."
        )
    if not any(isinstance(part, Transformer) for module in modules for part in module.modules()):
        raise RankError("There is no transformer here whose weights could be shared.")


# ---- shares ----


def local(tensor: Tensor) -> Tensor:
    """This process's rows of a tensor that is shared; one that is not, as it is."""
    return tensor.to_local() if is_shared(tensor) else tensor  # type: ignore[attr-defined]


def is_shared(tensor: Tensor) -> bool:
    return hasattr(tensor, "placements")


def first_row(shared: Tensor) -> int:
    """Where this process's rows begin: all have as many, but for the last."""
    return min(ranks.number() * -(-shared.shape[0] // ranks.count()), shared.shape[0])


def rows_for(whole: Tensor, like: Tensor) -> Tensor:
    """Those of a whole tensor that are this process's, where `like` is shared."""
    if not is_shared(like):
        return whole
    first = first_row(like)
    return whole[first : first + len(local(like))]


def gathered(rows: Tensor, like: Any) -> Tensor:
    """The whole of what each process has its rows of, where `like` is shared. All must call it."""
    if not is_shared(like):
        return rows
    from torch.distributed.tensor import DTensor

    shared = DTensor.from_local(
        rows, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return shared.full_tensor()


def clip_gradients(module: nn.Module, most: float) -> float:
    """The norm of all gradients, wherever they are; where it is above `most` they are scaled."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    if not any(is_shared(p) for p in parameters):
        return float(nn.utils.clip_grad_norm_(parameters, most))
    grads = [(local(p.grad), is_shared(p)) for p in parameters if p.grad is not None]
    squares = grads[0][0].new_zeros(2)  # of what is shared, of what each process has all of
    for grad, shared in grads:
        squares[0 if shared else 1] += grad.square().sum()
    dist.all_reduce(squares[:1])
    norm = float(squares.sum().sqrt())
    scale = min(1.0, most / (norm + 1e-6))
    for grad, _ in grads:
        grad.mul_(scale)
    return norm


def blank(module: M) -> M:
    """The module without numbers, to be filled by `filled`."""
    made: dict[int, Any] = {id(t): t.to("meta") for t in module.buffers()}
    for parameter in module.parameters():
        made[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    return copy.deepcopy(module, made)


@torch.no_grad()
def filled(empty: M, module: M, device: torch.device) -> M | None:
    """A whole twin of a module that is shared, on the first process; the others help it."""
    let_go(module)
    twin = copy.deepcopy(empty).to_empty(device=device) if ranks.is_first() else None
    into = twin.state_dict() if twin is not None else {}
    for name, tensor in module.state_dict().items():
        whole = gathered(local(tensor), tensor)
        if twin is not None:
            into[name].copy_(whole)
    return twin
