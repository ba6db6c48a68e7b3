"""The parts of `make proof` that need no attack: its judgements, its planted defects, its page."""

from __future__ import annotations

import errno
import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.proof import __main__ as harness
from benchmarks.proof import access, flips, hostile, order, serving, soak
from benchmarks.proof.context import Context, Ended, figures, kinds_of, trace
from benchmarks.proof.crash import spread
from benchmarks.proof.http import malformed
from benchmarks.proof.planted import PLANTS, SOURCE, catch, plant
from benchmarks.proof.signals import start_of_last
from docs import make_reliability
from vitlab.errors import RunError, VitlabError
from vitlab.files import sha256

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@pytest.mark.parametrize("defect", PLANTS, ids=lambda defect: defect.name)
def test_each_planted_defect_changes_one_place_of_todays_source(defect: Any) -> None:
    """If not, the source has changed: adapt the plant in benchmarks/proof/planted.py."""
    text = (SOURCE / defect.file).read_text(encoding="utf-8")
    assert text.count(defect.before) == 1
    changed = text.replace(defect.before, defect.after)
    assert changed != text
    compile(changed, defect.file, "exec")
    assert defect.attack in harness.ATTACKS


def test_a_plant_whose_piece_is_missing_is_stale(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    defect = PLANTS[0]
    (source / defect.file).write_text(f"{defect.before}{defect.before}")
    assert not plant(source, defect, tmp_path / "twice")
    (source / defect.file).write_text(f"start\n{defect.before}end\n")
    assert plant(source, defect, tmp_path / "once")
    assert (tmp_path / "once" / "vitlab" / defect.file).read_text() == f"start\n{defect.after}end\n"


def test_a_defect_is_caught_by_a_kind_of_failure_that_is_new() -> None:
    assert catch(["3 winners: 8 starts", "leftover: x"], ["2 winners: 8 starts"]) == "leftover: x"
    assert catch(["3 winners: 8 starts"], ["2 winners: 7 starts"]) == ""
    assert catch([], ["leftover: x"]) == ""
    assert catch(["broken: the attack itself failed"], []) == ""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, "unchanged"),
        (RunError("one line"), "refused"),
        (RunError("two\nlines"), "traceback"),
        (KeyError("x"), "traceback"),
        (flips.TooLong(), "hang"),
    ],
)
def test_answers_to_a_damaged_folder_are_classified(error: Exception | None, kind: str) -> None:
    def answer() -> int:
        if error is not None:
            raise error
        return 7

    assert flips.classify(answer, 7, VitlabError) == kind
    assert error is not None or flips.classify(answer, 8, VitlabError) == "wrong"


def test_one_bit_is_flipped() -> None:
    assert flips.flipped(b"\x00\x00", 0) == b"\x01\x00"
    assert flips.flipped(b"\x00\x00", 15) == b"\x00\x80"
    assert flips.flipped(flips.flipped(b"abc", 11), 11) == b"abc"


GOOD = [
    ("w", "/r/.a.tmp", ""), ("s", "/r/.a.tmp", ""), ("r", "/r/.a.tmp", "/r/a"), ("s", "/r", ""), ("u", "/r/.a.tmp", ""),
]  # fmt: skip


def test_the_right_order_of_writes_passes() -> None:
    assert order.violations(GOOD) == (1, [])
    assert order.violations([*GOOD, ("w", "/r/.lock", ""), ("w", "/s/logs/x.txt", "")]) == (1, [])


@pytest.mark.parametrize(
    ("calls", "kind"),
    [
        ([call for call in GOOD if call[:2] != ("s", "/r/.a.tmp")], "no flush"),
        ([*GOOD[:2], ("w", "/r/.a.tmp", ""), *GOOD[2:]], "no flush"),
        ([call for call in GOOD if call[:2] != ("s", "/r")], "no folder flush"),
        ([*GOOD[:3], *GOOD], "no folder flush"),
        ([("w", "/r/a", "")], "in place"),
        ([("w", "/d/x", ""), ("r", "/d", "/web"), ("s", "/", "")], "no flush"),  # a whole folder that is renamed
    ],
)
def test_each_wrong_order_of_writes_is_named(calls: list[tuple[str, str, str]], kind: str) -> None:
    assert list(kinds_of(order.violations(calls)[1])) == [kind]


def test_a_checkpoint_may_go_only_when_another_is_safe() -> None:
    def saved(name: str) -> list[tuple[str, str, str]]:
        path, temporary = f"/r/checkpoints/step-{name}", f"/r/checkpoints/.{name}.tmp"
        return [("w", temporary, ""), ("s", temporary, ""), ("r", temporary, path), ("s", "/r/checkpoints", "")]

    delete = ("u", "/r/checkpoints/step-1", "")
    assert order.violations([*saved("1"), *saved("2"), delete]) == (2, [])
    assert list(kinds_of(order.violations([*saved("1"), delete, *saved("2")])[1])) == ["deleted first"]
    assert "deleted first" in kinds_of(order.violations([*saved("1"), *saved("2")[:3], delete])[1])


