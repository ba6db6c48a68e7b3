"""An ONNX file whose products run in int8: ONNX Runtime's static quantization, calibrated on the run's own images."""

from __future__ import annotations

import contextlib
import importlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitlab.export.whole import one_line, silence

CALIBRATION = 512  # images
TOGETHER = 64
OPERATIONS = ["MatMul", "Gemm", "Conv"]


class Calibration:
    """Batches of images, as ONNX Runtime asks for them."""

    def __init__(self, images: Tensor) -> None:
        self.parts: Iterator[Tensor] = iter(images[:CALIBRATION].split(TOGETHER))

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """The next batch; None at the end."""
        part = next(self.parts, None)
        return None if part is None else {"images": part.numpy()}


def quantized(data: bytes, images: Tensor) -> bytes:
    """The ONNX file ``data`` with weights and inputs of all products as int8: weights with a scale for each channel,
    inputs with the range that ``images`` show."""
    quantization = importlib.import_module("onnxruntime.quantization")
    shapes = importlib.import_module("onnxruntime.quantization.shape_inference")
    with tempfile.TemporaryDirectory(prefix="vitlab-int8-") as name, one_line("ONNX Runtime cannot round this network"):
        whole, inferred, rounded = (Path(name) / f"{step}.onnx" for step in ("whole", "inferred", "rounded"))
        whole.write_bytes(data)
        with silence(), quiet():
            shapes.quant_pre_process(str(whole), str(inferred), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(inferred),
                str(rounded),
                Calibration(images),
                per_channel=True,
                op_types_to_quantize=OPERATIONS,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        return rounded.read_bytes()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings that quantization writes to the root logger."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
