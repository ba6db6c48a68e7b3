"""A program of `torch.export`: one file that runs with torch alone, without vitlab."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlab import files
from vitlab.export.whole import Outputs, Whole, check_new, compare, image_shape, metadata, noise, one_line, silence
from vitlab.predict import Classifier


def export_program(classifier: Classifier, path: Path) -> dict[str, Any]:
    """Write the network to ``path`` (.pt2): images uint8 [B, H, W, C] -> (logits float32 [B, K],). B is free.

        program = torch.export.load("run.pt2").module()
        (logits,) = program(images)

    The file is read again and computed for 1, 2 and 7 images first; ExportError, and no file, if it differs from the
    network by more than 1e-4. ConfigError if something is there already. Its extra file "vitlab.json" holds classes and
    digest.
    """
    check_new(path)
    whole, shape = Whole(classifier).eval(), image_shape(classifier)
    data = program_bytes(whole, shape, metadata(classifier))
    with one_line(f"{path} is not kept: it cannot be read again"), silence():
        again = torch.export.load(io.BytesIO(data)).module()

    def copy(images: Tensor) -> Outputs:
        with torch.inference_mode():
            return dict(zip(whole.names, again(images), strict=True))

    difference = compare(whole, copy, shape, str(path))
    files.make_folder(path.absolute().parent)
    files.write_bytes(path, data)
    return {
        "to": "torch",
        "path": str(path),
        "bytes": len(data),
        "sha256": files.sha256(data),
        "input": ["B", *shape],
        "outputs": {"logits": ["B", len(classifier.classes)]},
        "max_difference": difference,
        "model_sha256": classifier.digest,
    }


def program_bytes(whole: Whole, shape: tuple[int, int, int], about: dict[str, Any]) -> bytes:
    """The file. Traced with two images: of one, torch would take the batch size for a constant."""
    example = noise(shape, 2)
    whole(example)  # so that the constants of preprocessing are made before tracing, and not inside it
    stream = io.BytesIO()
    with one_line("torch cannot write this network as a program"), silence(), torch.no_grad():
        program = torch.export.export(whole, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # where on this machine each line of code stands
        program.example_inputs = None  # or torch would put the example into the file, as a pickle
        torch.export.save(program, stream, extra_files={"vitlab.json": files.to_json(about)})
    return stream.getvalue()
