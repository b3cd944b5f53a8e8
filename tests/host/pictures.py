"""Makes the pictures that the pack brings: thumbnails from workflows' own output, nodes and graphs
as the host's page draws them. `python -m tests.host.pictures`, once weights or nodes have changed.
"""

import tempfile
from pathlib import Path
from typing import Any

import av
from PIL import Image

from tests.host import workflow
from tests.host.comfy import ROOT, Comfy, comfy_folder
from tests.host.page import Page, opened

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
HELP, GRAPHS = ROOT / "nodes" / "web" / "docs", ROOT / "docs"
SIDE, EDGE, MOMENT = 480, 4, 0.9  # pixels; and how far into a clip its picture is taken
SAMPLE = ROOT / "rtr_core" / "assets" / "sample.mp4"
ONE_NODE = """type => {
  app.graph.clear();
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  node.size[0] = Math.max(node.size[0], 340);
  node.pos = [60, 80];
  app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0];
  app.canvas.setDirty(true, true);
  return [node.size[0], node.size[1], app.canvas.canvas.getBoundingClientRect().x,
          app.canvas.canvas.getBoundingClientRect().y];
}"""
FIT = """async () => {
  await app.extensionManager.setting.set('Comfy.Minimap.Visible', false);
  const bounds = [Infinity, Infinity, -Infinity, -Infinity];
  for (const node of app.graph._nodes) {
    const [x, y, width, height] = node.getBounding();
    bounds[0] = Math.min(bounds[0], x); bounds[1] = Math.min(bounds[1], y);
    bounds[2] = Math.max(bounds[2], x + width); bounds[3] = Math.max(bounds[3], y + height);
  }
  const canvas = app.canvas.canvas.getBoundingClientRect(), free = 90, edge = 40;
  const [width, height] = [bounds[2] - bounds[0], bounds[3] - bounds[1]];
  const scale = Math.min(1, (canvas.width - 2 * free) / width, (canvas.height - 2 * free) / height);
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [free / scale - bounds[0], free / scale - bounds[1]];
  app.canvas.setDirty(true, true);
  return {x: canvas.x + free - edge, y: canvas.y + free - edge,
          width: width * scale + 2 * edge, height: height * scale + 2 * edge};
}"""


def moment_of(clip: Path) -> Image.Image:
    with av.open(str(clip)) as opened_clip:
        frames = [frame.to_image() for frame in opened_clip.decode(video=0)]
    return frames[int(MOMENT * (len(frames) - 1))]


def before_and_after(before: Image.Image, after: Image.Image) -> Image.Image:
    """The left half of one, the right half of the other, and a line between them."""
    size = SIDE, round(SIDE * before.height / before.width)
    whole, right = before.resize(size), after.resize(size)
    whole.paste(right.crop((SIDE // 2, 0, *size)), (SIDE // 2, 0))
    whole.paste((255, 255, 255), (SIDE // 2 - EDGE // 2, 0, SIDE // 2 + EDGE // 2, size[1]))
    return whole


def thumbnails(comfy: Comfy) -> None:
    known, source = comfy.get("/object_info"), moment_of(SAMPLE)
    for path in WORKFLOWS:
        before = set((comfy.base / "output").rglob("*.mp4"))
        graph = workflow.as_graph(workflow.read(path), known)
        if not _has_its_files(graph, known):
            continue
        comfy.run(graph)
        made = sorted(set((comfy.base / "output").rglob("*.mp4")) - before)
        before_and_after(source, moment_of(made[-1])).save(path.with_suffix(".jpg"), quality=85)


def _has_its_files(graph: dict[str, Any], known: dict[str, Any]) -> bool:
    loaders = [node for node in graph.values() if node["class_type"] == "RTRLoadModel"]
    there = known["RTRLoadModel"]["input"]["required"]["checkpoint"]
    options = there[1]["options"] if len(there) > 1 and "options" in there[1] else there[0]
    return all(node["inputs"]["checkpoint"] in options for node in loaders)


def nodes(page: Page) -> None:
    page.put_dialogs_away()
    for path in sorted(HELP.glob("*.md")):
        width, height, x, y = page.page.evaluate(ONE_NODE, path.stem)
        page.page.wait_for_timeout(700)
        clip = {"x": x + 40, "y": y + 26, "width": width + 40, "height": height + 70}
        page.page.screenshot(path=str(path.with_suffix(".jpg")), clip=clip, type="jpeg", quality=85)


def graphs(page: Page) -> None:
    GRAPHS.mkdir(exist_ok=True)
    for path in WORKFLOWS:
        picture = GRAPHS / f"{path.stem}.jpg"
        page.load(workflow.read(path))
        clip = page.page.evaluate(FIT)
        page.page.wait_for_timeout(1500)
        page.page.screenshot(path=str(picture), clip=clip, type="jpeg", quality=80)
        if not path.with_suffix(".jpg").is_file():  # it needs weights that are not here
            thumbnail = Image.open(picture)
            thumbnail.thumbnail((SIDE, SIDE))
            thumbnail.save(path.with_suffix(".jpg"), quality=85)


def main() -> None:
    folder = comfy_folder()
    assert folder is not None, "pictures are made by a real ComfyUI: set COMFYUI_DIR"
    with tempfile.TemporaryDirectory() as base:
        comfy = Comfy(folder, Path(base)).wait()
        try:
            thumbnails(comfy)
            with opened(f"http://127.0.0.1:{comfy.port}") as page:
                nodes(page)
                graphs(page)
        finally:
            comfy.stop()


if __name__ == "__main__":
    main()
