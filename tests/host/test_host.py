"""The pack on a real host: it loads, counts, patches, and says what is wrong in one sentence."""

import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from rtr_core import Stylizer, untrained
from rtr_core.vae.wan import WanVae
from rtr_core.vae.wan_config import WAN_2_1
from rtr_core.weights.bundle import About, write_bundle
from tests.host.comfy import ENVIRONMENT, Comfy, Failed, Refused, comfy_folder
from tests.host.graphs import Wire, Wires

if comfy_folder() is None:
    pytest.skip(
        f"no ComfyUI: set {ENVIRONMENT} to the folder of one, 0.3.64 or newer",
        allow_module_level=True,
    )


def hashes(outputs: dict) -> list[str]:
    texts = [out["text"][0] for out in outputs.values() if "text" in out]
    return texts[0].splitlines() if texts else []


def restyled(comfy: Comfy, frames: int = 9, lora: str | None = None, **chosen) -> list[str]:
    graph = Wires()
    wires = graph.model(**chosen)
    if lora is not None:
        wires["model"] = graph.add(
            "LoraLoaderModelOnly", model=wires["model"], lora_name=lora, strength_model=1.0
        )
    images = graph.add("ProbeFrames", count=frames)
    graph.add("ProbeHash", images=graph.add("RTRStylizeText", images=images, **wires))
    return hashes(comfy.run(graph.nodes))


def stream(graph: Wires, name: str, **chosen) -> Wire:
    images = chosen.pop("images", None) or graph.add("ProbeFrames")
    wires = chosen.pop("wires", None) or graph.model()
    style = chosen.pop("style", None) or graph.add("RTRStyle")
    return graph.add("RTRStream", images=images, session_name=name, style=style, **wires, **chosen)


def status_of(comfy: Comfy, graph: Wires, wire: Wire) -> str:
    graph.add("PreviewAny", source=wire)
    return next(out["text"][0] for out in comfy.run(graph.nodes).values() if "text" in out)


def test_every_node_is_there_and_its_import_is_quick(comfy):
    known = comfy.get("/object_info")
    assert {name for name in known if name.startswith("RTR")} == {
        *("RTRLoadModel", "RTRStyle", "RTRCueSheet", "RTRStylizeText", "RTRStylizeReference"),
        *("RTRStylizeVideo", "RTRStylizeFolder", "RTRStream", "RTRSwitchStyle", "RTRSession"),
        *("RTRSample", "RTRMixStyles", "RTRLive"),
    }
    line = next(x for x in comfy.log.read_text().splitlines() if "realtime-rerenderer" in x)
    assert float(line.split()[0]) < 2


# ---- what the host's own nodes do with ours ----


def test_the_result_is_that_of_the_core_and_the_same_seed_gives_the_same(comfy):
    assert len(restyled(comfy)) == 9 and restyled(comfy) == restyled(comfy)


def test_a_mix_is_neither_of_its_styles(comfy):
    def mixed(weight: float) -> list:
        graph = Wires()
        styles = [graph.add("RTRStyle", prompt=prompt) for prompt in ("ink wash", "thermal camera")]
        mix = graph.add("RTRMixStyles", style=styles[0], other=styles[1], weight=weight)
        images = stream(graph, f"mix {weight}", style=mix, flush=True)
        graph.add("ProbeHash", images=images)
        return hashes(comfy.run(graph.nodes))

    assert len({str(mixed(weight)) for weight in (0.0, 0.5, 1.0)}) == 3


@pytest.fixture(scope="module")
def lora(comfy) -> str:
    """A LoRA on one layer, in the form that trainers write."""
    name = "blocks.0.self_attn.q"
    parts = Stylizer.load("rtr-tiny", device="cpu").parts
    dim = parts.transformer.config.dim
    rng = torch.Generator().manual_seed(0)
    save_file(
        {
            f"diffusion_model.{name}.lora_down.weight": torch.randn(4, dim, generator=rng),
            f"diffusion_model.{name}.lora_up.weight": torch.randn(dim, 4, generator=rng),
        },
        comfy.base / "models" / "loras" / "ink.safetensors",
    )
    return "ink.safetensors"


def test_a_core_lora_node_changes_the_output_and_leaves_the_model_as_it_was(comfy, lora):
    plain = restyled(comfy)
    assert restyled(comfy, lora=lora) != plain
    assert restyled(comfy) == plain


def test_a_lora_on_a_running_stream_begins_it_anew_and_says_so(comfy, lora):
    graph = Wires()
    first = status_of(comfy, graph, stream(graph, "lora")[2])
    graph = Wires()
    wires = graph.model()
    wires["model"] = graph.add(
        "LoraLoaderModelOnly", model=wires["model"], lora_name=lora, strength_model=1.0
    )
    second = status_of(comfy, graph, stream(graph, "lora", wires=wires)[2])
    assert "begun anew" not in first and "begun anew: model, LoRA or VAE was" in second


