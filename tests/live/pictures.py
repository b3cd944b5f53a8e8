"""Makes the pictures of the live page in docs, of the sample clip before a camera.

`python -m tests.live.pictures`, once weights or the page have changed.
"""

import io
import tempfile
from pathlib import Path

from PIL import Image

import rtr_core
from rtr_core import Style, Stylizer
from rtr_core.live.apart import apart
from rtr_core.live.stage import Stage
from rtr_core.live.viewer import Chip, Setup
from rtr_core.media.source import open_source
from rtr_core.weights.bundle import read_about
from rtr_core.weights.read import open_weights
from tests.live.artist import on_stage
from tests.live.performer import standing

ASSETS = Path(rtr_core.__file__).parent / "assets"
DOCS = Path(__file__).parents[2] / "docs"
DESK = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True}
CHIPS_TO_SHOW = ("2", "3", "5", "7", "1")  # each gets a face from the picture when it was tapped
LOOK = 4000  # ms


def camera_of(clip: Path, file: Path) -> None:
    """A clip as Chromium takes one for a camera: JPEG after JPEG."""
    with open_source(clip) as source, file.open("wb") as out:
        for frame in source.frames():
            picture = io.BytesIO()
            Image.fromarray(frame.pixels.numpy()).save(picture, "JPEG", quality=90)
            out.write(picture.getvalue())


def load() -> Stylizer:
    return Stylizer.load("rtr-tiny", device="cpu")


def main() -> None:
    about = read_about(open_weights(ASSETS / "rtr-tiny.safetensors"))
    assert about is not None
    chips = tuple(Chip(prompt, Style(prompt=prompt)) for prompt in about.styles)
    setup = Setup(chips=chips, takes=Path("takes"))
    with tempfile.TemporaryDirectory() as folder:
        camera = Path(folder) / "camera.mjpeg"
        camera_of(ASSETS / "sample.mp4", camera)
        flag = f"--use-file-for-fake-video-capture={camera}"
        with standing(Stage.of(apart(load), setup)) as link:
            for name, options in (("live", DESK), ("live_phone", PHONE)):
                with on_stage(link, flag, **options) as (page, _):
                    for key in CHIPS_TO_SHOW:
                        page.keyboard.press(key)
                        page.wait_for_timeout(LOOK)
                    if name == "live":
                        page.keyboard.press("s")
                        page.wait_for_timeout(LOOK)
                    page.screenshot(path=DOCS / f"{name}.jpg", type="jpeg", quality=85)


if __name__ == "__main__":
    main()
