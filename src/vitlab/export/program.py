"""A program of `torch.export`: one file that runs with torch alone, without vitlab."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlab import files
from vitlab.export.whole import Outputs, Whole, check_new, keep, metadata, noise, one_line, silence
from vitlab.predict import Classifier


def export_program(classifier: Classifier, path: Path) -> dict[str, Any]:
    """Write the network to ``path`` (.pt2): images uint8 or uint16 [B, H, W, C] -> (logits float32 [B, K],). B is free.

        program = torch.export.load("run.pt2").module()
        (logits,) = program(images)

    Before the file is kept, it is read again and its answers are compared with torch's. Its extra file "vitlab.json"
    holds classes and digest. ConfigError if ``path`` exists; ExportError if the answers differ.
    """
    check_new(path)
    whole = Whole(classifier).eval()
    data = program_bytes(whole, metadata(classifier))
    with one_line(f"{path} is not kept: it cannot be read again"), silence():
        again = torch.export.load(io.BytesIO(data)).module()

    def copy(images: Tensor) -> Outputs:
        with torch.inference_mode():
            return dict(zip(whole.names, again(images), strict=True))

    return keep(classifier, whole, path, data, copy, "torch")


def program_bytes(whole: Whole, about: dict[str, Any]) -> bytes:
    """The file, with ``about`` as metadata."""
    example = noise(whole.shape, 2, whole.bits)  # with one image, torch would treat the batch size as a constant
    whole(example)  # creates the constants of preprocessing before the tracing
    stream = io.BytesIO()
    with one_line("torch cannot write this network as a program"), silence(), torch.no_grad():
        program = torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths on this machine
        program.example_inputs = None  # torch would put the example into the file, as a pickle
        torch.export.save(program, stream, extra_files={"vitlab.json": files.to_json(about)})
    return stream.getvalue()
