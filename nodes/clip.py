"""Clips on disk: from file to file, in flat memory, resumed after any break."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import InputImpl, io, ui

from ..rtr_core import ClipError, Stylizer
from ..rtr_core.media.again import forget, numbered
from ..rtr_core.media.batch import clips_in, each, table
from ..rtr_core.media.codecs import CODECS, pick_codec
from ..rtr_core.media.job import Done, Job, Task
from ..rtr_core.media.source import open_source
from ..rtr_core.shapes import as_size
from ..rtr_core.timeline import Timeline
from . import schema as inputs
from .convert import to_folder, to_mask, to_path, to_size
from .host import Feedback, loaded

SUFFIXES = {"h264": ".mp4", "hevc": ".mp4", "prores": ".mov", "lossless": ".mkv", "vp9": ".webm"}
SHOTS = ["off", "auto"]


def job_inputs() -> list[io.Input]:
    """What both nodes ask for beside where clips come from and go to."""
    side = {"default": 0, "min": 0, "max": 16384}
    return [
        inputs.model_input(),
        inputs.vae_input(),
        inputs.style_input(),
        io.Int.Input("width", tooltip="Of the result. 0 for both: the source's size.", **side),
        io.Int.Input("height", tooltip="Of the result. 0 for both: the source's size.", **side),
        io.Combo.Input(
            "codec",
            options=list(CODECS),
            tooltip="lossless keeps every pixel as it was rendered; use it with a mask.",
        ),
        io.Combo.Input(
            "shots",
            options=SHOTS,
            tooltip="auto finds cuts and lets go of the past there, so that no shot bleeds into "
            "the next.",
        ),
        inputs.seed_input("Of the noise: the same seed gives the same clip."),
    ]


class StylizeVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return inputs.schema(
            "RTRStylizeVideo",
            "RTR Stylize Video",
            description="Restyles a video from file to file, of any length in flat memory. Sound "
            "is kept. Queue it again after a break, and it goes on.",
            search_aliases=["long video", "resume", "restyle video"],
            inputs=[
                io.Video.Input("video", tooltip="From Load Video or RTR Sample."),
                *job_inputs(),
                io.String.Input(
                    "filename_prefix",
                    default="video/rtr",
                    tooltip="Where in the output folder, and under which name.",
                ),
                inputs.mask_input(),
            ],
            outputs=[io.Video.Output(display_name="video")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        model: Any,
        vae: Any,
        style: Timeline,
        width: int,
        height: int,
        codec: str,
        shots: str,
        seed: int,
        filename_prefix: str,
        mask: Any = None,
    ) -> io.NodeOutput:
        source, feedback = to_path(video), Feedback(cls.hidden.unique_id)
        with open_source(source) as opened:
            info = opened.info
        size = to_size(width, height)
        root = folder_paths.get_output_directory()
        folder, stem, _, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, root, info.size.width, info.size.height
        )
        told = {"size": size, "codec": codec, "shots": shots, "seed": seed, "mask": to_mask(mask)}
        with loaded(model, vae, feedback.watch, size or info.size) as stylizer:
            suffix = SUFFIXES[codec]
            draft = task_of(source, Path(folder) / f"{stem}{suffix}", style, **told)
            out = numbered(Path(folder), stem, suffix, draft.facts(stylizer))
            task = task_of(source, out, style, **told)
            done = run(task, stylizer, feedback)
        feedback.say(_said(done, feedback, style))
        saved = ui.SavedResult(out.name, subfolder, io.FolderType.output)
        return io.NodeOutput(InputImpl.VideoFromFile(str(out)), ui=ui.PreviewVideo([saved]))


class StylizeFolder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return inputs.schema(
            "RTRStylizeFolder",
            "RTR Stylize Folder",
            description="Restyles every clip of a folder, one after the other. A broken one does "
            "not stop the others; queue it again, and it goes on.",
            search_aliases=["batch", "overnight", "folder of videos"],
            inputs=[
                io.String.Input(
                    "folder",
                    default="",
                    tooltip="The clips: a whole path, or a folder in the input folder.",
                ),
                *job_inputs(),
                io.String.Input(
                    "output_folder",
                    default="rtr",
                    tooltip="In the output folder. Clips that are there already are left alone.",
                ),
            ],
            outputs=[io.String.Output(display_name="report")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """The folder may hold other clips than last time."""
        return float("nan")

    @classmethod
    def execute(
        cls,
        folder: str,
        model: Any,
        vae: Any,
        style: Timeline,
        width: int,
        height: int,
        codec: str,
        shots: str,
        seed: int,
        output_folder: str,
    ) -> io.NodeOutput:
        clips, feedback = clips_in(to_folder(folder)), Feedback(cls.hidden.unique_id)
        size = to_size(width, height)
        told = {"size": size, "codec": codec, "shots": shots, "seed": seed, "mask": None}
        root = folder_paths.get_output_directory()
        target = Path(folder_paths.get_save_image_path(f"{output_folder}/rtr", root)[0])

        def one(stylizer: Stylizer, clip: Path, out: Path) -> Done:
            feedback.say(f"{clip.name}, {len(rows) + 1} of {len(clips)}")
            return run(task_of(clip, out, style, **told), stylizer, feedback)

        rows: list[Any] = []
        with loaded(model, vae, feedback.watch, size or largest(clips)) as stylizer:
            for row in each(clips, target, codec, partial(one, stylizer)):
                rows.append(row)
        report = table(rows)
        feedback.say(report)
        return io.NodeOutput(report, ui=ui.PreviewText(report))


def task_of(
    source: Path,
    out: Path,
    style: Timeline,
    *,
    size: tuple[int, int] | None,
    codec: str,
    shots: Any,
    seed: int,
    mask: Any,
) -> Task:
    return Task(
        source=source,
        out=out,
        sheet=style.sheet,
        styles=style.styles,
        codec=pick_codec(out, codec),
        size=as_size(size) if size else None,
        shots=shots,
        seed=seed,
        mask=mask,
    )


def run(task: Task, stylizer: Stylizer, feedback: Feedback) -> Done:
    """One job, from where an earlier run was broken off; its folder goes when it is done."""
    with open_source(task.source) as opened:
        info = opened.info
    claimed = info.frames or round((info.duration or 0) * info.rate)
    style, *more = task.styles.values()
    feedback.expect(stylizer, claimed, f"{style} and {len(more)} more" if more else str(style))
    done = Job(task, stylizer, lambda styled: feedback.show(styled.pixels)).run()
    forget(task)
    feedback.end()
    return done


def largest(clips: Iterable[Path]) -> tuple[int, int]:
    """The size to make room for; a clip that cannot be opened is told about when it is its turn."""
    sizes = [(8, 8)]
    for clip in clips:
        try:
            with open_source(clip) as opened:
                sizes.append(tuple(opened.info.size))
        except ClipError:
            continue
    return max(sizes, key=lambda size: size[0] * size[1])


def _said(done: Done, feedback: Feedback, style: Timeline) -> str:
    told = [f"{done.frames} frames, {feedback.rate:.1f} a second", str(style)]
    if done.drift is not None:
        told.append(f"drift at most: {done.drift}")
    if done.resumed_at:
        told.append(f"gone on from frame {done.resumed_at}")
    return " | ".join([*told, *done.notes, *filter(None, [done.damage])])
