"""vitlab serve."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from vitlab.cli.flags import EXIT_CODES, OneLineParser, path_argument, positive
from vitlab.cli.study_commands import RUNS
from vitlab.errors import VitlabError

if TYPE_CHECKING:
    from vitlab.predict import Classifier
    from vitlab.serve.server import VitlabServer


def declare_serve(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    """vitlab serve."""
    parser = children.add_parser(
        "serve",
        help="answer pictures over HTTP, with a page to draw on",
        usage="vitlab serve RUN [RUN ...] [--port N] [options]",
        description="Answer pictures over HTTP, with a page to draw on. Ctrl-C or SIGTERM: the requests at hand are\n"
        "answered, then it ends with exit code 0; a second signal ends it at once.",
        epilog=EXIT_CODES,
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=path_argument, help="run folders, the default first; also one study's"
    )
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="where to listen [127.0.0.1]")
    parser.add_argument("--port", metavar="N", type=port, default=8000, help="0: any that is free [8000]")
    parser.add_argument("--token", metavar="T", help="what clients must know [VITLAB_TOKEN, which others do not see]")
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a further name that leads here, as browsers send it: NAME or NAME:PORT; may be repeated",
    )
    parser.add_argument("--threads", metavar="N", type=positive, default=1, help="that compute, for each model [1]")
    parser.add_argument(
        "--queue", metavar="N", type=positive, default=128, help="requests of a model at a time; more are refused [128]"
    )
    parser.add_argument("--deadline", metavar="S", type=seconds, default=5.0, help="seconds an answer may take [5]")
    parser.add_argument(
        "--runs", dest="by", metavar="DIR", type=path_argument, default=RUNS, help=f"where a study's runs lie [{RUNS}]"
    )
    parser.set_defaults(call=serve, command="serve")
    return parser


def port(text: str) -> int:
    """A number of a port; 0 lets the system choose."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"needs a whole number from 0 to 65535, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A time from 0.1 to 60 seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 60.0:
        raise argparse.ArgumentTypeError(f"needs seconds from 0.1 to 60, not {text!r}")
    return value


def serve(arguments: argparse.Namespace) -> int:
    """vitlab serve RUN ..."""
    from vitlab.serve.access import Access, address_of, allowed_hosts, bind, checked_token, listen
    from vitlab.serve.limits import Limits

    token = arguments.token if arguments.token is not None else os.environ.get("VITLAB_TOKEN")
    token = checked_token(token, arguments.host)
    limits = Limits(queue=arguments.queue, deadline_seconds=arguments.deadline)
    with bind(arguments.host, arguments.port) as listener:
        from vitlab.serve.content import load
        from vitlab.serve.server import make_server

        classifiers, files = load(arguments.runs, arguments.by, say)
        access = Access(allowed_hosts(arguments.host, listener.getsockname()[1], arguments.allow_host), token)
        listen(listener)
        server = make_server(classifiers, files, listener, access, limits, arguments.threads)
        introduce(server, classifiers, address_of(listener, arguments.host), token is not None, arguments.threads)
        server.guard.note = say
        server.on_stop = lambda: say("stopping: no new connections, requests at hand are answered")
        cut = server.answer_until_stopped()
    if cut:
        raise VitlabError(f"stopped, but {cut} requests had no answer in time; a shorter --deadline ends them sooner")
    say("stopped; every accepted request was answered")
    return 0


def introduce(
    server: VitlabServer, classifiers: dict[str, Classifier], address: str, has_token: bool, threads: int
) -> None:
    """Say where to go, what is served and how."""
    for name, classifier in classifiers.items():
        accuracy = classifier.result["test_top1"]
        top1 = "accuracy unknown" if accuracy is None else f"{100 * accuracy:.2f} % on test images"
        say(f"model {name}: {top1}, SHA-256 {classifier.digest}")
    say(f"{threads} thread{'s' if threads > 1 else ''} a model; Ctrl-C or SIGTERM stops after the requests at hand")
    say(f"serving at {address}{'?token=YOUR-TOKEN (once; then a cookie stands for it)' if has_token else ''}")


def say(line: str) -> None:
    """A line for the operator, at once."""
    print(line, file=sys.stderr, flush=True)
