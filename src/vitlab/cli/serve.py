"""vitlab serve."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from vitlab.cli import flags
from vitlab.cli.load import load_torch
from vitlab.cli.runs import RUNS, TRAIN
from vitlab.errors import VitlabError
from vitlab.runs.zoo import DEFAULT, ZOO, name_of
from vitlab.text import counted, listed, percent, say

if TYPE_CHECKING:
    from vitlab.predict import Classifier


def declare(children: flags.Children) -> None:
    """The command and its options."""
    usage = "[RUN ...] [--port N] [options]"
    parser = flags.add_command(children, serve, "classify pictures over HTTP, with a page to draw on", usage)
    help = "runs, networks of `vitlab zoo`, or a study; the first is the default [the newest run in runs/, or mnist]"
    parser.add_argument("runs", metavar="RUN", nargs="*", type=flags.run, help=help)
    parser.add_argument("--open", action="store_true", help="open the page in your browser")
    add_options(parser, port=8000)


def add_options(parser: flags.OneLineParser, port: int) -> None:
    """The options that `vitlab demo` has too; ``port`` is the default of --port."""
    add = parser.add_argument
    add("--host", metavar="ADDRESS", default="127.0.0.1", help="address to listen on [127.0.0.1]")
    any = "any free one" if port == 0 else port
    add("--port", metavar="N", type=flags.whole_number(0, 65535), default=port, help=f"port; 0: any free one [{any}]")
    token = "access token that clients must send [the environment variable VITLAB_TOKEN, which others cannot see]"
    add("--token", metavar="T", help=token)
    host = "another host name that browsers may use for this server, NAME or NAME:PORT; may be repeated"
    add("--allow-host", metavar="NAME", action="append", default=[], help=host)
    add("--threads", metavar="N", type=flags.count, default=1, help="compute threads per model [1]")
    queue = "most requests in progress per model; further ones are refused [128]"
    add("--queue", metavar="N", type=flags.count, default=128, help=queue)
    add("--deadline", metavar="S", type=seconds, default=5.0, help="longest time for an answer, in seconds [5]")
    flags.add_runs(parser, dest="by")
    flags.hide(parser, "allow_host", "queue", "deadline", "by")


def seconds(text: str) -> float:
    """A time from 0.1 to 60 seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 60.0:
        raise argparse.ArgumentTypeError(f"must be seconds from 0.1 to 60, not {text!r}")
    return value


def serve(arguments: argparse.Namespace) -> int:
    """Classify pictures over HTTP, with a page to draw on; without RUN, by your newest network or, if you
    have none, by one that comes with vitlab. After Ctrl-C or SIGTERM
    the server answers the requests that it has received and exits with code 0; a second signal ends it at once."""
    if sys.stderr is not None and sys.stderr.isatty():  # somebody waits, and torch takes its time
        say(f"loading {listed(list(map(name_of, arguments.runs))) or 'your newest network'} ...")
    load_torch()
    from vitlab.serve.access import Access, address_of, allowed_hosts, bind, checked_token, listen
    from vitlab.serve.limits import Limits

    token = arguments.token if arguments.token is not None else os.environ.get("VITLAB_TOKEN")
    token = checked_token(token, arguments.host)
    limits = Limits(queue=arguments.queue, deadline_seconds=arguments.deadline)
    runs = arguments.runs or [newest_run()]
    with bind(arguments.host, arguments.port) as listener:
        from vitlab.machine import use_threads
        from vitlab.openmp import shortage
        from vitlab.serve.content import load
        from vitlab.serve.server import make_server

        classifiers, files = load(runs, arguments.by or flags.RUNS, say)
        access = Access(allowed_hosts(arguments.host, listener.getsockname()[1], arguments.allow_host), token, note=say)
        listen(listener)
        threads = use_threads(arguments.threads)
        if threads < arguments.threads:
            say(shortage(threads, arguments.threads))
        server = make_server(classifiers, files, listener, access, limits, threads)
        introduce(classifiers, threads)
        hint = "?token=YOUR-TOKEN (needed once; then a cookie replaces it)" if token is not None else ""
        address = address_of(listener, arguments.host)
        say(f"serving at {address}{hint}")
        if arguments.open:
            open_page(address)
        server.guard.note = say
        server.on_stop = lambda: say("stopping: no new connections, answering the requests already received")
        cut = server.answer_until_stopped()
    if cut:
        unanswered = counted(cut, "request")
        raise VitlabError(f"stopped with {unanswered} unanswered; a shorter --deadline ends slow requests sooner")
    say("stopped; every accepted request was answered")
    return 0


def newest_run() -> Path:
    """The newest run in runs/ that has a network; without one, a network that comes with vitlab."""
    from vitlab.runs.listing import newest_with_model

    if found := newest_with_model(RUNS):
        return found
    say(f"no trained network in {RUNS} yet, so this is {DEFAULT}, which comes with vitlab; {TRAIN}")
    return ZOO / DEFAULT


def open_page(address: str) -> None:
    """Open the page in the browser, if there is one. In a thread: some browsers run in the terminal until they are
    closed, and the server must answer meanwhile."""
    threading.Thread(target=visit, args=(address,), daemon=True).start()


def visit(address: str) -> None:
    """Wait for the browser to take the address; say so if there is none."""
    try:
        opened = webbrowser.open(address)
    except (webbrowser.Error, OSError):
        opened = False
    if not opened:
        say("no browser was found here; open the address above yourself")


def introduce(classifiers: dict[str, Classifier], threads: int) -> None:
    """Say which models are served and how."""
    for name, classifier in classifiers.items():
        accuracy = classifier.result["test_top1"]
        top1 = "accuracy unknown" if accuracy is None else f"{percent(accuracy)} on test images"
        say(f"model {name}: {top1}, SHA-256 {classifier.digest}")
    say(f"{counted(threads, 'thread')} per model; Ctrl-C or SIGTERM stops after the requests already received")
