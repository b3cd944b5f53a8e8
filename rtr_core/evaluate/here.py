"""The machine that this runs on: what it is called, and its memory."""

import os
import platform
from pathlib import Path

import torch

from ..stylizer import memory_of

THERE = Path("/proc/meminfo")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CLEAR_PEAK = "5"  # what Linux calls it


def start_over(device: torch.device) -> None:
    """Look for a peak of memory from here on, where the system lets us."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        try:
            CLEAR.write_text(CLEAR_PEAK)
        except OSError:
            return  # then it is the peak since the process began


def peak_memory(device: torch.device) -> int | None:
    """Most bytes taken: of tensors on a GPU; on the CPU of the process, Python and all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024


def free_memory(device: torch.device) -> int | None:
    """Bytes that could be taken now, None where nobody can tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and THERE.exists():
        lines = dict(line.split(":", 1) for line in THERE.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return memory_of(device)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {os.cpu_count()} cores" if device.type == "cpu" else str(device)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")