def test_the_slope_of_memory_is_that_of_scipy_and_resists_outliers() -> None:
    times = np.arange(90.0)
    line = 300.0 + 11.0 * times / 3600.0
    straight = np.polyfit(times[30:], line[30:], 1)[0] * 3600
    assert soak.growth(times.tolist(), line.tolist())["slope"] == pytest.approx(straight, abs=0.01)
    noisy = line.copy()
    noisy[::7] += 50.0
    noisy[:30] = 0.0  # the warm-up
    expected = stats.theilslopes(noisy[30:], times[30:])
    found = soak.growth(times.tolist(), noisy.tolist())
    assert found["slope"] == pytest.approx(3600 * expected.slope, abs=0.01)
    assert found["low"] <= 11.0 <= found["high"]


def test_points_are_spread_over_all_calls() -> None:
    assert spread(5, 9) == [1, 2, 3, 4, 5]
    assert spread(101, 5) == [1, 26, 51, 76, 101]
    assert spread(9, 1) == [5]


def test_an_end_is_judged_as_a_user_sees_it() -> None:
    assert Ended(6, "", "note\nvitlab: the disk is full\n", 1.0, 9.0).is_one_line
    assert not Ended(6, "", "vitlab: one\nvitlab: two\n", 1.0, 9.0).is_one_line
    assert not Ended(6, "", "vitlab: one\nmore\n", 1.0, 9.0).is_one_line
    assert Ended(1, "", "Traceback (most recent call last)\nKeyError", 1.0, 9.0).wrong == "TRACEBACK"
    assert Ended(-11, "", "", 1.0, 9.0).wrong == "CRASH"
    assert Ended(-9, "", "", 1.0, 9.0, True).wrong == "HANG"


def test_a_trace_leaves_out_times_only(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"model_sha256": "ab", "test_top1": 0.5, "wall_seconds": 3}')
    (tmp_path / "history.jsonl").write_text('{"epoch": 1, "val_loss": 2.5, "train_seconds": 7, "wall_seconds": 8}\n')
    assert trace(tmp_path) == {"sha256": "ab", "top1": 0.5, "history": [{"epoch": 1, "val_loss": 2.5}]}
    (tmp_path / "result.json").write_text("{")
    assert "unreadable" in trace(tmp_path)


def test_answers_of_a_server_are_judged() -> None:
    def refusal(status: int, sentence: str) -> bytes:
        return f'HTTP/1.1 {status} X\r\nA: b\r\n\r\n{{"error":"{sentence}","request":"1"}}'.encode()

    assert serving.fault_in(None).startswith("hang")
    assert serving.fault_in(b"") == ""
    assert serving.fault_in(refusal(422, "the request is not valid")) == ""
    assert serving.fault_in(refusal(503, "busy") + refusal(400, "no")) == ""
    assert serving.fault_in(refusal(500, "the server failed")) == "status 500"
    assert serving.fault_in(refusal(422, "Expecting value: line 1 column 3 (char 2)")).startswith("leak")
    assert serving.fault_in(refusal(404, serving.MARK.decode())).startswith("echo")
    assert serving.statuses(refusal(200, "a") + refusal(404, "HTTP/1.1 500 is no status")) == [200, 404]


def test_the_requests_depend_on_the_seed_only() -> None:
    one, other = ([malformed(random.Random(seed), 8000) for seed in range(40)] for _ in range(2))
    assert one == other
    assert len(set(one)) > 35


def test_no_host_or_token_that_must_be_refused_is_a_right_one() -> None:
    from vitlab.serve.access import allowed_hosts

    right = allowed_hosts("127.0.0.1", 8000, [])
    assert not {host.format(8000) for host in access.HOSTS} & right
    assert f"Bearer {serving.TOKEN}" not in access.TOKENS


def test_control_characters_are_found_and_letters_are_not() -> None:
    for text in ("\x1b[2J", "a\x07", "\x9b31m", "\u202eabc", "\x7f"):
        assert hostile.CONTROL.search(text), repr(text)
    assert not hostile.CONTROL.search("größer\nzwei\tdrei 数字 🙂")


