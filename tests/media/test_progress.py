"""The line on the terminal: how far, how fast, how long yet, and in which style."""

import io

import torch

from rtr_core.cli import progress
from rtr_core.cli.progress import Progress
from rtr_core.cues import CueSheet
from rtr_core.media.render import Styled
from rtr_core.media.source import Frame

(INK, OIL) = CueSheet.parse("00:00 ink wash painting\nf60 oil fade=4").cues
PIXELS = torch.zeros(8, 8, 3, dtype=torch.uint8)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch, out, total, first: int = 0) -> Progress:
    """After a hundred frames from `first` on, ten a second."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    line = Progress(total, out=out)
    for n in range(first, first + 100):
        now[0] += 0.1
        line(Styled(Frame(n, n, 1, PIXELS), PIXELS, INK if n < 60 else OIL))
    line.close()
    return line


def test_a_terminal_sees_frames_speed_time_left_and_the_style(monkeypatch):
    out = Terminal()
    shown(monkeypatch, out, 800)
    first, *_, last = out.getvalue().split("\r")[1:]
    assert "ink wash painting" in first and last.count("\n") == 1
    assert "100/800  10.0 fps  1:10 left  oil fade=4" in last
    assert last.count("#") == 3  # of 24


def test_a_run_that_goes_on_counts_its_own_frames_for_the_speed(monkeypatch):
    assert "400/800  10.0 fps  0:40 left" in str(shown(monkeypatch, Terminal(), 800, first=300))


def test_where_the_length_is_not_known_no_time_is_claimed(monkeypatch):
    line = str(shown(monkeypatch, Terminal(), None))
    assert "100 frames  10.0 fps" in line and "left" not in line


def test_a_file_of_messages_gets_no_line(monkeypatch):
    out = io.StringIO()
    shown(monkeypatch, out, 800)
    assert out.getvalue() == ""
