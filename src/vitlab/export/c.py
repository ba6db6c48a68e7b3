"""A network as C11: one header and one source file, without malloc and libraries, with the preprocessing inside.

The code that computes is csource/*.c, the same for every network; what is written here are sizes and weights as
constant arrays. Before the files are kept they are compiled, if a C compiler is there, and compared with torch.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from vitlab import __version__, files
from vitlab.export.check import sums
from vitlab.export.gate import Gate
from vitlab.export.int8 import by_rows, rounded, with_int8
from vitlab.export.whole import ExportError, Outputs, Whole, check_new, compare
from vitlab.model import CNN, ViT
from vitlab.model.block import NORM_EPS, Block
from vitlab.model.patches import patch_length
from vitlab.native.build import NativeError, find_compiler
from vitlab.predict import Classifier
from vitlab.runs.folder import SUMS
from vitlab.text import printable

PARTS = Path(__file__).parent / "csource"
HEADER, SOURCE, EXAMPLE, README = "vitlab_model.h", "vitlab_model.c", "example.c", "README.md"
WORDS_IN_LINE = 12
COMPILE_SECONDS = 300
FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared")


class Text:
    """The constant arrays of a network, as C, and how many bytes they take."""

    def __init__(self, int8: bool) -> None:
        self.int8, self.lines, self.bytes = int8, list[str](), 0

    def array(self, name: str, values: Tensor) -> str:
        """A constant array; its name."""
        kind = "int8_t" if values.dtype == torch.int8 else "float"
        words = list(map(number, values.flatten().tolist()))
        rows = [", ".join(words[i : i + WORDS_IN_LINE]) for i in range(0, len(words), WORDS_IN_LINE)]
        self.lines.append(f"static const {kind} {name}[{len(words)}] = {{\n    " + ",\n    ".join(rows) + "};\n")
        self.bytes += values.numel() * values.element_size()
        return name

    def matrix(self, name: str, weight: Tensor, bias: Tensor | None = None) -> str:
        """The arrays of a matrix; its initialiser."""
        rows, scales = by_rows(weight.detach()), "NULL"
        values = rows.float()
        if self.int8:
            values, scale_of_row = rounded(rows)
            scales = self.array(f"{name}_scales", scale_of_row)
        offset = "NULL" if bias is None else self.array(f"{name}_bias", bias.detach())
        return f"{{{self.array(f'{name}_weights', values)}, {scales}, {offset}, {values[0].numel()}}}"

    def vectors(self, name: str, norm: nn.Module) -> str:
        """Gain and offset of a norm; "NULL, NULL" where it has none."""
        if not isinstance(norm, nn.LayerNorm):
            return "NULL, NULL"
        gain, offset = norm.weight.detach(), norm.bias.detach()
        return f"{self.array(f'{name}_gain', gain)}, {self.array(f'{name}_offset', offset)}"

    def declare(self, kind: str, name: str, value: str) -> None:
        """A constant of the struct ``kind``."""
        self.lines.append(f"static const {kind} {name} = {value};\n")


def export_c(classifier: Classifier, out: Path, int8: Gate | None = None) -> dict[str, Any]:
    """Write the network to the new folder ``out`` as C11. `int vitlab_predict(const uint8_t *image, float *logits)`
    takes an image [H, W, C] as it is in the data set and returns the class with the largest logit.

    Before the files are kept they are compiled, if a C compiler is there, and their answers are compared with torch's.
    With ``int8``, matrices are stored as int8 with a scale for each row, what that costs is measured, and the network
    with these weights is what the code is compared with. ConfigError if ``out`` exists; ExportError for other
    networks than ViT and CNN, if int8 costs too much, or if the compiled code's answers differ.
    """
    check_new(out, folder=True)
    if not isinstance(classifier.model, ViT | CNN):
        arch = classifier.config.model.arch
        raise ExportError(f"{classifier.path}: a network of arch {arch} cannot be written as C; use --to onnx")
    if classifier.bits == 16:
        raise ExportError(f"{classifier.path}: its images have 16 bits, and the code in C takes bytes; use --to onnx")
    code, flash, memory = source(classifier, int8 is not None)
    content = {HEADER: header(classifier).encode(), SOURCE: code.encode()}
    content[EXAMPLE] = (PARTS / EXAMPLE).read_bytes()
    whole, cost = Whole(classifier).eval(), {}
    if int8:
        exact, whole.model = Whole(classifier).eval(), with_int8(whole.model)
        cost = {"int8": int8.check(exact, lambda images: {"logits": whole(images)[0]}, out)}
    difference = checked(whole, content, out)
    content[README] = readme(classifier, int8 is not None, flash, memory).encode()
    content[SUMS] = sums(content)
    files.write_folder(out, content, HEADER)
    return {
        "to": "c",
        "path": str(out),
        "files": len(content),
        "weights": "int8" if int8 else "float32",
        "weight_bytes": flash,
        "memory_bytes": memory,
        "input": list(whole.shape),
        "outputs": {"logits": [len(classifier.classes)]},
        "max_difference": difference,
        "model_sha256": classifier.digest,
    } | cost


def header(classifier: Classifier) -> str:
    """The header: sizes, names of the classes, and the function."""
    height, width = classifier.stored_size
    sizes = {"HEIGHT": height, "WIDTH": width, "CHANNELS": classifier.channels, "CLASSES": len(classifier.classes)}
    lines = [f"#define VITLAB_{name} {value}" for name, value in sizes.items()]
    names = ", ".join(map(quoted, classifier.classes))
    about = comment(
        f"{classifier.name}: {classifier.model.describe().line}. Written by vitlab {__version__}; "
        f"SHA-256 of the weights: {classifier.digest}"
    )
    return f"""/* {about} */
