"""One ONNX file (Open Neural Network Exchange), compared in ONNX Runtime before it is kept."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitlab import files
from vitlab.export.whole import (
    ExportError,
    Outputs,
    Whole,
    check_attention,
    check_new,
    compare,
    image_shape,
    metadata,
    noise,
    one_line,
    silence,
)
from vitlab.predict import Classifier

OPSET = 18
NEEDED = ("onnx", "onnxruntime", "onnxscript")


def export_onnx(classifier: Classifier, path: Path, attention: bool = False) -> dict[str, Any]:
    """Write the network to ``path`` as one file: `images` uint8 [B, H, W, C] -> `logits` float32 [B, K] and, with
    ``attention``, `attention_0` ... [B, h, N, N]. B is free. ConfigError if something is there already.

    ONNX Runtime computes it for 1, 2 and 7 images first; ExportError, and no file, if it differs from torch by more
    than 1e-4. Classes, digest and version are in the file's metadata.
    """
    check_new(path)
    check_attention(classifier, attention)
    require()
    whole, shape = Whole(classifier, attention).eval(), image_shape(classifier)
    data = onnx_bytes(whole, shape, metadata(classifier))
    difference = compare(whole, runtime(data, whole.names), shape, str(path))
    files.make_folder(path.absolute().parent)
    files.write_bytes(path, data)
    outputs = {name: list(value.shape[1:]) for name, value in zip(whole.names, whole(noise(shape, 1)), strict=True)}
    return {
        "to": "onnx",
        "path": str(path),
        "bytes": len(data),
        "sha256": files.sha256(data),
        "opset": OPSET,
        "input": ["B", *shape],
        "outputs": {name: ["B", *sizes] for name, sizes in outputs.items()},
        "max_difference": difference,
        "model_sha256": classifier.digest,
    }


def require() -> None:
    """ExportError in one line unless all that an export needs is installed."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ExportError(f"--to onnx needs {name}, which is not installed: pip install 'vitlab[onnx]'") from None


def onnx_bytes(whole: Whole, shape: tuple[int, int, int], about: dict[str, Any]) -> bytes:
    """The file. Traced with two images: of one, torch would take the batch size for a constant."""
    example = noise(shape, 2)
    whole(example)  # so that the constants of preprocessing are made before tracing, and not inside it
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
        del message.metadata_props[:]  # where on this machine each line of code stands
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
