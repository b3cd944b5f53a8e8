"""Speed: frames a second end to end, and the share of what this machine's matrix product gives."""

import time
from statistics import median

import numpy as np
import torch

from ..style import Style
from ..stylizer import Stylizer
from ..train import prompts
from .bars import Bar, Section, Table
from .length import looping
from .roofline import SIDE, FlopCounter, Machine
from .subject import Subject

WARM = 4  # chunks before the clock starts
SAMPLES = 8  # of the machine


def examine(subject: Subject) -> Section:
    """On all threads, warm: the median of chunks."""
    stylizer, config = subject.stylizer, subject.config
    style = Style(prompt=prompts.plain(subject.styles[0]))
    frames = subject.held.clips[0].frames
    began = time.process_time()
    seconds, per_chunk, flops = chunks_timed(stylizer, style, frames, config.timed)
    busy = (time.process_time() - began) / (per_chunk * (WARM + config.timed + 1))
    rate, fps = matmul_rate(stylizer), per_chunk / median(seconds)
    achieved = flops / median(seconds)
    steps = len(stylizer.recipe.timesteps)
    rows = [
        ("frames a second, median", fps),
        ("slowest chunk", per_chunk / max(seconds)),
        ("processor seconds a frame, all threads together", busy),
        ("denoise steps", steps),
        ("GFLOP a frame, counted", flops / per_chunk / 1e9),
        ("GFLOP/s achieved", achieved / 1e9),
        (f"GFLOP/s of a matrix product of {SIDE}", rate / 1e9),
        ("share of it", achieved / rate),
        ("threads", torch.get_num_threads()),
    ]
    facts = {"fps": fps, "seconds": seconds, "flops a chunk": flops, "matmul": rate}
    return Section(
        name="Speed",
        bars=[
            Bar(claim="frames a second, end to end", value=fps, least=12),
            Bar(claim="denoise steps", value=float(steps), most=2),
        ],
        tables=[Table(("", "value"), rows)],
        facts=facts | {"share": achieved / rate},
    )


def chunks_timed(
    stylizer: Stylizer, style: Style, frames: np.ndarray, count: int
) -> tuple[list[float], int, int]:
    """Seconds of each chunk, its frames, and the operations of one."""
    session = stylizer.session(style, frames.shape[1:3])
    per_chunk = stylizer.recipe.chunk * stylizer.parts.vae.stride.time
    source = looping(frames, session.frames_to_chunk + per_chunk * (WARM + count + 1))
    first = session.frames_to_chunk
    list(session.push(source[:first]))
    seconds = []
    for start in range(first, len(source) - per_chunk, per_chunk):
        part = source[start : start + per_chunk]
        began = time.perf_counter()
        list(session.push(part))
        seconds.append(time.perf_counter() - began)
    with FlopCounter() as counter:
        list(session.push(source[-per_chunk:]))
    return seconds[WARM:], per_chunk, counter.get_total_flops()


def matmul_rate(stylizer: Stylizer) -> float:
    """Operations a second of a large matrix product in the model's dtype, at best."""
    machine = Machine(stylizer.parts.latents_like)
    for _ in range(SAMPLES):
        machine.sample()
    return machine.matmul
