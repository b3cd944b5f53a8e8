"""Makers told in words, several of them, and prompts by a vision-language model."""

import numpy as np
import pytest
from PIL import Image

from rtr_core.errors import StyleError, WeightsError
from rtr_core.train import looks, prompts, runs
from rtr_core.train.describe import Described, Describer, tidied
from rtr_core.train.makers import Command, Folder, Neural, Pair, Procedural
from rtr_core.train.mixed import Mixed, maker_of
from rtr_core.train.pairs import Pairs
from tests.train.scenes import clip, scene
from tests.train.test_makers import put_pair
from tests.train.vlm import WORDS, write_vlm


@pytest.fixture
def source() -> np.ndarray:
    return clip(5, 48, 64)


@pytest.fixture
def pairs(source, tmp_path):
    put_pair(tmp_path, "a", source, 255 - source)
    (tmp_path / "target" / "a.txt").write_text("a film negative; inverted", encoding="utf-8")
    return tmp_path


def test_makers_are_told_by_kind_and_fields(pairs):
    assert maker_of([["procedural"]]) == Procedural()
    some = ["procedural", "styles=ink wash, woodcut", "canonical=0.2"]
    assert maker_of([some]) == Procedural(styles=("ink wash", "woodcut"), canonical=0.2)
    line = "line=paint --in {source} --out {target}"
    assert maker_of([["command", line, "style=fresco", "stills=true", "limit=5"]]) == Command(
        "paint --in {source} --out {target}", style="fresco", stills=True, limit=5.0
    )
    assert maker_of([["folder", f"path={pairs}", "style=x"]]) == Folder(pairs, style="x")


def test_references_are_files_and_all_pictures_of_folders(tmp_path):
    for name in ("one.png", "more/two.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(scene(16, 16)).save(tmp_path / name)
    (tmp_path / "more" / "rights.txt").touch()
    told = maker_of([["neural", f"references={tmp_path}/one.png,{tmp_path}/more", "strength=0.5"]])
    assert told == Neural((tmp_path / "one.png", tmp_path / "more" / "two.png"), strength=0.5)


def test_several_makers_have_shares(pairs, source):
    told = maker_of([["folder", f"path={pairs}", "share=3"], ["procedural", "canonical=1"]])
    assert isinstance(told, Mixed)
    rng = np.random.default_rng(0)
    styles = [told.make(source[:1], rng).style for _ in range(80)]
    assert 45 <= styles.count(pairs.name) <= 74


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fresco"], "no maker 'fresco'. Makers are procedural"),
        (["folder", "style=x"], "folder needs path="),
        (["procedural", "strength=1"], "does not know 'strength=1'. Write FIELD=VALUE with styles"),
        (["procedural", "canonical=much"], "canonical='much' cannot be read"),
        (["command", "line={source} {target}", "style=x", "stills=perhaps"], "cannot be read"),
        (["neural", "references=nowhere"], "needs reference images"),
    ],
)
def test_what_cannot_be_told_is_said(words, said):
    with pytest.raises(StyleError, match=said):
        maker_of([words])


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(StyleError, match="one of them more"):
        maker_of([["procedural", "share=0"], ["procedural", "share=0"]])


def test_pairs_of_a_folder_are_learned_by_all_their_phrasings(pairs, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    Image.fromarray(scene(200, 200)).save(corpus / "still.png")
    told = [["folder", f"path={pairs}", "style=negative"], ["procedural", "styles=woodcut"]]
    for _ in runs.make_data(corpus, "rtr-tiny", tmp_path / "pairs", 24, makers=told):
        pass
    rows = Pairs(tmp_path / "pairs")
    assert rows.styles["negative"] == "inverted"
    assert set(runs.styles_of(rows)) == {"inverted", prompts.plain("woodcut")}
    known = runs.styles_of(rows, ["rtr-tiny"])
    assert known == (*map(prompts.plain, looks.STYLES), "inverted")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory):
    return write_vlm(tmp_path_factory.mktemp("vlm"))


def test_a_local_model_tells_the_style_of_a_picture(vlm):
    describe = Describer(vlm, device="cpu")
    one, two = (describe(scene(40, 40, seed)) for seed in (0, 0))
    assert one == two
    words = set(" ".join(WORDS).replace(";", " ").split())
    assert one and set(one.replace(",", " ").split()) <= words
    assert ";" not in one and len(one) <= 200


def test_only_what_has_no_prompt_is_described_and_each_look_once(source):
    asked = []

    def describe(picture):
        asked.append(picture)
        return f"style {len(asked)}"

    rng = np.random.default_rng(0)
    told = Described(Procedural(canonical=1.0, hurried=0.0), describe, share=1.0)
    assert all("style " not in told.make(source, rng).prompt for _ in range(4)) and not asked
    look = looks.canonical("woodcut")

    class Same:
        def make(self, source, rng):
            return Pair(source, look(source), "", "x", look)

    class Nameless:
        def make(self, source, rng):
            return Pair(source, source, "", "x")

    once = Described(Same(), describe, share=1.0)
    assert {once.make(source, rng).prompt for _ in range(3)} == {"style 1"}
    each = Described(Nameless(), describe, share=1.0)
    assert [each.make(source, rng).prompt for _ in range(2)] == ["style 2", "style 3"]
    half = Described(Nameless(), describe, share=0.5)
    assert 8 <= sum(not half.make(source, rng).prompt for _ in range(32)) <= 24


def test_an_answer_becomes_one_phrasing():
    assert tidied('"Soft ink;\n dark lines."') == "Soft ink, dark lines"
    assert len(tidied("word " * 100)) <= 200


def test_a_folder_that_holds_no_model_is_named(tmp_path):
    with pytest.raises(WeightsError, match="not a vision-language model"):
        Describer(tmp_path)