WRITER = """
import errno, os, pathlib, sys, tempfile
here = pathlib.Path(sys.argv[1])
try:
    (here / "sub").mkdir()
    handle, name = tempfile.mkstemp(dir=here / "sub", suffix=".tmp")
    with os.fdopen(handle, "wb") as file:
        file.write(b"0123456789")
    with open(name, "rb+") as file:
        os.fsync(file.fileno())
    os.chmod(name, 0o644)
    os.replace(name, here / "sub" / "file")
    print(sorted(path.name for path in (here / "sub").iterdir()), (here / "sub" / "file").read_bytes())
    os.unlink(here / "sub" / "file")
    print("end")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = Context(tmp_path_factory.mktemp("shim")).library
    if library is None:
        pytest.skip("needs Linux and a C compiler")
    return library


def written_with(shim: Path, folder: Path, **faults: object) -> tuple[int, list[str], str]:
    """Exit code, standard output and the kinds of calls of a process that writes, with faults in its calls."""
    folder.mkdir()
    (folder / "data").mkdir()
    named = {f"PROOF_{name.upper()}": str(value) for name, value in faults.items()}
    environment = {"PROOF_FOLDER": str(folder / "data"), "PROOF_LOG": str(folder / "log"), "LD_PRELOAD": str(shim)}
    words = [sys.executable, "-S", "-c", WRITER, str(folder / "data")]
    done = subprocess.run(words, env=environment | named, capture_output=True, text=True, check=False)
    kinds = [line.split("\t")[0] for line in (folder / "log").read_text().splitlines()]
    return done.returncode, done.stdout.splitlines(), "".join(kinds)


def test_pythons_calls_go_through_the_shim(shim: Path, tmp_path: Path) -> None:
    code, lines, kinds = written_with(shim, tmp_path / "all")
    assert (code, lines) == (0, ["['file'] b'0123456789'", "end"])
    assert re.fullmatch("mowoscrlpd+u", kinds), kinds  # in the order of WRITER


def test_the_shim_lets_the_nth_call_fail_or_kills_there(shim: Path, tmp_path: Path) -> None:
    for kind, name in (("m", "EROFS"), ("o", "EDQUOT"), ("w", "ENOSPC"), ("s", "EIO"), ("r", "EACCES"), ("l", "EIO")):
        faults = {"kinds": kind, "at": 1, "action": getattr(errno, name)}
        assert written_with(shim, tmp_path / kind, **faults)[:2] == (0, [name])
    assert written_with(shim, tmp_path / "second", kinds="o", at=2, action=errno.EIO)[:2] == (0, ["EIO"])
    assert written_with(shim, tmp_path / "third", kinds="o", at=3, action=errno.EIO)[1][-1] == "end"
    code, _, kinds = written_with(shim, tmp_path / "killed", at=3, action=-signal.SIGKILL)
    assert (code, kinds) == (-signal.SIGKILL, "mow")
    (torn,) = (tmp_path / "killed" / "data" / "sub").iterdir()
    assert torn.read_bytes() == b"01234"  # half of what it wanted to write


MADE = {
    "about": {"seed": 5, "commit": "abc123", "date": "2026-02-03", "machine": "a processor", "cores": 2,
              "system": "Linux 6.1", "python": "3.11.2", "torch": "2.10.0"},
    "attacks": {
        "crash": {"attacked": 13, "held": 11, "calls": 274, "seconds": 61.0, "quick": True, "kinds": {"leftover": 2},
                  "failures": ["leftover: a|b `c` stays", "leftover: d stays"]},
        "disk": {"attacked": 0, "held": 0, "seconds": 0.0, "quick": False, "kinds": {}, "failures": [],
                 "skipped": "no C compiler"},
        "planted": {"attacked": 2, "held": 1, "seconds": 7.0, "quick": False, "kinds": {"missed": 1},
                    "failures": ["missed: b"],
                    "plants": [{"name": "a", "attack": "order", "caught": True, "by": "no flush: x"},
                               {"name": "b", "attack": "slow", "caught": False, "by": ""}]},
    },
}  # fmt: skip


def test_the_page_says_what_held_and_what_did_not() -> None:
    made = make_reliability.page(MADE, "proof-made.json")
    page = " ".join(made.split())
    assert "12 of 15 attacks held" in page
    assert "Seed 5, commit `abc123`, 2026-02-03; a processor, 2 cores" in page
    assert "**11 of 13 held**; 274 file-system calls of the training; the quick form" in page
    assert "- 2 times `leftover: a/b 'c' stays`" in page
    assert "**Skipped**: no C compiler." in page
    assert "| a | `order` | caught | `no flush: x` |" in page
    assert "| b | `slow` | **missed** |" in page
    assert "Not run: " in page
    anchors = {make_reliability.anchor(title) for title in re.findall(r"^## (.*)$", made, re.M)}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= anchors


def test_every_attack_has_its_text_and_its_file() -> None:
    assert list(make_reliability.TEXTS) == list(harness.ATTACKS)
    folder = Path(harness.__file__).parent
    assert all((folder / f"{name}.py").is_file() for name in harness.ATTACKS)


def test_the_page_is_that_of_its_figures() -> None:
    """If not: python docs/make_reliability.py benchmarks/results/proof-NAME.json."""
    page = make_reliability.PAGE.read_text(encoding="utf-8")
    (file,) = set(re.findall(r"results/(proof-[\w.-]+\.json)", page))
    assert make_reliability.page(json.loads((RESULTS / file).read_text()), file) == page


def test_figures_count_what_held() -> None:
    found = figures(["", "hang: x", "", "hang: y", "leak: z"], 5, extra=sha256(b"")[:4])
    assert (found["attacked"], found["held"], len(found["failures"]), found["extra"]) == (5, 2, 3, "e3b0")
    assert kinds_of(found["failures"]) == {"hang": 2, "leak": 1}


def test_the_last_row_of_the_history_begins_a_group_of_calls() -> None:
    assert start_of_last([2, 3, 7, 8, 11]) == 7
    assert start_of_last([13, 17]) == 17