#ifndef VITLAB_MODEL_H
#define VITLAB_MODEL_H

#include <stdint.h>

{chr(10).join(lines)}
#define VITLAB_NAMES {{{names}}}

#ifdef __cplusplus
extern "C" {{
#endif
/* Classifies one image: VITLAB_HEIGHT x VITLAB_WIDTH x VITLAB_CHANNELS bytes, row by row, the channels of a pixel
   together, as in the data set (for digits: white ink on black). Returns the class with the largest logit; `logits` has
   room for VITLAB_CLASSES numbers. The working memory is static, so only one call may run at a time. */
int vitlab_predict(const uint8_t *image, float *logits);
#ifdef __cplusplus
}}
#endif

#endif
"""


def source(classifier: Classifier, int8: bool) -> tuple[str, int, int]:
    """The source file, the bytes of its weights, and the bytes of its working memory."""
    text = Text(int8)
    model, preprocess = classifier.model, classifier.preprocess
    side = preprocess.image_size
    crop = side if preprocess.crop is None else min(preprocess.crop, side)
    sizes: dict[str, int | str] = {"RESIZED": side, "CROPPED": (side - crop) // 2}
    if isinstance(model, ViT):
        own, memory, body = vit_arrays(model, classifier.channels, text), vit_memory(model), "vit.c"
    else:
        own, memory, body = cnn_arrays(cast(CNN, model), crop, text), cnn_memory(cast(CNN, model), crop), "cnn.c"
    mean, deviation = (torch.tensor(values) for values in (preprocess.mean, preprocess.std))
    first = Text(int8)
    first.array("mean", mean)
    first.array("deviation", deviation)
    common = (PARTS / "common.c").read_text()
    top = [
        f"/* See {HEADER}. */",
        "#include <math.h>\n#include <stddef.h>\n",
        f'#include "{HEADER}"\n',
        *(f"#define {name} {value}" for name, value in (sizes | own).items()),
        f"\ntypedef {'int8_t' if int8 else 'float'} weight;\n",
        *first.lines,
    ]
    struct, code = split(body)
    return "\n".join([*top, common, struct, *text.lines, code]), text.bytes + first.bytes, memory


def split(name: str) -> tuple[str, str]:
    """The types of a file of csource, which the arrays need, and its code, which needs the arrays."""
    types, _, code = (PARTS / name).read_text().partition("/* ARRAYS */\n")
    return types, code


def vit_arrays(model: ViT, channels: int, text: Text) -> dict[str, int | str]:
    """Write the arrays of a ViT; the macros that csource/vit.c needs."""
    config = model.config
    text.declare("matrix", "embedding", text.matrix("embedding", model.patch_embed.weight, model.patch_embed.bias))
    if model.cls_token is not None:
        text.array("class_token", model.cls_token.detach())
    if config.pos_embed != "none":
        text.declare("matrix", "positions", text.matrix("positions", model.pos_embed))
    has_bias = config.attn_bias and config.attn_form != "none"
    blocks = [block_initialiser(i, cast(Block, block), text) for i, block in enumerate(model.blocks)]
    text.declare("block", f"blocks[{len(blocks)}]", "{\n    " + ",\n    ".join(blocks) + "}")
    if text.vectors("final", model.norm).startswith("NULL"):
        text.lines += [f"static const float *const final_{name} = NULL;\n" for name in ("gain", "offset")]
    dense = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    hidden = [text.matrix(f"head{i}", layer.weight, layer.bias) for i, layer in enumerate(dense[:-1])]
    if hidden:
        widths = ", ".join(str(layer.out_features) for layer in dense[:-1])
        text.declare("matrix", f"head_layers[{len(hidden)}]", "{" + ", ".join(hidden) + "}")
        text.declare("int", f"head_widths[{len(hidden)}]", "{" + widths + "}")
    text.declare("matrix", "classify", text.matrix("classify", dense[-1].weight, dense[-1].bias))
    return {
        "GRID": config.grid,
        "PATCH": config.patch_size,
        "OVERLAP": config.patch_overlap,
        "MARGIN": config.margin,
        "COVERED": config.grid * config.patch_size + 2 * config.margin,
        "PATCH_LENGTH": patch_length(config.patch_size, config.patch_overlap, channels),
        "CLASS_TOKEN": int(model.cls_token is not None),
        "TOKENS": model.num_tokens,
        "DIM": config.embed_dim,
        "DEPTH": config.depth,
        "ATTENTION": {"none": 0, "qkv": 1, "merged": 2}[config.attn_form],
        "HEADS": config.num_heads,
        "HEAD_DIM": head_width(model),
        "SCALE": number(head_width(model) ** -0.5),
        "HIDDEN": config.mlp_hidden,
        "RELU2": int(config.act == "relu2"),
        "RMS_NORM": int(config.norm == "rms"),
        "NORM_EPS": number(NORM_EPS),
        "LAST_GELU": int(config.mlp_last_gelu),
        "POSITIONS": int(config.pos_embed != "none"),
        "NEEDS_ENTRY": int(config.pos_embed != "none" or has_bias),
        "POOL": {"cls": 0, "mean": 1, "flatten": 2}[config.pool],
        "HEAD_LAYERS": len(hidden),
        "WIDEST": max([layer.out_features for layer in dense[:-1]], default=1),
    }


def block_initialiser(i: int, block: Block, text: Text) -> str:
    """The arrays of a block, and its `block` in csource/vit.c."""
    nothing = "{NULL, NULL, NULL, 0}"
    first, attend, project, bias = "NULL, NULL", nothing, nothing, "NULL"
    if (attn := block.attn) is not None:
        first = text.vectors(f"norm1_{i}", block.norm1)
        mix = attn.q if attn.merged else attn.qkv
        attend = text.matrix(f"attend{i}", mix.weight, mix.bias)
        project = text.matrix(f"project{i}", attn.proj.weight, attn.proj.bias)
        if attn.bias is not None:
            text.declare("matrix", f"pairs{i}", text.matrix(f"pairs{i}", attn.bias))
            bias = f"&pairs{i}"
    second = text.vectors(f"norm2_{i}", block.norm2)
    fc1 = text.matrix(f"fc1_{i}", block.mlp.fc1.weight, block.mlp.fc1.bias)
    fc2 = text.matrix(f"fc2_{i}", block.mlp.fc2.weight, block.mlp.fc2.bias)
    return f"{{{first}, {attend}, {project}, {bias}, {second}, {fc1}, {fc2}}}"


def head_width(model: ViT) -> int:
    """Numbers that a head compares: with merged attention the whole token."""
    return model.config.embed_dim if model.config.attn_form == "merged" else model.config.width_per_head


def vit_memory(model: ViT) -> int:
    """Bytes of the static arrays in csource/vit.c."""
    config, tokens, dim = model.config, model.num_tokens, model.config.embed_dim
    floats = 2 * tokens * dim + model.patch_embed.in_features + config.mlp_hidden + dim
    if config.attn_form != "none":
        floats += 2 * head_width(model) + tokens
    if config.attn_form == "qkv":
        floats += 2 * tokens * head_width(model)
    return 4 * (floats + len(config.head_hidden) * max(config.head_hidden, default=0))


def cnn_arrays(model: CNN, side: int, text: Text) -> dict[str, int | str]:
    """Write the arrays of a CNN; the macros that csource/cnn.c needs."""
    convs = [cast(nn.Conv2d, conv) for conv in model.convs]
    layers = [text.matrix(f"conv{i}", conv.weight.flatten(1), conv.bias) for i, conv in enumerate(convs)]
    text.declare("matrix", f"convolutions[{len(layers)}]", "{" + ", ".join(layers) + "}")
    text.declare("int", f"filters[{len(layers)}]", "{" + ", ".join(str(c.out_channels) for c in convs) + "}")
    dense = cast(nn.Linear, model.head[-1])
    text.declare("matrix", "classify", text.matrix("classify", dense.weight, dense.bias))
    return {"INPUT_SIDE": side, "LAYERS": len(layers), "MOST_NUMBERS": cnn_numbers(model, side), "NEEDS_ENTRY": 0}


def cnn_numbers(model: CNN, side: int) -> int:
    """Numbers of the largest feature map, the input included."""
    numbers = [cast(nn.Conv2d, model.convs[0]).in_channels * side**2]
    for conv in model.convs:
        side = (side - 2) // 2
        numbers.append(cast(nn.Conv2d, conv).out_channels * side**2)
    return max(numbers)


def cnn_memory(model: CNN, side: int) -> int:
    """Bytes of the static arrays in csource/cnn.c."""
    return 4 * 2 * cnn_numbers(model, side)


def number(value: float) -> str:
    """A number as a C literal: the shortest that is read as the same float32."""
    if isinstance(value, int):
        return str(value)
    text = str(np.float32(value))
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"


def quoted(name: str) -> str:
    """A class name as a C string: bytes that are not plain ASCII by their octal number."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in name.encode())
    return f'"{"".join(plain)}"'


