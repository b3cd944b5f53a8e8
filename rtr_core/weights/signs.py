"""What in a file tells how its transformer is to be run."""

from ..families import Signs
from ..model.config import TransformerConfig
from .identify import Part
from .read import WeightsFile


def signs_of(
    file: WeightsFile, part: Part, config: TransformerConfig, has_loras: bool = False
) -> Signs:
    return Signs(
        config=config,
        prefix=part.layout.prefix,
        others=part.layout.passed_over,
        is_causal=bool(file.config.get("causal_ar")),
        name=f"{file.path.parent.name}/{file.path.name}",
        has_loras=has_loras,
    )