def test_fp8_weights_give_nearly_the_same_and_are_told_apart(comfy):
    assert restyled(comfy, weight_dtype="fp8_e4m3fn") != restyled(comfy)


def test_with_room_for_a_few_kilobytes_the_host_brings_the_weights_layer_by_layer(comfy):
    plain = restyled(comfy)
    graph = Wires()
    wires = graph.model()
    wires["model"] = graph.add("ProbeLowMemory", model=wires["model"], kilobytes=64)
    images = graph.add("ProbeFrames", count=9)
    graph.add("ProbeHash", images=graph.add("RTRStylizeText", images=images, **wires))
    comfy.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1)
    try:
        assert hashes(comfy.run(graph.nodes)) == plain
        assert "loaded partially" in comfy.log.read_text()
    finally:
        graph = Wires()
        model = graph.add("ProbeLowMemory", model=graph.model()["model"], kilobytes=0)
        images = graph.add("ProbeFrames", count=1)
        vae = graph.model()["vae"]
        graph.add(
            "ProbeHash", images=graph.add("RTRStylizeText", images=images, model=model, vae=vae)
        )
        comfy.run(graph.nodes)


def test_core_text_encode_and_vae_nodes_take_what_the_loader_gives(comfy):
    graph = Wires()
    loader = graph.add("RTRLoadModel")
    told = graph.add("CLIPTextEncode", clip=loader[1], text="ink wash painting")
    images = graph.add("ProbeFrames", count=9)
    styled = graph.add(
        "RTRStylizeText", images=images, model=loader, vae=loader[2], conditioning=told
    )
    graph.add("ProbeHash", images=styled)
    assert hashes(comfy.run(graph.nodes)) == restyled(comfy)
    graph = Wires()
    loader = graph.add("RTRLoadModel")
    latent = graph.add("VAEEncode", pixels=graph.add("ProbeFrames", count=9), vae=loader[2])
    graph.add("ProbeHash", images=graph.add("VAEDecode", samples=latent, vae=loader[2]))
    assert len(hashes(comfy.run(graph.nodes))) == 9


@pytest.fixture(scope="module")
def wan(comfy) -> tuple[str, str]:
    """A model with Wan's 16 latent channels, and a Wan VAE, both of random weights."""
    wide = replace(untrained.TRANSFORMER, in_channels=32, out_channels=16)
    parts = untrained.parts(transformer=wide)
    models = comfy.base / "models"
    for name in ("diffusion_models", "vae"):
        (models / name).mkdir(parents=True, exist_ok=True)
    tensors = {"transformer": parts.transformer.state_dict(), "text": parts.text.state_dict()}
    about = About(transformer=wide, text=untrained.TEXT, recipe=untrained.RECIPE)
    write_bundle(models / "diffusion_models" / "wide.safetensors", tensors, about)
    save_file(WanVae(WAN_2_1).state_dict(), models / "vae" / "wan.safetensors")
    return "wide.safetensors", "wan.safetensors"


def test_the_hosts_wan_vae_is_taken_and_is_the_same_as_ours_over_its_file(comfy, wan):
    model, file = wan
    graph = Wires()
    vae = graph.add("VAELoader", vae_name=file)
    loader = graph.add("RTRLoadModel", checkpoint=model)
    images = graph.add("ProbeFrames", count=6)
    styled = graph.add("RTRStylizeText", images=images, model=loader, vae=vae)
    graph.add("ProbeHash", images=styled)
    theirs = hashes(comfy.run(graph.nodes))
    assert theirs == restyled(comfy, frames=6, checkpoint=model, vae_file=file)


def test_a_vae_of_another_family_is_refused(comfy, wan):
    graph = Wires()
    vae = graph.add("VAELoader", vae_name=wan[1])
    images, model = graph.add("ProbeFrames"), graph.add("RTRLoadModel")
    styled = graph.add("RTRStylizeText", images=images, model=model, vae=vae)
    graph.add("ProbeHash", images=styled)
    assert "latents have 16 channels" in failing(comfy, graph)


# ---- memory ----


def books(outputs: dict) -> dict[str, tuple[int, int]]:
    """Bytes of each loaded thing, and how many of them are in."""
    lines = [x for out in outputs.values() for x in out.get("text", [""])[0].splitlines()]
    told = [line.split() for line in lines if line.count(" ") == 2]
    return {name: (int(size), int(inside)) for name, size, inside in told}


def test_the_host_counts_a_sessions_bytes_and_may_push_them_out(comfy):
    graph = Wires()
    graph.add("ProbeBooks", after=stream(graph, "counted"))
    before = books(comfy.run(graph.nodes))
    size, inside = before["RtrSession"]
    assert size == inside > 100_000 and "RtrModel" in before and "TinyVae" in before
    graph = Wires()
    out = graph.add("ProbePushOut", images=graph.add("ProbeFrames"))
    graph.add("ProbeBooks", after=out)
    assert "RtrSession" not in books(comfy.run(graph.nodes))