def comment(words: str) -> str:
    """Words that cannot end a C comment."""
    return printable(words).replace("*/", "* /").replace("/*", "/ *")


def readme(classifier: Classifier, int8: bool, flash: int, memory: int) -> str:
    """What the files are, what they need, and how to compile them."""
    height, width, channels = (*classifier.stored_size, classifier.channels)
    kind = "int8, with a float32 scale for each row of a matrix" if int8 else "float32"
    return f"""# {printable(classifier.name)} in C

`int vitlab_predict(const uint8_t *image, float *logits)` classifies an image of {height} x {width} x {channels} bytes,
as it is in the data set ({printable(classifier.data_name)}), and returns the class with the largest logit. Scaling,
resizing, cropping and normalising are inside. `{HEADER}` has the sizes and the names of the classes.

- Weights: {flash:,} bytes of constants ({kind}).
- Working memory: {memory:,} bytes, static; the stack takes less than a kilobyte, and nothing is allocated. So only one
  call may run at a time.
- It needs a C11 compiler and, of the standard library, `expf`, `erff` and `sqrtf`.

```
cc -O3 -std=c11 -o example {EXAMPLE} {SOURCE} -lm
./example digit.pgm
```

Written by vitlab {__version__}. SHA-256 of the weights: {classifier.digest}.
"""


