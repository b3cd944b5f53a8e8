"""Sheets of pictures to look at: a row for each kind, its name before it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

NAME = 104  # pixels that a row's name has
CELL = 144  # a side of a small picture


class Row(NamedTuple):
    name: str
    pictures: Sequence[np.ndarray]  # uint8 [h w 3]


def write_sheet(path: Path, rows: Sequence[Row], cell: int = CELL) -> None:
    columns = max(len(row.pictures) for row in rows)
    whole = Image.new("RGB", (NAME + columns * cell, len(rows) * cell), "white")
    write = ImageDraw.Draw(whole)
    for number, row in enumerate(rows):
        write.multiline_text(
            (6, number * cell + cell // 3), "\n".join(row.name.split(": ")), "black"
        )
        for column, picture in enumerate(row.pictures):
            image = Image.fromarray(picture).resize((cell, cell), Image.Resampling.LANCZOS)
            whole.paste(image, (NAME + column * cell, number * cell))
    whole.save(path, quality=90)
