"""Write docs/understand/reliability.md from the figures of `make proof`: `python docs/make_reliability.py FILE`."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Figures = Mapping[str, Any]

PAGE = Path(__file__).parent / "understand" / "reliability.md"
HEAD = """# Reliability: what vitlab promises, and how the promises were tested

vitlab promises never to lose your work, never to give you a wrong answer because a file was damaged, and never to let
a stranger's file or request do any harm. Promises are cheap, so `make proof` attacks each of them and counts what held.
It takes about half an hour on two cores. This page is generated from its figures; do not edit it by hand.

**Held** means: exactly what the promise says happened. Anything else, even a second line of an error message, counts as
a failure and is listed. The harness is tested too: defects are planted into copies of the source, and the attacks must
notice them ([below](#is-the-harness-awake)).
"""
NOT_COVERED = """
## What is not covered

- **Power cuts** are simulated by the order of the calls (bytes flushed, then renamed, then the folder flushed). A disk
  that reports a flush before it has happened is not tested.
- **GPUs**: everything here ran on a CPU. A run on a GPU resumes too, but its bits can differ
  ([why](../reference/run-folder.md)).
- **Network file systems**, on which locks and renames may behave differently.
- **Several machines**: studies on clusters are attacked by `python -m benchmarks.cluster`, on nodes that are processes
  of one machine ([what came of it](../do/studies.md#on-a-cluster)).
- **A decoder that crashes** ends `vitlab serve`, because it runs in a thread of the server.
- **Raw bandwidth**: a client with a faster line than yours can fill it. Put a proxy in front of a public server.
- **Pictures made to fool a network** (adversarial examples). They can fool every classifier, including these.
- **Someone who can act as you on your machine**, and so change any file and any program.

If you find a way around a promise, please report it ([SECURITY.md](../../SECURITY.md)).
"""

# For each attack: its title, what is promised, and how it was attacked.
TEXTS: dict[str, tuple[str, str, str]] = {
    "crash": (
        "A run that is killed continues bit for bit",
        "Kill a training at any moment, resume it, and you get the same weights as if nothing had happened.",
        "A small training calls the file system a few hundred times. The process was killed (SIGKILL) at calls "
        "spread over all of them, in the middle of a write too; then the run was resumed. Its weights, history and "
        "accuracy must equal those of an undisturbed run, and no temporary file may stay.",
    ),
    "disk": (
        "A failing or full disk costs nothing but time",
        "When the disk refuses a call, vitlab says so in one line, exits with code 6, and the run can be resumed.",
        "Calls to open, write, flush, rename, delete, list and make folders failed with EIO, ENOSPC, EACCES, EROFS or "
        "EDQUOT, once or from then on; afterwards the run was resumed and compared. vitlab may stay silent about an "
        "error that changes nothing.",
    ),
    "order": (
        "Files are complete or absent, even after a power cut",
        "Every file is flushed before it gets its name, and its folder after that; nothing is deleted before its "
        "successor is safe.",
        "All file-system calls of a training, a resume, a report and an export were recorded, and their order was "
        "checked for each file.",
    ),
    "flips": (
        "A damaged file is refused, not believed",
        "A single wrong bit in a run folder never changes an answer in silence.",
        "Single bits were flipped: every bit of data.json and result.json, and 2,000 random bits of every other file. "
        "After each, the run was opened and everything that a user sees (labels, probabilities, classes, result, "
        "configuration, history) was compared. The same was done to unfinished runs before they were resumed.",
    ),
    "kills": (
        "Killed again and again",
        "However often and whenever a run is killed, it ends with the same weights.",
        "SIGKILL at random moments, up to four times for one run, then to the end.",
    ),
    "study": (
        "A study loses no run and counts none twice",
        "Kill a study or one of its runs, repeat the command, and it completes with the same table.",
        "The driver of a study was killed at file-system calls, most of them while its folder was being made, and "
        "at random moments; so were its runs, and all of them together. Rows and weights must equal those of an "
        "undisturbed study.",
    ),
    "signals": (
        "Ctrl-C is always safe",
        "Ctrl-C (130) and SIGTERM (143) end a run with the promised exit code and no traceback, in every phase, and it "
        "continues.",
        "SIGINT, SIGTERM and SIGHUP while the process loads, begins, trains, evaluates and saves, some of them twice. "
        "Until vitlab's own code begins, Ctrl-C ends in Python's own KeyboardInterrupt, which is not counted.",
    ),
    "starts": (
        "Two processes never write one folder",
        "Of several starts in one folder exactly one wins; the others say why they do not start.",
        "Eight trainings started in one folder at the same moment, a resume of a run that is still going on, three "
        "starts of one study, and six trainings that choose their own folders in the same second.",
    ),
    "hostile": (
        "A stranger's files cannot hurt you",
        "Whatever is in a run folder, a data set or a picture: the command works or refuses in one line, within 20 "
        "seconds and 1.6 GB, and touches nothing outside.",
        "Pipes, devices, sockets, loops, links to elsewhere, files of 8 GiB, deep JSON, numbers of 5,000 digits, "
        "NaN, archives and pictures that unpack to gigabytes, arrays with Python objects, names with HTML and "
        "terminal escapes; and valid pictures with random damage. What is printed may hold no control characters, "
        "and files nearby must stay as they were.",
    ),
    "forged": (
        "Right digests do not make wrong content right",
        "Weights that are not numbers, and states with parts missing, are refused even if their digests match.",
        "Weights and checkpoints were changed and their digests made to fit: NaN, infinity, missing optimizer state, "
        "wrong shapes, impossible counters. Trainings that diverge must not leave weights that are not finite.",
    ),
    "http": (
        "The server answers malformed requests calmly",
        "Whatever arrives, `vitlab serve` refuses it or closes the connection; it does not fail, hang, or reveal "
        "anything internal.",
        "Random and mutated requests on raw sockets: methods, addresses, headers, lengths, chunks and bodies. "
        "Allowed are refusals (4xx), 503 and 504; their texts may hold no part of an exception and nothing that was "
        "sent. Afterwards the server must answer as before, and its log must be clean.",
    ),
    "access": (
        "Nobody gets in without the right name and token",
        "Other host names, other origins, wrong tokens and odd paths are refused.",
        "Combinations of host names, origins, tokens, cookies, routes and paths, each of which must be refused, and "
        "right ones, which must not.",
    ),
    "slow": (
        "Slow and greedy clients do not stop the others",
        "Other clients keep getting answers: the 99th percentile of their times stays below 250 ms or five times "
        "what it is on a quiet server.",
        "400 connections that send a byte now and then; 1, 4 and 16 clients that send bodies in chunks of one byte; "
        "bodies above the limit; and more pictures at once than the queue takes, some of which must be refused at "
        "once.",
    ),
    "soak": (
        "Memory does not grow",
        "Neither a server under load nor a long training needs more and more memory or open files.",
        "Pictures, pages and malformed requests for minutes; the slope of the resident memory is Theil-Sen's, "
        "without the first third. Then a training of hundreds of epochs.",
    ),
    "busy": (
        "A busy machine does not change the result",
        "The same seed gives the same weights, whatever else the machine is doing.",
        "Precision and kernels were chosen again and again while eight processes kept the cores busy, and whole "
        "trainings were compared with one on the quiet machine.",
    ),
    "planted": (
        "Is the harness awake?",
        "An attack that cannot fail proves nothing.",
        "Each defect below was planted into a copy of the source. It counts as caught if its attack fails in a way in "
        "which it does not fail on the undamaged source.",
    ),
}


def wrapped(text: str) -> str:
    """A paragraph in lines of 120 letters."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def escaped(text: str) -> str:
    """Text of a failure as code in a Markdown list or table."""
    return "`" + text.replace("`", "'").replace("|", "/") + "`"


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def outcome(found: Figures) -> str:
    """One cell: held, failed or skipped."""
    if "skipped" in found:
        return "skipped"
    return "held" if not found["failures"] else "**failed**"


def summary(attacks: Mapping[str, Figures]) -> str:
    """All attacks in one table."""
    rows = [
        (f"[{TEXTS[name][0]}](#{anchor(TEXTS[name][0])})", f"{found['attacked']:,}", f"{found['held']:,}",
         outcome(found), f"{found['seconds']:.0f} s")
        for name, found in ((name, attacks[name]) for name in TEXTS if name in attacks)
    ]  # fmt: skip
    return table(("promise", "attacks", "held", "", "time"), rows)


def anchor(title: str) -> str:
    """The address of a heading, as GitHub makes it."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -")
    return kept.replace(" ", "-")


def per_file(found: Figures) -> str:
    """Flipped bits by file and class."""
    classes = ("refused", "unchanged", "wrong", "traceback", "hang")
    files: Mapping[str, Mapping[str, int]] = found.get("files", {})
    rows = [(f"`{name}`", sum(one.values()), *(one.get(kind, 0) for kind in classes)) for name, one in files.items()]
    head = ("file", "bits", "refused", "no effect", "silently wrong", "traceback", "hang")
    text = table(head, rows) + f"\nResumes of a run with a flipped bit: {found.get('resumes', 0)}.\n"
    if "check_tried" in found:
        text += f"\n`vitlab check` noticed {found['check_noticed']} of {found['check_tried']} flipped bits.\n"
    return text


def times(found: Figures) -> str:
    """The answers of normal clients beside each attack."""
    rows = [(name, f"{value:,.1f} ms") for name, value in found.get("p99_ms", {}).items()]
    overload = ", ".join(f"{status}: {count:,}" for status, count in found.get("overload", {}).items())
    return table(("normal clients", "99th percentile"), rows) + (
        f"\n64 clients at a queue of 2, answers by status: {overload}. Memory grew by {found['grown_mib']} MiB.\n"
    )


def memory(found: Figures) -> str:
    """The slopes."""
    slope = found["mib_per_hour"]
    rows = [
        ("minutes of load", found["minutes"]),
        ("answers", f"{found['answers']:,}"),
        ("malformed requests", f"{found['hostile']:,}"),
        (
            "slope of the server's memory, MiB per hour (95 % interval)",
            f"{slope['slope']} ({slope['low']} to {slope['high']})",
        ),
        ("memory at the start and at the end, MiB", f"{found['mib_start']:.0f}, {found['mib_end']:.0f}"),
        ("most open descriptors", f"{found['descriptors']:.0f}"),
        (f"growth of a training of {found['epochs']} epochs, MiB", found["training_grown_mib"]),
    ]
    return table(("", "measured"), rows)


def plants(found: Figures) -> str:
    """The planted defects."""
    rows = [
        (one["name"], f"`{one['attack']}`", "caught" if one["caught"] else f"**{one['by'] or 'missed'}**",
         escaped(one["by"][:110]) if one["caught"] else "")
        for one in found.get("plants", [])
    ]  # fmt: skip
    return f"{found['held']} of {found['attacked']} caught.\n\n" + table(("defect", "attack", "", "noticed by"), rows)


NUMBERS: dict[str, tuple[tuple[str, str], ...]] = {  # entries of the figures with their words
    "crash": (("calls", "file-system calls of the training"),),
    "disk": (("tolerated", "errors that changed nothing"),),
    "order": (("commands", "commands recorded"),),
    "kills": (("kills", "kills that met a living process"),),
    "study": (("calls", "file-system calls of the driver"),),
    "hostile": (("cases", "hostile files and folders"), ("pictures", "pictures with random damage")),
    "busy": (("choices", "choices"), ("hogs", "busy processes")),
}
MORE: dict[str, Callable[[Figures], str]] = {"flips": per_file, "slow": times, "soak": memory, "planted": plants}


def details(name: str, found: Figures, commit: str) -> str:
    """The section of one attack; ``commit`` is that of the page."""
    title, promise, how = TEXTS[name]
    parts = [f"\n## {title}\n\n{wrapped(promise)}\n\n{wrapped(f'*How it was attacked*: {how}')}\n"]
    if "skipped" in found:
        return parts[0] + f"\n**Skipped**: {found['skipped']}.\n"
    said = [f"{found[key]:,} {words}" for key, words in NUMBERS.get(name, ()) if key in found]
    if statuses := found.get("statuses"):
        said.append("answers by status: " + ", ".join(f"{status} {count:,}" for status, count in statuses.items()))
    if found["quick"]:
        said.append("the quick form, with few tries")
    if found.get("commit", commit) != commit:
        said.append(f"at commit `{found['commit']}`")
    parts.append(
        "\n" + wrapped("; ".join([f"**{found['held']:,} of {found['attacked']:,} held**", *said]) + ".") + "\n"
    )
    if name in MORE and (name != "soak" or "mib_per_hour" in found) and (name != "slow" or "grown_mib" in found):
        parts.append("\n" + MORE[name](found))
    if found["failures"]:
        parts.append("\nWhat did not hold (one example of each kind):\n\n")
        kinds: Mapping[str, int] = found.get("kinds", {})
        for kind, count in kinds.items():
            example = next((line for line in found["failures"] if same_kind(line, kind)), kind)
            parts.append(f"- {count:,} times {escaped(example)}\n" if count > 1 else f"- {escaped(example)}\n")
    return "".join(parts)


def same_kind(line: str, kind: str) -> bool:
    """Whether a failure is of a kind, which has # for each number (benchmarks/proof/context.py)."""
    from benchmarks.proof.context import kind_of

    return kind_of(line) == kind


def page(measured: Figures, file: str) -> str:
    """The whole page; ``file`` is the name of the file with the figures."""
    about, attacks = measured["about"], measured["attacks"]
    tried, held = (sum(found[name] for found in attacks.values()) for name in ("attacked", "held"))
    quick = " (some only in their quick form, see below)" if any(found["quick"] for found in attacks.values()) else ""
    circumstances = wrapped(
        f"{held:,} of {tried:,} attacks held{quick}. Seed {about['seed']}, commit `{about['commit']}`, "
        f"{about['date']}; {about['machine']}, {about['cores']} cores, {about['system']}, Python {about['python']}, "
        f"torch {about['torch']}. All figures, with a line for each failure: "
        f"[{file}](../../benchmarks/results/{file}). Repeat it with `make proof`, or one attack with other draws: "
        "`python -m benchmarks.proof ATTACK --seed 1`."
    )
    missing = [TEXTS[name][0] for name in TEXTS if name not in attacks]
    left_out = f"\nNot run: {'; '.join(missing)}.\n" if missing else ""
    sections = "".join(details(name, attacks[name], about["commit"]) for name in TEXTS if name in attacks)
    return f"{HEAD}\n{circumstances}\n\n" + summary(attacks) + left_out + sections + NOT_COVERED


def main(path: Path) -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(path.read_text(encoding="utf-8")), path.name), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(Path(sys.argv[1]))
