"""A take is a source clip and a cue sheet, which `rtr stylize` makes the same frames of."""

import asyncio
from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="no aiohttp to serve the live page with")

from rtr_core import Recipe, Stylizer, untrained
from rtr_core.cues import CueSheet
from rtr_core.live.stage import Stage, low_latency
from rtr_core.live.viewer import Setup
from rtr_core.media.codecs import pick_codec
from rtr_core.media.job import Job, Task
from rtr_core.media.source import open_source
from rtr_core.shapes import Size
from tests.live.performer import Performer, picture, serving
from tests.live.test_server import CHIPS


def recorded(stylizer: Stylizer, takes: Path, perform) -> Path:
    """The folder of what is recorded while `perform(page)` runs."""

    async def work():
        async with serving(Stage.of(stylizer, Setup(chips=CHIPS, side=96, takes=takes))) as server:
            page = await server.performer()
            await page.begin()
            await page.played(5)
            await page.say(do="record", on=True)
            await page.next("recording")
            await perform(page)
            await page.say(do="record", on=False)
            done = await page.next("recorded")
            assert done["command"].startswith("rtr stylize ")
            return takes / done["take"], done["frames"]

    folder, frames = asyncio.run(asyncio.wait_for(work(), 60))
    with open_source(folder / "source.mkv") as source:
        assert len(list(source.frames())) == frames
    return folder


async def performance(page: Performer) -> None:
    await page.played(9)
    await page.say(do="style", style={"chip": 1}, fade=6)
    await page.next("style", 2)
    await page.played(8)
    await page.socket.send_bytes(b"\x02" + picture(3, 80, 80, "PNG"))
    name = (await page.next("reference"))["id"]
    await page.say(do="style", style={"reference": name, "strength": 0.9})
    await page.next("style", 3)
    await page.played(4)


def rendered_again(stylizer: Stylizer, folder: Path, out: Path, **asked) -> Path:
    sheet = CueSheet.read(folder / "cues.txt")
    task = Task(
        source=folder / "source.mkv",
        out=out,
        sheet=sheet,
        styles=sheet.styles(folder),
        codec=pick_codec(out, "h264"),
        **asked,
    )
    Job(task, stylizer, lambda styled: None).run()
    return out


def frames_of(path: Path) -> list[tuple[int, bytes]]:
    with open_source(path) as source:
        return [(frame.time, frame.pixels.numpy().tobytes()) for frame in source.frames()]


def test_a_take_is_rendered_again_to_the_same_frames(stylizer, tmp_path):
    folder = recorded(stylizer, tmp_path / "takes", performance)
    assert [str(cue.start) for cue in CueSheet.read(folder / "cues.txt").cues] == [
        "f0",
        "f9",
        "f17",
    ]
    again = rendered_again(stylizer, folder, tmp_path / "again.mp4")
    assert frames_of(again) == frames_of(folder / "styled.mp4")
    larger = rendered_again(stylizer, folder, tmp_path / "larger.mp4", size=Size(128, 192))
    assert [time for time, _ in frames_of(larger)] == [time for time, _ in frames_of(again)]


def test_chunks_in_flight_when_a_recording_ends_are_part_of_it(tmp_path):
    """Of a model of two steps under the low-latency recipe, on random weights."""
    random = Stylizer.of(untrained.parts())
    quick = Stylizer.of(random.parts, **vars(low_latency(two_steps(random))))
    assert quick.recipe.buffer == 2

    async def perform(page):
        await page.played(13)

    folder = recorded(quick, tmp_path / "takes", perform)
    again = rendered_again(quick, folder, tmp_path / "again.mp4")
    assert frames_of(again) == frames_of(folder / "styled.mp4")


def two_steps(stylizer: Stylizer) -> Recipe:
    return stylizer.recipe.override(timesteps=(1000, 500), commit="last step", switch="truncate")


def test_a_style_that_is_changed_before_the_first_frame_is_the_take_s_first(stylizer, tmp_path):
    async def perform(page):
        await page.say(do="style", style={"chip": 1}, fade=12)
        await page.next("style", 2)
        await page.played(5)

    folder = recorded(stylizer, tmp_path / "takes", perform)
    (cue,) = CueSheet.read(folder / "cues.txt").cues
    assert (cue.prompt, cue.fade, cue.seed) == (CHIPS[1].style.prompt, 0, 0)


def test_a_tab_that_is_closed_while_it_records_loses_nothing(stylizer, tmp_path):
    async def work():
        async with serving(
            Stage.of(stylizer, Setup(chips=CHIPS, side=96, takes=tmp_path))
        ) as server:
            page = await server.performer()
            await page.begin()
            await page.say(do="record", on=True)
            await page.next("recording")
            await page.played(9)
            await page.socket.close()
            while server.stage.viewers or server.stage._leaving:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(work(), 60))
    (folder,) = tmp_path.iterdir()
    assert len(frames_of(folder / "styled.mp4")) == len(frames_of(folder / "source.mkv")) == 9
    assert not list(folder.glob("*.piece*"))


def test_times_of_a_take_are_those_of_the_page(stylizer, tmp_path):
    times = [500.0, 540.4, 540.4, 610.0, 700.0]

    async def perform(page):
        for time in times:
            await page.frame(time=time)
        await page.until(lambda: page.ahead == 0)

    folder = recorded(stylizer, tmp_path / "takes", perform)
    told = [Fraction(time, 1000) * 1000 for time, _ in frames_of(folder / "styled.mp4")]
    assert len(told) == 5 and sorted(set(told)) == told


def test_a_folder_that_cannot_be_written_ends_the_recording_and_not_the_stream(stylizer, tmp_path):
    (tmp_path / "takes").write_text("a file where the folder should be")

    async def work():
        setup = Setup(chips=CHIPS, side=96, takes=tmp_path / "takes")
        async with serving(Stage.of(stylizer, setup)) as server:
            page = await server.performer()
            await page.begin()
            await page.say(do="record", on=True)
            assert (await page.next("refused"))["what"] == "record"
            await page.played(5)

    asyncio.run(asyncio.wait_for(work(), 60))
