"""The body of a request between the socket and h11: how it is framed, how much of it is accepted, its chunks.

h11 receives heads and complete bodies only. Its parser takes about ten microseconds for a chunk, so a body of a million
chunks would hold up every other client; here a body costs no more than its bytes, and a refused one is not parsed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from vitlab.serve.answers import Gone, Refusal

HEAD_END = re.compile(rb"\n\r?\n")  # where h11 ends a head
FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
STRAY = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0|\r\n[ \t]")  # line ends that programs read in different ways, folded lines
LENGTH = re.compile(rb"[0-9]{1,20}")
MOST_HEADERS = 100
CHUNK = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[^\r\n]*)?\r\n")
LONGEST_CHUNK_LINE = 64
FREE_CHUNKS = 64  # beyond them, a chunk must have CHUNK_BYTES on average
CHUNK_BYTES = 256
LAST = b"0\r\n\r\n"
SMALL_CHUNKS = "the request body comes in too many small chunks; send it with a Content-Length"


class Body:
    """A body that is arriving: kept unread until `read`, then collected, or thrown away after `drain`.

    ``length`` is that of the Content-Length header, None for a body in chunks.
    """

    def __init__(self, length: int | None, most_discarded: int, advance: Callable[[], None]) -> None:
        self.length, self.most_discarded, self.advance = length, most_discarded, advance
        self.data = bytearray()
        self.count: Callable[[int], None] = lambda size: None  # called with the size of each piece; may raise a Refusal
        self.most = 0
        self.is_open = self.is_shut = self.is_complete = self.is_gone = False
        self.changed = asyncio.Event()  # it is complete or faulty, or the client left
        self.fault: Refusal | None = None
        self.chunks = self.left = self.discarded = 0  # left: of the chunk that is arriving
        self.is_end_due = self.is_last = False  # of a chunk; the last chunk

    async def read(self, most: int, count: Callable[[int], None]) -> None:
        """Return when it is complete; Refusal with 413 above ``most`` bytes, with 400 for what is not chunks; Gone."""
        self.most, self.count, self.is_open = most, count, True
        self.advance()
        await self.changed.wait()
        if self.fault is not None:
            raise self.fault
        if self.is_gone:
            raise Gone

    async def drain(self, seconds: float) -> None:
        """Throw away what still comes, until all has come: closing a connection while bytes are unread resets it, and
        the client would never see why it was refused."""
        self.is_shut = True
        self.data.clear()
        self.changed.clear()
        self.advance()
        try:
            async with asyncio.timeout(seconds):
                if not self.is_gone:
                    await self.changed.wait()
        except TimeoutError:
            return

    def leave(self) -> None:
        """The connection is lost."""
        self.is_gone = True
        self.changed.set()

    def take(self, received: bytearray) -> None:
        """Remove from ``received`` what belongs to the body, and keep it; or throw everything away."""
        if self.is_shut or self.fault is not None:
            self._discard(received)
            return
        try:
            if self.length is None:
                self._take_chunks(received)
            else:
                self._keep(received, 0, self.length - len(self.data))
                self.is_complete = len(self.data) == self.length
        except Refusal as refusal:
            self.fault = refusal
        if self.is_complete or self.fault is not None:
            self.changed.set()

    def _keep(self, received: bytearray, start: int, most: int) -> int:
        """Keep up to ``most`` bytes from ``start``; how many they are."""
        piece = received[start : start + most]
        if self.length is not None:
            del received[:most]
        self.data += piece
        self.count(len(piece))
        return len(piece)

    def _take_chunks(self, received: bytearray) -> None:
        """Chunks without extensions that are long, and without trailers (RFC 9112, 7.1)."""
        position = 0
        while not self.is_complete:
            if self.left:
                size = self._keep(received, position, self.left)
                position, self.left = position + size, self.left - size
                if self.left:
                    break
            if self.is_end_due:
                end = received[position : position + 2]
                if not b"\r\n".startswith(end):
                    raise Refusal(400)
                if len(end) < 2:
                    break
                position, self.is_end_due, self.is_complete = position + 2, False, self.is_last
                continue
            line = CHUNK.match(received, position, position + LONGEST_CHUNK_LINE)
            if line is None:
                rest = received[position : position + LONGEST_CHUNK_LINE]
                if len(rest) == LONGEST_CHUNK_LINE or b"\n" in rest:
                    raise Refusal(400)
                break
            position = line.end()
            self._begin_chunk(int(line[1], 16))
        del received[:position]

    def _begin_chunk(self, size: int) -> None:
        self.chunks += 1
        if len(self.data) + size > self.most:
            raise Refusal(413)
        if self.chunks > FREE_CHUNKS + len(self.data) // CHUNK_BYTES:
            raise Refusal(413, SMALL_CHUNKS)
        self.left, self.is_end_due, self.is_last = size, True, size == 0

    def _discard(self, received: bytearray) -> None:
        self.discarded += len(received)
        is_end = received.endswith(LAST) if self.length is None else self.discarded >= self.length
        received.clear()
        if is_end or self.discarded > self.most_discarded:
            self.changed.set()

    def for_h11(self) -> bytes:
        """The complete body as h11 expects it: chunks have become one."""
        if self.length is not None or not self.data:
            return bytes(self.data) if self.data else LAST
        return b"%x\r\n%b\r\n%b" % (len(self.data), bytes(self.data), LAST)


def framing(head: bytes) -> tuple[bool, int | None]:
    """Whether a request has a body, and its length (None: in chunks); Refusal with 400 for a head that another program
    might read in another way: lengths that contradict each other or chunks, folded lines, stray ends of lines."""
    if head.count(b"\n") > MOST_HEADERS + 2 or STRAY.search(head):
        raise Refusal(400)
    fields = [(name.lower(), value) for name, value in FRAMING.findall(head)]
    if not fields:
        return False, 0
    if len(fields) > 1:
        raise Refusal(400)
    name, value = fields[0]
    if name == b"transfer-encoding":
        if value.lower() != b"chunked" or not head.partition(b"\r\n")[0].endswith(b"HTTP/1.1"):
            raise Refusal(400)
        return True, None
    if not LENGTH.fullmatch(value):
        raise Refusal(400)
    return int(value) > 0, int(value)
