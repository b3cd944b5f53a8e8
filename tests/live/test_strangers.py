"""Whatever a stranger sends: no crash, no hang, no session leaked, each refused with a reason."""

import asyncio
import json
import random
import struct

import pytest

pytest.importorskip("aiohttp", reason="no aiohttp to serve the live page with")

from rtr_core.live import wire
from rtr_core.live.images import decoded_frame, decoded_reference
from rtr_core.live.wire import Picture, Reference, Refused, framed, read
from rtr_core.shapes import Size
from tests.live.performer import picture, serving
from tests.live.test_server import stage_of

GOOD = [
    json.dumps({"do": "begin", "width": 96, "height": 64, "style": {"chip": 0}}),
    json.dumps({"do": "style", "style": {"prompt": "oil", "strength": 0.5}, "fade": 4}),
    json.dumps({"do": "style", "style": {"reference": "r1"}}),
    json.dumps({"do": "record", "on": False}),
    json.dumps({"do": "offer", "sdp": "v=0"}),
    framed(12.5, picture()),
    framed(13.5, picture(1, form="WEBP")),
    bytes([wire.REFERENCE]) + picture(2, 40, 40, "PNG"),
]
WORDS = ["null", "-1", "1e999", "NaN", "{}", "[]", '"\\u0000"', "true", "99999999999", '"' * 3]


def mutated(rng: random.Random) -> str | bytes:
    """A good message with something wrong in it, or right by chance."""
    message = rng.choice(GOOD)
    if isinstance(message, str):
        kind = rng.randrange(4)
        if kind == 0:
            said = json.loads(message)
            said[rng.choice([*said, "do"])] = json.loads(rng.choice(["null", "-1", "{}", '"x"']))
            return json.dumps(said)
        if kind == 1:
            return message[: rng.randrange(len(message))]
        at = rng.randrange(len(message))
        return message[:at] + rng.choice(WORDS) + message[at + rng.randrange(3) :]
    data = bytearray(message)
    for _ in range(rng.choice((1, 3, 40))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    kind = rng.randrange(4)
    if kind == 0:
        del data[rng.randrange(len(data)) :]
    if kind == 1:
        data += rng.randbytes(rng.randrange(300))
    return bytes(data)


def test_two_thousand_mutated_messages_are_read_or_refused_with_a_reason():
    rng, refused = random.Random(0), 0
    for _ in range(2000):
        try:
            said = read(mutated(rng))
            if isinstance(said, Picture):
                decoded_frame(said.data, Size(64, 96))
            if isinstance(said, Reference):
                decoded_reference(said.data)
        except Refused as error:
            refused += 1
            assert error.what in ("frame", "style", "reference", "message", "begin", "record")
            assert len(str(error)) > 15
    assert refused > 1000


def test_a_server_outlives_strangers_and_serves_the_next_page(stylizer):
    rng = random.Random(1)

    async def work():
        async with serving(stage_of(stylizer)) as server:
            for _ in range(6):
                page = await server.performer()
                await page.begin()
                for _ in range(30):
                    if page.socket.closed:
                        break
                    message = mutated(rng)
                    send = (
                        page.socket.send_str
                        if isinstance(message, str)
                        else (page.socket.send_bytes)
                    )
                    await send(message)
                await page.socket.close()
            while server.stage.viewers or server.stage._leaving:
                await asyncio.sleep(0.01)
            page = await server.performer()
            await page.begin()
            await page.played(5)
            await page.until(lambda: len(page.frames) == 5)

    asyncio.run(asyncio.wait_for(work(), 120))


def test_more_messages_a_second_than_a_page_sends_are_refused_and_end_in_a_closed_socket(stylizer):
    async def work():
        async with serving(stage_of(stylizer)) as server:
            page = await server.performer()
            for _ in range(wire.MOST_A_SECOND + 200):
                if page.socket.closed:
                    break
                await page.frame(b"not looked at before its turn comes")
            await page.until(lambda: page.socket.closed)
            assert any("messages" in said["why"] for said in page.all("refused"))

    asyncio.run(asyncio.wait_for(work(), 60))


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "neither"),
        (b"\x07" + b"x" * 40, "neither"),
        (struct.pack("<Bd", 1, float("nan")) + b"x", "milliseconds"),
        (bytes([1]) + b"\0" * (wire.MOST_FRAME + 1), "smaller one"),
        (bytes([2]) + b"\0" * (wire.MOST_REFERENCE + 1), "file of up to"),
        ("x" * (wire.MOST_TEXT + 1), "characters"),
        ("[" * 100_000, "characters"),
        ('{"do": "begin", "width": true, "height": 4, "style": {"chip": 0}}', "width is"),
        ('{"do": "style", "style": {"prompt": "a\\u0000b"}}', "mean nothing"),
        ('{"do": "style", "style": {"prompt": 7}}', "prompt is a text"),
    ],
)
def test_what_is_too_large_or_of_another_kind_is_named(message, why):
    with pytest.raises(Refused, match=why):
        read(message)


def test_a_small_file_that_claims_a_huge_picture_is_refused_before_it_is_decoded():
    header = picture(0, 8, 8, "PNG")
    bomb = header[:16] + struct.pack(">II", 60_000, 60_000) + header[24:]
    with pytest.raises(Refused, match=r"too large|no image"):
        decoded_reference(bomb)
