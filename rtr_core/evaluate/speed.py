"""Speed: frames a second end to end, and the share of what this machine's matrix product gives."""

import time
from statistics import median

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..style import Style
from ..stylizer import Stylizer
from ..train import prompts
from .bars import Bar, Section, Table
from .length import looping
from .subject import Subject

WARM = 4  # chunks before the clock starts
MATRIX = 1024  # a side
PRODUCTS = 8


def examine(subject: Subject) -> Section:
    """On all threads, warm: the median of chunks."""
    stylizer, config = subject.stylizer, subject.config
    style = Style(prompt=prompts.plain(subject.styles[0]))
    frames = subject.held.clips[0].frames
    seconds, per_chunk, flops = chunks_timed(stylizer, style, frames, config.timed)
    rate, fps = matmul_rate(stylizer), per_chunk / median(seconds)
    achieved = flops / median(seconds)
    steps = len(stylizer.recipe.timesteps)
    rows = [
        ("frames a second, median", fps),
        ("slowest chunk", per_chunk / max(seconds)),
        ("denoise steps", steps),
        ("GFLOP a frame, counted", flops / per_chunk / 1e9),
        ("GFLOP/s achieved", achieved / 1e9),
        (f"GFLOP/s of a matrix product of {MATRIX}", rate / 1e9),
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
    with FlopCounterMode(display=False) as counter:
        list(session.push(source[-per_chunk:]))
    return seconds[WARM:], per_chunk, counter.get_total_flops()


def matmul_rate(stylizer: Stylizer) -> float:
    """Operations a second of a large matrix product in the model's dtype, at best."""
    like = stylizer.parts.latents_like
    matrix = torch.ones(MATRIX, MATRIX, dtype=like.dtype, device=like.device)
    best = float("inf")
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        best = min(best, time.perf_counter() - began)
    return 2 * MATRIX**3 / best