def test_a_session_that_was_pushed_out_goes_on_to_the_bit(comfy):
    outs: dict[str, list[str]] = {"stays": [], "goes": []}
    for name, seen in outs.items():
        for run in range(3):
            graph = Wires()
            images = graph.add("ProbeFrames", start=run * 9, count=9)
            if name == "goes":
                images = graph.add("ProbePushOut", images=images)
            graph.add("ProbeHash", images=stream(graph, name, images=images))
            seen += hashes(comfy.run(graph.nodes))
    assert outs["stays"] == outs["goes"]


# ---- sessions ----


def test_a_switch_node_takes_effect_once_and_a_saved_session_goes_on_to_the_bit(comfy):
    def session(action: str, **chosen) -> dict:
        graph = Wires()
        graph.add("RTRSession", action=action, **graph.model(), **chosen)
        return comfy.run(graph.nodes)

    def pushed(name: str, start: int) -> list[str]:
        graph = Wires()
        images = graph.add("ProbeFrames", start=start, count=12)
        graph.add("ProbeHash", images=stream(graph, name, images=images, history=2))
        return hashes(comfy.run(graph.nodes))

    pushed("first", 0)
    graph = Wires()
    wire = graph.add("RTRSession", session_name="first", **graph.model())
    oil = graph.add("RTRStyle", prompt="oil painting")
    for _ in range(2):
        wire = graph.add("RTRSwitchStyle", session=wire, style=oil)
    comfy.run(graph.nodes)
    session("save", session_name="first", other_name="kept")
    session("fork", session_name="first", other_name="twin")
    after = pushed("first", 12)
    assert pushed("twin", 12) == after
    session("load", session_name="second", other_name="kept")
    told = str(session("inspect", session_name="second"))
    assert "drift: colour" in told
    assert "oil painting" in told and "frames in: 12" in told
    session("rewind", session_name="first", chunks=1)
    session("close", session_name="first")
    with pytest.raises(Failed, match="no session 'first'"):
        session("inspect", session_name="first")


# ---- bad input: a red node, one sentence, and all else goes on ----


def failing(comfy: Comfy, graph: Wires) -> str:
    with pytest.raises((Failed, Refused)) as caught:
        comfy.run(graph.nodes)
    assert len(restyled(comfy, frames=1)) == 1  # one frame, and the host goes on
    return str(caught.value)


def test_an_empty_batch_is_refused(comfy):
    graph = Wires()
    images = graph.add("ProbeFrames", count=0)
    graph.add("ProbeHash", images=graph.add("RTRStylizeText", images=images, **graph.model()))
    assert "no frame in these images" in failing(comfy, graph)


def test_a_huge_picture_is_refused(comfy):
    graph = Wires()
    images = graph.add("ProbeFrames", count=1, width=20000, height=8)
    graph.add("ProbeHash", images=graph.add("RTRStylizeText", images=images, **graph.model()))
    assert "between 1 and 16384" in failing(comfy, graph)


def test_a_session_name_with_slashes_is_refused(comfy):
    graph = Wires()
    graph.add("ProbeHash", images=stream(graph, "../../etc"))
    assert "no slashes" in failing(comfy, graph)


def test_conditioning_of_another_text_encoder_is_refused(comfy):
    graph = Wires()
    zero = graph.add("CLIPTextEncode", clip=graph.add("RTRLoadModel")[1], text="ink")
    wide = graph.add("ConditioningCombine", conditioning_1=zero, conditioning_2=zero)
    images = graph.add("ProbeFrames")
    styled = graph.add("RTRStylizeText", images=images, conditioning=wide, **graph.model())
    graph.add("ProbeHash", images=styled)
    assert "holds 2" in failing(comfy, graph)


def test_frames_that_change_their_size_begin_the_stream_anew_and_say_so(comfy):
    graph = Wires()
    status_of(comfy, graph, stream(graph, "grows")[2])
    graph = Wires()
    images = graph.add("ProbeFrames", width=64)
    told = status_of(comfy, graph, stream(graph, "grows", images=images)[2])
    assert "begun anew: size was 48x32, is 64x32" in told


def test_a_wrong_model_file_is_refused(comfy):
    folder = comfy.base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"some.weight": torch.zeros(2, 2)}, folder / "other.safetensors")
    graph = Wires()
    images = graph.add("ProbeFrames")
    wires = graph.model(checkpoint="other.safetensors")
    graph.add("ProbeHash", images=graph.add("RTRStylizeText", images=images, **wires))
    assert "other.safetensors" in failing(comfy, graph)


def test_the_log_holds_no_warning_of_ours(comfy):
    expected = ("Error handling request", "!!! Exception", "Traceback", "Failed to validate")
    ours = [x for x in comfy.complaints() if "rtr" in x.lower() and not x.startswith(expected)]
    assert not [line for line in ours if "raise" not in line and "rtr_core.errors" not in line]
