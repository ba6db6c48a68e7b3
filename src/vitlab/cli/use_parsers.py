"""The options of the commands that use a trained network."""

from __future__ import annotations

import argparse

from vitlab.cli import use_commands
from vitlab.cli.flags import EXIT_CODES, OneLineParser, path_argument, positive


def declare_predict(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    """vitlab predict."""
    parser = children.add_parser(
        "predict",
        help="what a trained network sees in pictures",
        usage="vitlab predict RUN IMAGE [IMAGE ...] [options]",
        description="Ranked labels for PNG and JPEG images of any size and mode. A network trained on mnist sees a\n"
        "drawing as MNIST's digits were made: bright ink on black, 20 pixels long, centred. What cannot be\n"
        "read is told on standard error, and the exit code is 3; the others are answered.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("run", metavar="RUN", type=path_argument, help="a run folder")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a file, a folder, or - for standard input")
    parser.add_argument("--top", metavar="N", type=positive, default=3, help="how many labels for each image [3]")
    parser.add_argument(
        "--no-center", dest="center", action="store_false", help="squeeze a drawing as a whole, without centring it"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON for each image, in their order")
    parser.set_defaults(call=use_commands.predict, command="predict")
    return parser


def declare_export(children: argparse._SubParsersAction[OneLineParser]) -> OneLineParser:
    """vitlab export."""
    parser = children.add_parser(
        "export",
        help="a trained network as an ONNX file, a torch program or a web page",
        usage="vitlab export RUN [RUN ...] --to onnx|torch|web [options]",
        description="Write a trained network for use elsewhere. onnx and torch: one file from images (uint8, as in\n"
        "the data set; preprocessing is inside) to logits, compared with torch before it is kept. web: a\n"
        "folder for any static host, with the page that reads your drawing.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=path_argument, help="a run folder; for web also several")
    parser.add_argument("--to", choices=("onnx", "torch", "web"), required=True, help="the form")
    parser.add_argument(
        "--out", metavar="PATH", type=path_argument, help="the file or folder to make [RUN.onnx, RUN.pt2, RUN-web]"
    )
    parser.add_argument("--attention", action="store_true", help="onnx: also each layer's attention weights as outputs")
    parser.add_argument("--study", metavar="DIR", type=path_argument, help="web: also this study's table and models")
    parser.add_argument(
        "--runs", dest="by", metavar="DIR", type=path_argument, help="web: where its runs lie [runs/by-configuration]"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, only the result")
    parser.add_argument("--json", action="store_true", help="the result as one line of JSON, last on standard output")
    parser.set_defaults(call=use_commands.export, command="export")
    return parser
