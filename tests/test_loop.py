"""What the event loop says of TLS peers that are cut off: nothing, for whoever used the connection tells it."""

import asyncio
import logging
import socket
import ssl
import struct
import time

import trustme
import uvloop

from cem.loop import quieten


class Faulty(asyncio.Protocol):
    """Its data are handled wrongly."""

    def connection_made(self, transport):
        transport.write(b"hello")

    def data_received(self, data):
        raise LookupError("a fault of ours")


class Chatty(asyncio.Protocol):
    """Goes on writing to a peer that is gone."""

    def __init__(self, loop):
        self.loop, self.over = loop, loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        for _ in range(20):
            self.transport.write(b"x" * 100_000)

    def connection_lost(self, problem):
        for _ in range(20):
            self.transport.write(b"and more")
        self.over.set_result(None)


def over_tls(caplog, protocol):
    """A peer that sends a word and resets the connection."""
    authority = trustme.CA()
    serving, dialing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(dialing)

    def peer(port):
        raw = socket.create_connection(("127.0.0.1", port))
        with dialing.wrap_socket(raw, server_hostname="127.0.0.1") as cut:
            cut.sendall(b"a word")
            time.sleep(0.2)  # a reset drops what was not read yet
            cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def run():
        loop = asyncio.get_running_loop()
        quieten(loop)
        server = await loop.create_server(lambda: protocol(loop), "127.0.0.1", 0, ssl=serving)
        await asyncio.to_thread(peer, server.sockets[0].getsockname()[1])
        await asyncio.sleep(0.1)
        closed = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
        loop.call_exception_handler({"message": "Fatal error on SSL protocol", "exception": closed})
        server.close()

    with caplog.at_level(logging.WARNING):
        uvloop.run(run())
    return caplog.text


def test_a_peer_that_is_cut_off_leaves_no_trace(caplog):
    assert over_tls(caplog, Chatty) == ""


def test_a_fault_of_our_own_is_told(caplog):
    assert "a fault of ours" in over_tls(caplog, lambda _loop: Faulty())
