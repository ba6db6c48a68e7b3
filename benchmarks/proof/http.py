"""Malformed requests over raw sockets: the server refuses or closes; it never fails, hangs or tells its inside."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from benchmarks.proof.context import Context, Figures, figures
from benchmarks.proof.serving import MARK, PIXELS, exchange, fault_in, is_well, request, served, statuses

METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "BREW", "get", "", "G\0T")
PATHS = (
    "/", "/v1/predict", "/v1/model", "/livez", "/readyz", "/metrics", "/openapi.json", "/models.json", "/docs", "//",
    "*", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/models/../../result.json", "/models/%00",
    "/v1/predict?top=", "/v1/predict?top=99999999999999999999", "/v1/predict?model=../..",
    "/v1/predict?center=maybe&center=true", "/\xff\xfe", "http://evil.example/v1/predict",
    "/v1/predict?" + "a=1&" * 500, "/" + "a" * 9000, "/v1/predict#x", "/;/", "/%",
)  # fmt: skip
NAMES = (
    "Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Content-Encoding", "Expect", "Connection",
    "Origin", "Cookie", "Authorization", "Range", "If-None-Match", "Upgrade", "X-" + "y" * 300, "Bad Name", "", "\0",
)  # fmt: skip
VALUES = (
    "", "0", "-1", "1e9", "18446744073709551616", "99999999999999999999999", "chunked", "chunked, chunked", "gzip",
    "identity", "100-continue", "close", "keep-alive", "application/json", "image/png",
    "multipart/form-data; boundary=x", "text/html", "\0", "\x7f\x80", "a" * 20_000, "bytes=0-1", "websocket",
    "Bearer ", "vitlab=;;;\"", "null", "\r\n X: y", "5, 5",
)  # fmt: skip
BODIES = (
    b"", PIXELS, b"{", b"[" * 50_000, b'{"pixels": NaN}', b'{"pixels": [[NaN]]}', b'{"pixels": [[1e999]]}',
    b'{"pixels": [[' + b"9" * 6000 + b"]]}", b'{"pixels": []}', b'{"pixels": [[]]}', b'{"pixels": [[1],[1,2]]}',
    b'{"pixels": [["' + MARK + b'"]]}', b'{"' + MARK + b'": 1}', b'{"pixels": {"a": 1}}', b'{"pixels": [[256]]}',
    b'{"pixels": [[-1]]}', b'{"pixels": [[0.5]]}', b'{"pixels": [[null]]}', b"\xff\xfe\x00" * 99,
    b"\x89PNG\r\n\x1a\n" + MARK, b"\xff\xd8\xff" + MARK * 9, b"GIF89a" + MARK, b"BM" + MARK, b"PK\x03\x04" + MARK,
    b"<svg>" + MARK, b"%PDF-1.4" + MARK, b'{"pixels": [[0,0],[0,0]], "pixels": 1}', b'"' + MARK + b'"', b"1" * 5000,
    b'{"pixels": "\\ud800"}',
)  # fmt: skip


def malformed(draw: random.Random, port: int) -> bytes:
    """One request, wrong in some way."""
    kind = draw.randrange(7)
    body = draw.choice(BODIES)
    if kind == 0:  # not HTTP at all
        return bytes(draw.randrange(256) for _ in range(draw.randint(1, 400)))
    if kind == 1:  # a good request with bytes changed
        data = bytearray(request(port, body=body))
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        return bytes(data)
    if kind == 2:  # a body that is no picture
        types = ("application/json", "image/png", "image/jpeg", "text/plain", "")
        return request(port, path=draw.choice(PATHS[:3]), body=body, Content_Type=draw.choice(types))
    if kind == 3:  # odd chunks
        sizes = (
            f"{len(body):x}",
            "FFFFFFFF",
            "-1",
            "",
            "zz",
            "1;" + "x" * draw.randint(0, 5000),
            "0",
            "7fffffffffffffff",
        )
        parts = b"".join(
            draw.choice(sizes).encode() + b"\r\n" + body[:2000] + draw.choice((b"\r\n", b"", b"\n"))
            for _ in range(draw.randint(1, 20))
        )
        end = draw.choice((b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b""))
        return request(port, body=b"", Transfer_Encoding="chunked", Content_Length="") + parts + end
    if kind == 4:  # a lying length
        length = draw.choice((0, 1, len(body) + 1, len(body) + 1000, 1 << 20, (1 << 20) + 1, 1 << 62))
        return request(port, body=body, Content_Length=str(length))
    if kind == 5:  # several requests at once
        return b"".join(
            request(port, body=draw.choice(BODIES), Connection="keep-alive") for _ in range(draw.randint(2, 20))
        )
    host = f"Host: 127.0.0.1:{port}" if draw.random() < 0.7 else f"Host: {draw.choice(VALUES)}"
    lines = [f"{draw.choice(METHODS)} {draw.choice(PATHS)} {draw.choice(('HTTP/1.1', 'HTTP/1.0', 'HTTP/9', ''))}", host]
    lines += [f"{draw.choice(NAMES)}: {draw.choice(VALUES)}" for _ in range(draw.choice((1, 2, 5, 200)))]
    lines.append(f"X-Mark: {MARK.decode()}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def attack(context: Context) -> Figures:
    """Thousands of them from sixteen threads; then the server must be well, with nothing in its log."""
    draws = [random.Random(f"{context.seed}-http-{number}") for number in range(context.size(8000, 250))]
    seen: Counter[str] = Counter()
    with served(context) as (server, port), ThreadPoolExecutor(16) as pool:

        def send(draw: random.Random) -> str:
            if context.is_over:
                return "over"
            data = malformed(draw, port)
            received = exchange(port, data, half_close=draw.random() < 0.98)
            seen.update([*map(str, statuses(received or b"")[:1])] or ["closed"])
            wrong = fault_in(received)
            return wrong and f"{wrong}, request {data[:60]!r}"

        found = [line for line in pool.map(send, draws) if line != "over"]
        found.append(is_well(port))
        code = server.stop()
        log = [line for line in server.lines if "Traceback" in line or "failed:" in line]
        found.append(f"log: {log[0][:100]}" if log else "")
        found.append(f"exit {code}: after the attack" if code else "")
    return figures(found, len(found), statuses=dict(sorted(seen.items())))
