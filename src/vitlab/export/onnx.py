"""One ONNX file (Open Neural Network Exchange), compared in ONNX Runtime before it is kept."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlab import files
from vitlab.errors import import_optional, pip_install
from vitlab.export.gate import Gate
from vitlab.export.onnx_int8 import quantized
from vitlab.export.whole import (
    ExportError,
    Outputs,
    Whole,
    check_new,
    compare,
    keep,
    metadata,
    noise,
    one_line,
    silence,
    write,
)
from vitlab.predict import Classifier

OPSET = 18
NEEDED = ("onnx", "onnxruntime", "onnxscript")


def export_onnx(
    classifier: Classifier, path: Path, attention: bool = False, int8: Gate | None = None
) -> dict[str, Any]:
    """Write the network to ``path`` as one file: `images` uint8 [B, H, W, C] -> `logits` float32 [B, K] and, with
    ``attention``, `attention_0` ... [B, h, N, N]. B is free.

    Before the file is kept, ONNX Runtime's answers are compared with torch's. With ``int8`` its products are then
    rounded to int8, and what that costs is measured. Classes, digest and version are in the file's metadata.
    ConfigError if ``path`` exists; ExportError if the answers differ, if int8 costs too much, if the network has no
    attention to export, or if a package is missing.
    """
    check_new(path)
    why_not = classifier.model.describe().missing.get("attention")
    if attention and why_not:
        raise ExportError(f"{classifier.path} has no attention to export ({why_not}); leave out --attention")
    for name in NEEDED:
        import_optional(name, ExportError(f"--to onnx needs {name}, which is not installed: {pip_install('onnx')}"))
    whole = Whole(classifier, attention).eval()
    data = onnx_bytes(whole, metadata(classifier))
    if int8 is None:
        facts = keep(classifier, whole, path, data, runtime(data, whole.names), "onnx")
    else:
        compare(whole, runtime(data, whole.names), str(path))
        rounded = quantized(data, int8.images)
        cost = int8.check(whole, runtime(rounded, whole.names), path)
        facts = write(classifier, whole, path, rounded, "onnx") | {"int8": cost}
    return facts | {"opset": OPSET}


def onnx_bytes(whole: Whole, about: dict[str, Any]) -> bytes:
    """The file, with ``about`` as metadata."""
    example = noise(whole.shape, 2)  # with one image, torch would treat the batch size as a constant
    whole(example)  # creates the constants of preprocessing before the tracing
    with one_line("torch cannot write this network as ONNX"), silence():
        program = torch.onnx.export(
            whole,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=whole.names,
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
    for message in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del message.metadata_props[:]  # paths on this machine
    for key, value in about.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else files.to_json(value, indent=None)
    return bytes(proto.SerializeToString())


def runtime(data: bytes, names: list[str]) -> Any:
    """The file as a function: images -> its outputs by name."""
    onnxruntime = importlib.import_module("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(data, settings, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Outputs:
        return dict(zip(names, map(torch.from_numpy, session.run(names, {"images": images.numpy()})), strict=True))

    return run
