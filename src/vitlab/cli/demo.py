"""vitlab demo."""

from __future__ import annotations

import argparse

from vitlab.cli import flags, serve


def declare(children: flags.Children) -> None:
    """The command and its options."""
    parser = flags.add_command(children, demo, "open the page and draw, with your newest network or ours", "[options]")
    help = "only print the address; the browser stays as it is"
    parser.add_argument("--no-open", dest="open", action="store_false", help=help)
    parser.set_defaults(runs=[])
    serve.add_options(parser, port=0)  # any free port: the browser is sent there


def demo(arguments: argparse.Namespace) -> int:
    """Serve the newest run in runs/, or a network that comes with vitlab, and open its page in your browser: draw, and
    watch the network read it. Ctrl-C ends it."""
    return serve.serve(arguments)
