"""What is counted beforehand is what a real step then takes."""

import pytest
import torch

from rtr_core.cli import main
from rtr_core.errors import WeightsError
from rtr_core.ledger import Imagined, Ledger
from rtr_core.shapes import Size, Stride
from rtr_core.train.loop import Dice, Turn, attention_for
from rtr_core.train.needs import (
    KNOWN,
    STAGES,
    Counted,
    Learner,
    Training,
    counted,
    made_stage,
    step_needs,
)
from rtr_core.train.network import TINY_RECIPE
from tests.train.toys import MODEL, TEXT

TOY = Learner(name="toy", transformer=MODEL, text=TEXT, recipe=TINY_RECIPE, stride=Stride(4, 8, 8))


def toy(stage="teacher", **changed) -> Training:
    values = {"size": Size(64, 64), "latents": 3, "batch": 2, "bf16": False, "on_cpu": True}
    return Training(learner=TOY, stage=stage, **(values | changed))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("stage", STAGES)
def test_imagined_steps_take_what_real_steps_take(stage, checkpointing):
    """To a few bytes of single numbers: the peak of each turn, what is kept, what stays."""
    training = toy(stage, checkpointing=checkpointing)
    imagined, real = counted(training, (Imagined(),)), counted(training, ())
    assert imagined.staying == real.staying
    for name, turn in real.turns.items():
        assert imagined.turns[name].kept == pytest.approx(turn.kept, abs=64)
        assert imagined.turns[name].peak == pytest.approx(turn.peak, abs=64)


def test_what_is_kept_is_what_autograd_saves():
    """By torch's own hooks on a real pass, to 2 %: the loss and its figures are kept besides."""
    training, sizes = toy(), {}
    stage = made_stage(training)
    own = {p.untyped_storage().data_ptr() for p in stage.network.parameters()}
    planned = counted(training, (Imagined(),)).turns["teacher"].kept
    turn = Turn("teacher", Dice(0), [Dice(0, row) for row in range(training.batch)])
    batch = Counted(stage, training, Ledger()).batch(turn)
    own |= {t.untyped_storage().data_ptr() for t in batch if isinstance(t, torch.Tensor)}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, attention_for(torch.device("cpu")):
        loss, _ = stage.loss(turn, batch)
    saved = sum(size for at, size in sizes.items() if at not in own)
    assert loss.requires_grad and planned == pytest.approx(saved, rel=0.02)


def test_the_ledger_strikes_out_what_is_gone():
    with Ledger() as ledger:
        x = torch.zeros(1000)
        view = x[10:]
        y = view + 1
        del x, y
        assert ledger.now == 4000 and ledger.peak == 4000 + 3960
        del view
        assert ledger.now == 0


def test_checkpointing_takes_less():
    kept, recomputed = (
        step_needs(toy(checkpointing=chosen, latents=9, size=Size(128, 128)))
        for chosen in (False, True)
    )
    assert recomputed.needed < 0.8 * kept.needed


def told(capsys, *words) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *words])
    return ended.value.code, capsys.readouterr().out


def test_a_step_of_wan_1_3b_fits_80_gb_with_checkpointing_and_not_without(capsys):
    words = "--train", "wan-1.3b", "--memory", "80GB"
    code, out = told(capsys, *words, "--checkpointing")
    assert code == 0 and out.endswith("\nfits\n") and "32760 tokens" in out
    code, out = told(capsys, *words)
    assert code == 1 and out.endswith("\ndoes not fit\n")


@pytest.mark.parametrize("words", [[], ["clip.mp4", "--train"], ["--train", "--memory", "much"]])
def test_a_plan_is_of_a_clip_or_of_training(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", *words])
    assert ended.value.code == 1 and capsys.readouterr().err.startswith("rtr: ")


def test_unknown_models_are_refused_with_the_names_there_are():
    with pytest.raises(WeightsError, match=r"wan-1\.3b"):
        Learner.of("wan-2b")
    assert all(learner.transformer.takes_source for learner in KNOWN.values())
