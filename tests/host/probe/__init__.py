"""Nodes that only tests load: frames without files, and looks into the host's books."""

import hashlib

import comfy.model_management as mm
import comfy.utils
import torch
from comfy_api.latest import ComfyExtension, io, ui

WHOLE = mm.LoadedModel.model_use_more_vram


def frame(number, width, height):
    rng = torch.Generator().manual_seed(number)
    return torch.rand(height, width, 3, generator=rng)


class Probe(io.ComfyNode):
    """A node told in two lines."""

    INPUTS: tuple = ()
    OUTPUTS: tuple = ()
    IS_OUTPUT = False

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id=cls.__name__,
            category="probe",
            inputs=list(cls.INPUTS),
            outputs=list(cls.OUTPUTS),
            is_output_node=cls.IS_OUTPUT,
        )


def ints(**defaults):
    return tuple(
        io.Int.Input(name, default=value, min=0, max=2**31) for name, value in defaults.items()
    )


class ProbeFrames(Probe):
    INPUTS = ints(start=0, count=9, width=48, height=32)
    OUTPUTS = (io.Image.Output(),)

    @classmethod
    def execute(cls, start, count, width, height):
        frames = [frame(start + n, width, height) for n in range(count)]
        return io.NodeOutput(torch.stack(frames) if frames else torch.zeros(0, height, width, 3))


class ProbeMask(Probe):
    INPUTS = ints(width=48, height=32)
    OUTPUTS = (io.Mask.Output(),)

    @classmethod
    def execute(cls, width, height):
        mask = torch.zeros(1, height, width)
        mask[..., width // 2 :] = 1
        return io.NodeOutput(mask)


class ProbeHash(Probe):
    """The bits of every frame."""

    INPUTS = (io.Image.Input("images"),)
    IS_OUTPUT = True

    @classmethod
    def fingerprint_inputs(cls, **_):
        return float("nan")  # newer hosts do not tell again what a cached node has told

    @classmethod
    def execute(cls, images):
        told = [hashlib.sha256(one.contiguous().numpy().tobytes()).hexdigest() for one in images]
        return io.NodeOutput(ui=ui.PreviewText("\n".join(told)))


class ProbeBooks(Probe):
    """What the host counts as loaded, as `name bytes loaded`."""

    INPUTS = (io.Image.Input("after"),)
    IS_OUTPUT = True

    @classmethod
    def fingerprint_inputs(cls, **_):
        return float("nan")

    @classmethod
    def execute(cls, after):
        models = [loaded.model for loaded in mm.current_loaded_models]
        told = [f"{type(m.model).__name__} {m.model_size()} {m.loaded_size()}" for m in models]
        return io.NodeOutput(ui=ui.PreviewText("\n".join(told)))


class ProbePushOut(Probe):
    """As if another model needed all the memory."""

    INPUTS = (io.Image.Input("images"),)
    OUTPUTS = (io.Image.Output(),)

    @classmethod
    def fingerprint_inputs(cls, **_):
        return float("nan")

    @classmethod
    def execute(cls, images):
        mm.free_memory(1e30, mm.get_torch_device())
        return io.NodeOutput(images)


class ProbeStop(Probe):
    """Stops whatever runs next once the progress bar has moved so many times."""

    INPUTS = (
        io.Image.Input("images"),
        *ints(moves=3),
        io.Combo.Input("how", options=["interrupt", "out of memory"]),
    )
    OUTPUTS = (io.Image.Output(),)

    @classmethod
    def fingerprint_inputs(cls, **_):
        return float("nan")

    @classmethod
    def execute(cls, images, moves, how):
        hook, calls = comfy.utils.PROGRESS_BAR_HOOK, []

        def counting(*values, **named):
            calls.append(1)
            if len(calls) == moves:
                comfy.utils.set_progress_bar_global_hook(hook)
                if how == "interrupt":
                    mm.interrupt_current_processing(True)
                else:
                    raise torch.OutOfMemoryError("no memory, says the probe")
            return hook(*values, **named)

        comfy.utils.set_progress_bar_global_hook(counting)
        return io.NodeOutput(images)


class ProbeLowMemory(Probe):
    """From here on the host finds room for a few kilobytes of a transformer only."""

    INPUTS = (io.Model.Input("model"), *ints(kilobytes=64))
    OUTPUTS = (io.Model.Output(),)

    @classmethod
    def execute(cls, model, kilobytes):
        def little(loaded, extra, force_patch_weights=False):
            if type(loaded.model.model).__name__ == "RtrModel" and kilobytes:
                extra = kilobytes * 1024
            return WHOLE(loaded, extra, force_patch_weights)

        mm.LoadedModel.model_use_more_vram = little
        return io.NodeOutput(model)


class ProbeExtension(ComfyExtension):
    async def get_node_list(self):
        return [
            ProbeFrames,
            ProbeMask,
            ProbeHash,
            ProbeBooks,
            ProbePushOut,
            ProbeStop,
            ProbeLowMemory,
        ]


async def comfy_entrypoint():
    return ProbeExtension()
