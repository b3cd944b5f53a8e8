"""What the pack says of itself, and that loading it touches nothing."""

import re
import socket

import pytest
import torch

from tests.nodes import stub

HELP = stub.ROOT / "nodes" / "web" / "docs"
IDS = {
    "RTRLoadModel",
    "RTRStyle",
    "RTRCueSheet",
    "RTRMixStyles",
    "RTRStylizeText",
    "RTRStylizeReference",
    "RTRStylizeVideo",
    "RTRStylizeFolder",
    "RTRStream",
    "RTRSwitchStyle",
    "RTRSession",
    "RTRLive",
    "RTRSample",
}


@pytest.fixture(scope="session")
def schemas(nodes):
    return {name: node.define_schema() for name, node in nodes.items()}


def test_ids_are_for_ever(schemas):
    assert set(schemas) == IDS


def test_loading_needs_no_network_and_changes_nothing_about_torch(tmp_path, pack, monkeypatch):
    def facts():
        return (
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.backends.cudnn.benchmark,
            torch.are_deterministic_algorithms_enabled(),
            torch.random.get_rng_state().tolist(),
        )

    def refused(*_, **__):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "socket", refused)
    before = facts()
    assert stub.load(tmp_path).WEB_DIRECTORY == "nodes/web" and facts() == before


def test_every_input_has_a_tooltip_that_is_a_sentence(schemas):
    for name, schema in schemas.items():
        assert schema.description.endswith("."), name
        for given in schema.inputs:
            tooltip = given.told.get("tooltip", "")
            assert re.match(r"[A-Z0-9].*\.$", tooltip) or tooltip[:1].islower(), (name, given.id)
            assert tooltip.endswith(".") and len(tooltip) > 10, (name, given.id)


def test_inputs_are_told_apart_and_required_ones_come_first(schemas):
    for name, schema in schemas.items():
        ids = [given.id for given in schema.inputs]
        assert len(set(ids)) == len(ids), name
        optional = [bool(given.told.get("optional")) for given in schema.inputs]
        assert optional == sorted(optional), name
        assert all(out.told.get("display_name") for out in schema.outputs), name


def test_every_node_has_a_help_page_with_a_picture_that_names_its_inputs(schemas):
    assert {path.stem for path in HELP.glob("*.md")} == IDS
    for name, schema in schemas.items():
        text = (HELP / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {schema.display_name}\n")
        assert f"({name}.jpg)" in text and (HELP / f"{name}.jpg").is_file()


def test_a_schema_leaves_out_what_this_host_does_not_know(schemas):
    assert not any("search_aliases" in vars(schema) for schema in schemas.values())


def test_what_keeps_state_is_never_served_from_a_cache(nodes):
    for name in ("RTRStream", "RTRSwitchStyle", "RTRSession", "RTRLive", "RTRStylizeFolder"):
        first, second = (nodes[name].fingerprint_inputs() for _ in range(2))
        assert first != first and first is not second, name


def test_only_seeds_of_single_takes_may_change_by_themselves(schemas):
    """A seed that changed between two runs would begin a broken job, or a stream, anew."""
    changing = {
        name
        for name, schema in schemas.items()
        for given in schema.inputs
        if given.id == "seed" and given.told["control_after_generate"]
    }
    assert changing == {"RTRStylizeText", "RTRStylizeReference"}


def test_a_sheet_and_a_name_that_cannot_be_read_are_refused_before_anything_runs(nodes):
    assert nodes["RTRCueSheet"].validate_inputs(sheet="00:00 ink") is True
    assert "cue sheet:1" in nodes["RTRCueSheet"].validate_inputs(sheet="ink")
    for name in ("RTRStream", "RTRSession"):
        assert nodes[name].validate_inputs(session_name="night") is True
        assert "no slashes" in nodes[name].validate_inputs(session_name="../night")
