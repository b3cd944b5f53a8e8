"""One stream on all ranks that torchrun has started: rank 0 works, the others follow.

together(stylizer, "heads", work)       # on every rank; on rank 0 work(a stylizer of them all)
"""

from collections.abc import Callable
from typing import TypeVar

from .. import ranks
from ..errors import RankError
from ..stylizer import Stylizer
from .follower import Follower
from .session import Leader, RankedStylizer, split
from .shared import Way, check_stages
from .telling import Line

T = TypeVar("T")


def together(stylizer: Stylizer, way: Way, work: Callable[[Stylizer], T]) -> T | None:
    """What `work` gives, on rank 0. Each rank has loaded the same weights."""
    check(stylizer, way)
    parts = stylizer.parts
    line = Line(parts.device, parts.lora)
    if not ranks.is_first():
        why = Follower(way, split(parts, way), line).follow()
        if why is not None:
            raise RankError(f"Rank 0 ended: {why}")
        return None
    why = None
    try:
        return work(RankedStylizer.led(stylizer, Leader(way, line)))
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        raise
    finally:
        line.end(why)


def check(stylizer: Stylizer, way: Way) -> None:
    """Refuse before work starts what would not end well. All ranks come to the same answer."""
    if ranks.count() == 1:
        raise RankError(
            "There is one process only: launch several with torchrun --nproc-per-node N, or leave "
            "--ranks out."
        )
    parts = stylizer.parts
    facts = {
        **ranks.versions(),
        "way": way,
        "weights": parts.fingerprint,
        "recipe": str(stylizer.recipe.told),
        "device": parts.device.type,
        "dtype": str(parts.latents_like.dtype),
        "cache": stylizer.cache,
    }
    ranks.agree(facts)
    if way == "stages":
        check_stages(stylizer.recipe)
    else:
        split(parts, way)
