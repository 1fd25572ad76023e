"""Whole text frames, read and written beside the library: byte for byte as the library does it, however they are cut up."""

import asyncio
import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from adapters.ocpp.direct import StationConnection
from adapters.ocpp.reader import StationReader
from adapters.ocpp.wire import put, text_frame, whole_text
from tests.adapters.ocpp_peers import until

SIZES = st.sampled_from([0, 1, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 70_000])
TEXTS = st.one_of(st.text(), SIZES.map(lambda size: "x" * size), SIZES.map(lambda size: "é" * (size // 2)))


def library(*, server):
    protocol = ServerProtocol() if server else ClientProtocol(parse_uri("ws://x/"))
    protocol.state = State.OPEN
    protocol.parser = super(type(protocol), protocol).parse()
    next(protocol.parser)
    return protocol


@given(TEXTS, st.booleans())
def test_what_is_written_is_a_frame_of_the_library(text, masked):
    reader = library(server=masked)
    reader.receive_data(text_frame(text.encode(), masked=masked))
    assert reader.events_received() == [Frame(Opcode.TEXT, text.encode(), fin=True)]


@given(TEXTS, st.booleans())
def test_what_the_library_writes_is_read_or_left_to_it(text, masked):
    writer = library(server=not masked)
    writer.send_text(text.encode())
    [data] = writer.data_to_send()
    assert whole_text(data, masked=masked) == (text if len(text.encode()) < 1 << 16 else None)
    assert whole_text(data, masked=not masked) is None
    assert whole_text(data + b"\x81", masked=masked) is None
    for cut in {0, 1, 2, 3, 5, len(data) - 1}:
        if cut < len(data):
            assert whole_text(data[:cut], masked=masked) is None


@given(st.binary(max_size=200), st.booleans())
def test_nothing_else_is_taken_for_a_text(data, masked):
    with contextlib.suppress(UnicodeDecodeError):
        text = whole_text(data, masked=masked)
        if text is not None:
            reader = library(server=masked)
            reader.receive_data(data)
            assert reader.events_received() == [Frame(Opcode.TEXT, text.encode(), fin=True)]


class Heard:
    """What a station's connection handed over, directly and through its reader."""

    def __init__(self):
        self.texts, self.told = [], []
        self.socket = None

    async def handle(self, socket):
        self.socket = socket
        tell = lambda *words: self.told.append(words)  # noqa: E731 - twice below
        await StationReader("S1", time.monotonic, self.texts.append, tell, tell).run(socket)


@contextlib.asynccontextmanager
async def hearing(**options):
    heard = Heard()
    async with serve(
        heard.handle, "127.0.0.1", 0, create_connection=StationConnection, max_size=1 << 20, close_timeout=1
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", proxy=None, close_timeout=1, **options) as peer:
            yield heard, peer


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 50, 129, 1000, 100_000])
async def test_frames_in_pieces_of_any_size_arrive_once_and_in_order(piece):
    texts = [f"{n} " + "x" * (n * 37 % 400) for n in range(60)]
    async with hearing(compression=None) as (heard, peer):
        stream = b""
        for n, text in enumerate(texts):
            stream += text_frame(text.encode(), masked=True)
            if n % 10 == 5:
                peer.protocol.send_ping(b"now")
                stream += b"".join(peer.protocol.data_to_send())
            if n % 10 == 8:
                peer.protocol.send_text(b"in ", fin=False)
                peer.protocol.send_continuation(b"parts", fin=True)
                stream += b"".join(peer.protocol.data_to_send())
        due = [t for n, text in enumerate(texts) for t in ([text, "in parts"] if n % 10 == 8 else [text])]
        for at in range(0, len(stream), piece):
            peer.transport.write(stream[at : at + piece])
            if piece > 1 or at % 40 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(heard.texts) == len(due), 20)
        assert heard.texts == due
        assert heard.told == []


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_what_is_put_arrives_compressed_or_not(compression):
    deflate = [ClientPerMessageDeflateFactory()] if compression else None
    async with hearing(compression=None, extensions=deflate) as (heard, peer):
        await until(lambda: heard.socket is not None)
        for size in (1, 125, 126, 70_000):
            put(heard.socket, "é" * size)
            assert await peer.recv() == "é" * size


async def test_text_in_the_middle_of_a_message_in_parts_closes_the_connection():
    async with hearing(compression=None) as (heard, peer):
        peer.protocol.send_text(b"in ", fin=False)
        peer.send_data()
        await asyncio.sleep(0.05)
        peer.transport.write(text_frame(b"between", masked=True))
        await peer.wait_closed()
        assert peer.close_code == 1002
        assert heard.texts == []


async def test_a_whole_frame_that_is_no_utf_8_closes_the_connection():
    async with hearing(compression=None) as (heard, peer):
        peer.transport.write(text_frame(b"\xff\xfe", masked=True))
        await peer.wait_closed()
        assert peer.close_code == 1007
        assert heard.texts == []
