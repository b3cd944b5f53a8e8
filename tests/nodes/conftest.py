"""The pack, loaded where there is no host."""

import asyncio
import sys

import pytest

from tests.nodes import stub


@pytest.fixture(scope="session")
def pack(tmp_path_factory):
    before = dict(sys.modules)
    folder = tmp_path_factory.mktemp("host")
    sys.modules.update(stub.modules(folder))
    try:
        yield stub.load(folder)
    finally:
        ours = (str(folder).replace(".", "_x_"), "comfy", "folder_paths", "server")
        for name in set(sys.modules) - set(before):
            if name.startswith(ours):
                del sys.modules[name]


@pytest.fixture(scope="session")
def nodes(pack):
    """Node classes by their ids."""

    async def listed():
        return await (await pack.comfy_entrypoint()).get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(listed())}


@pytest.fixture(scope="session")
def convert(pack):
    return sys.modules[f"{pack.__name__}.nodes.convert"]
