"""Frames that are handled as they arrive, and frames that wait for the reader: in one order, within one set of bounds."""

import asyncio
import contextlib
import time

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from adapters.ocpp.direct import StationConnection
from adapters.ocpp.reader import FRAME_BURST, FRAME_RATE, StationReader
from tests.adapters.ocpp_peers import until


class Read:
    """What a reader handed over, in order, and what it told."""

    def __init__(self):
        self.texts, self.told, self.over = [], [], asyncio.Event()

    async def handle(self, socket):
        tell = lambda code, who, text: self.told.append((code, text))  # noqa: E731 - twice below
        await StationReader("S1", time.monotonic, self.texts.append, tell, tell).run(socket)
        self.over.set()


@contextlib.asynccontextmanager
async def reading():
    read = Read()
    async with serve(
        read.handle, "127.0.0.1", 0, create_connection=StationConnection, max_size=1 << 20, close_timeout=1
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", proxy=None, close_timeout=1) as peer:
            yield read, peer


async def test_whole_and_fragmented_frames_keep_their_order():
    async with reading() as (read, peer):
        sent = []
        for turn in range(40):
            for text in (f"{turn} whole", f"{turn} and whole again"):
                await peer.send(text)
                sent.append(text)
            await peer.send([f"{turn} in ", "three ", "parts"])
            sent.append(f"{turn} in three parts")
        await until(lambda: len(read.texts) == len(sent))
        assert read.texts == sent


async def test_one_segment_of_many_frames_keeps_its_order():
    """What is sent with one write arrives in one step: nothing whole overtakes the end of what is in parts."""
    async with reading() as (read, peer):
        peer.protocol.send_text(b"first")
        peer.protocol.send_text(b"in ", fin=False)
        peer.protocol.send_continuation(b"parts", fin=True)
        peer.protocol.send_text(b"last")
        peer.transport.write(b"".join(peer.protocol.data_to_send()))
        await until(lambda: len(read.texts) == 3)
        assert read.texts == ["first", "in parts", "last"]


async def test_a_flood_is_slowed_and_keeps_its_order():
    async with reading() as (read, peer):
        count = int(FRAME_BURST) + 40
        began_s = time.monotonic()
        for number in range(count):
            peer.protocol.send_text(str(number).encode())
        peer.transport.write(b"".join(peer.protocol.data_to_send()))
        await until(lambda: len(read.texts) >= FRAME_BURST)
        assert len(read.texts) <= FRAME_BURST + 1 + (time.monotonic() - began_s) * FRAME_RATE
        await until(lambda: len(read.texts) == count)
        assert read.texts == [str(number) for number in range(count)]
        assert {code for code, _ in read.told} == {"station_flood"}


@pytest.mark.parametrize(
    ("frame", "code", "said"),
    [
        (Frame(Opcode.TEXT, b'[2,"\xff"]'), 1007, "invalid start byte"),
        (Frame(Opcode.BINARY, b"[]"), 1003, "a binary frame"),
        (Frame(Opcode.TEXT, b" " * ((1 << 20) + 1)), 1009, "exceeds limit"),
    ],
)
async def test_what_is_no_text_of_ours_ends_the_connection(frame, code, said):
    async with reading() as (read, peer):
        await peer.send("before")
        peer.protocol.send_frame(frame)
        peer.send_data()
        peer.protocol.send_text(b"after")
        with contextlib.suppress(OSError):
            peer.send_data()
        with pytest.raises(ConnectionClosed):
            await peer.recv()
        assert peer.close_code == code
        await read.over.wait()
        assert read.texts == ["before"]
        assert [told for told, _ in read.told] == ["bad_frame"]
        assert said in read.told[0][1]
