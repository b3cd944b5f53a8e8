"""A line on the terminal that says how far a clip is, and a picture of it if one is wanted."""

import sys
import time
from pathlib import Path
from typing import TextIO

from ..errors import RtrError
from ..media.render import Styled
from ..media.target import save_preview

WIDTH = 24
EVERY_SECONDS = 0.2
PREVIEW_SECONDS = 1.0
LONGEST_STYLE = 32


class Progress:
    """Counts styled frames; draws on a terminal in place, elsewhere nothing but the end."""

    def __init__(self, total: int | None, preview: Path | None = None, out: TextIO | None = None):
        self.total, self.preview, self.out = total, preview, out or sys.stderr
        self.done = 0
        self.style = ""
        self._began = self._drawn = time.monotonic()
        self._pictured = -PREVIEW_SECONDS  # so that the first frame is shown at once
        self._newest: Styled | None = None
        self._here = 0  # frames of this run; others an earlier run has done

    def __call__(self, styled: Styled) -> None:
        self.done, self.style = styled.source.index + 1, styled.cue.words
        self._here += 1
        now = time.monotonic()
        self._newest = styled
        if now - self._pictured > PREVIEW_SECONDS:
            self._pictured = now
            self._picture()
        self._draw(now)

    def at(self, done: int, said: str) -> None:
        """So many frames are done, by others."""
        self._here += done - self.done
        self.done, self.style = done, said
        self._draw(time.monotonic())

    def _draw(self, now: float) -> None:
        if self.out.isatty() and now - self._drawn > EVERY_SECONDS:
            self._drawn = now
            print(f"\r{self}\x1b[K", end="", file=self.out, flush=True)

    def _picture(self) -> None:
        """Show the newest frame. Where that cannot be, the work is worth more than its picture."""
        if self.preview is None or self._newest is None:
            return
        try:
            save_preview(self.preview, self._newest.pixels)
        except RtrError as error:
            self.preview = None
            print(f"rtr: no preview any more: {error}", file=self.out)

    def close(self) -> None:
        self._picture()
        if self.out.isatty():
            print(f"\r{self}\x1b[K", file=self.out, flush=True)

    @property
    def rate(self) -> float:
        """Frames a second, of this run."""
        return self._here / max(time.monotonic() - self._began, 1e-6)

    def __str__(self) -> str:
        style = self.style[:LONGEST_STYLE]
        if not self.total:
            return f"{self.done} frames  {self.rate:.1f} fps  {style}"
        full = round(WIDTH * min(1.0, self.done / self.total))
        left = max(self.total - self.done, 0) / max(self.rate, 1e-6)
        bar = "#" * full + "-" * (WIDTH - full)
        return f"[{bar}] {self.done}/{self.total}  {self.rate:.1f} fps  {clock(left)} left  {style}"


def clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
