"""Workflows fit the nodes: whatever is saved in them means what it meant."""

import json
import uuid

import pytest

from tests.nodes import stub

WORKFLOWS = sorted((stub.ROOT / "workflows").glob("*.json"))
PROJECT = (stub.ROOT / "pyproject.toml").read_text(encoding="utf-8")
CONTROL = "fixed"  # stands after a seed that may change by itself


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request):
    return read(request.param)


def ours(workflow):
    return [node for node in workflow["nodes"] if node["type"].startswith("RTR")]


def test_its_nodes_are_there_and_lead_to_where_they_can_be_installed(workflow, nodes):
    assert {node["type"] for node in ours(workflow)} <= set(nodes)
    for node in ours(workflow):
        assert f'\nname = "{node["properties"]["cnr_id"]}"\n' in PROJECT
        assert node["properties"]["Node name for S&R"] == node["type"]


def test_its_widgets_are_those_of_the_node_in_order(workflow, nodes):
    for node in ours(workflow):
        values = list(node["widgets_values"])
        for given in nodes[node["type"]].define_schema().inputs:
            if not given.is_widget:
                continue
            value = values.pop(0)
            if given.kind == "Combo":
                known = given.told["options"]
                assert value in known or "models" in node["properties"], (node["type"], given.id)
            else:
                assert isinstance(value, type(given.told.get("default", value))), given.id
            if given.told.get("control_after_generate"):
                assert values.pop(0) == CONTROL
        assert values == [], node["type"]


def test_its_wires_join_inputs_and_outputs_that_are_there(workflow, nodes):
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for number, source, out, target, slot, kind in workflow["links"]:
        assert by_id[source]["outputs"][out]["type"] == kind
        assert number in by_id[source]["outputs"][out]["links"]
        assert by_id[target]["inputs"][slot]["link"] == number
    for node in ours(workflow):
        schema = nodes[node["type"]].define_schema()
        assert {given["name"] for given in node["inputs"]} == {g.id for g in schema.inputs}
        names = [out.told["display_name"] for out in schema.outputs]
        assert [out["name"] for out in node["outputs"]] == names


def test_files_that_it_needs_are_named_with_where_to_get_them(workflow):
    for node in workflow["nodes"]:
        for model in node["properties"].get("models", ()):
            assert model["name"] in node["widgets_values"] and model["url"].endswith(model["name"])
            assert model["directory"] in ("diffusion_models", "text_encoders", "vae")


def test_each_has_an_id_and_a_picture_of_its_own():
    ids = [uuid.UUID(read(path)["id"]) for path in WORKFLOWS]
    assert len(set(ids)) == len(WORKFLOWS) == 6
    assert all(path.with_suffix(".jpg").is_file() for path in WORKFLOWS)
