"""How a server starts and ends: the first signal answers what was accepted, the second ends at once."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from benchmarks.serve_clients import Wire, predict_request
from benchmarks.serve_process import ServerProcess, stop_under_load
from tests.command import vitlab
from tests.serving import pictures, train_tiny, wait_for
from vitlab.predict import Classifier


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    """A classifier of 8 x 8 bars with its run folder."""
    return train_tiny(tmp_path_factory.mktemp("stopping"))


def stop_and_check(server: ServerProcess, requests: list[bytes], clients: int, signum: int) -> None:
    """Stop a server under load; everything that it accepted must have its answer."""
    code, tally, seconds = stop_under_load(server.port(), server, requests, clients, 0.4, signum)
    assert code == 0, server.lines
    assert tally.unanswered == []
    assert tally.refused_connections == clients, "each saw in the end that nobody listens"
    assert {status for *_, status in tally.answers} == {200}
    assert len(tally.answers) >= clients
    assert seconds < 8
    assert server.lines[-1] == "stopped; every accepted request was answered"


def test_it_says_what_it_serves_and_sigterm_under_load_loses_nothing(tiny: Classifier) -> None:
    with ServerProcess(str(tiny.path)) as server:
        port = server.port()
        said = "\n".join(server.lines)
        assert f"model run: {100 * tiny.result['test_top1']:.2f} % on test images, SHA-256 {tiny.digest}" in said
        assert "1 thread per model" in said
        assert server.lines[-1] == f"serving at http://127.0.0.1:{port}/"
        began = time.monotonic()
        taken = vitlab(f"serve {tiny.path} --port {port}")
        assert time.monotonic() - began < 2
        line = f"vitlab: port {port} of 127.0.0.1 is in use by another program; choose another --port"
        assert (taken.code, taken.error) == (2, line)
        stop_and_check(server, [predict_request(port, data) for data in pictures(13)], 29, signal.SIGTERM)


def test_a_token_opens_a_server_for_others_and_ctrl_c_under_load_loses_nothing(tiny: Classifier) -> None:
    with ServerProcess(str(tiny.path), "--host", "0.0.0.0", VITLAB_TOKEN="0123456789abcdef") as server:
        port = server.port()
        assert "0123456789abcdef" not in "\n".join(server.lines)
        request = predict_request(port, pictures(1)[0])
        wire = Wire(port)
        assert wire.ask(request)[0] == 401
        wire.close()
        bearer = request.replace(b"\r\n", b"\r\nAuthorization: Bearer 0123456789abcdef\r\n", 1)
        stop_and_check(server, [bearer], 7, signal.SIGINT)


def test_a_second_signal_ends_it_at_once_and_a_quiet_connection_does_not_hold_it(tiny: Classifier) -> None:
    with ServerProcess(str(tiny.path)) as server:
        port = server.port()
        quiet, half = Wire(port), socket.create_connection(("127.0.0.1", port))
        half.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")  # 403, and lingers
        assert quiet.ask(predict_request(port, pictures(1)[0]))[0] == 200
        half.close()
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(predict_request(port, pictures(1)[0])[:-1])  # accepted, and the last byte never comes
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: any(line.startswith("stopping") for line in server.lines))
        time.sleep(1.5)  # longer than the quiet connection is given
        assert server.process.poll() is None, "it waits for the slow one"
        began = time.monotonic()
        assert server.stop(signal.SIGTERM) == 143
        assert time.monotonic() - began < 1
        quiet.close()
        slow.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("{run} --host 0.0.0.0 --port 0", 2, "needs a token"),
        ("{run} --host 0.0.0.0 --port 0 --token short", 2, "16 to 256"),
        ("{run} --host no.such.host.invalid --token 1234567890123456 --port 0", 2, "no address"),
        ("{run} --host 192.0.2.1 --token 1234567890123456 --port 0", 2, "not an address of this machine"),
        ("{run} --port 65536", 2, "0 to 65535"),
        ("{run} --port -1", 2, "65535"),
        ("{run} --deadline nan", 2, "0.1 to 60"),
        ("{run} --deadline 0", 2, "0.1 to 60"),
        ("{run} --queue 0", 2, "from 1"),
        ("{run} --threads 1.5", 2, "whole number"),
        ("{run} --portt 1", 2, "--port"),
        ("{folder}/nothing --port 0", 8, "there is no run"),
        ("{folder} --port 0", 8, "not a run folder"),
        ("{run} {folder}/damaged --port 0", 8, "damaged"),
        ("{folder}/unfinished --port 0", 8, "no finished model"),
    ],
)
def test_what_cannot_be_served_is_one_line(tiny: Classifier, words: str, code: int, said: str) -> None:
    folder = tiny.path.parent
    make_bad_runs(tiny.path)
    answer = vitlab("serve " + words.format(run=tiny.path, folder=folder))
    assert answer.code == code
    assert said in answer.error
    assert len(answer.err.splitlines()) == 1


def make_bad_runs(run: Path) -> None:
    """Beside a run: one whose weights have a wrong byte, and one that has not ended."""
    for name, left_out in (("damaged", ""), ("unfinished", "result.json")):
        folder = run.parent / name
        folder.mkdir(exist_ok=True)
        for file in run.iterdir():
            if file.is_file() and file.name != left_out:
                data = file.read_bytes()
                broken = name == "damaged" and file.name == "model.safetensors"
                (folder / file.name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if broken else data)