def checked(whole: Whole, content: dict[str, bytes], out: Path) -> dict[str, float] | None:
    """The largest difference of the compiled code from torch, as `compare` gives it; None without a compiler."""
    try:
        compiler = find_compiler()
    except NativeError:
        return None
    with tempfile.TemporaryDirectory(prefix="vitlab-c-") as name:
        folder = Path(name)
        for file in (HEADER, SOURCE):
            (folder / file).write_bytes(content[file])
        return compare(whole, compiled(compiler, folder, whole), str(out))


def compiled(compiler: str, folder: Path, whole: Whole, flags: Sequence[str] = FLAGS) -> Callable[[Tensor], Outputs]:
    """The code in ``folder`` as a function: images -> its outputs by name; ExportError if it does not compile."""
    command = [compiler, *flags, str(folder / SOURCE), "-o", str(folder / "model.so"), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportError(
            f"the compiler {compiler} cannot be run ({error}); unset CC to export without a check"
        ) from error
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), f"exit status {done.returncode}")
        raise ExportError(f"{compiler} cannot compile the code ({reason}); please report the run's config.json")
    predict = ctypes.CDLL(str(folder / "model.so")).vitlab_predict
    classes = cast(nn.Linear, whole.model.head[-1]).out_features

    def run(images: Tensor) -> Outputs:
        logits = torch.empty(len(images), classes)
        for image, row in zip(images, logits, strict=True):
            image = image.contiguous()
            predict(ctypes.c_void_p(image.data_ptr()), ctypes.c_void_p(row.data_ptr()))
        return {"logits": logits}

    return run
