"""From a plain network to one that computes the same faster: the kernels opt in, everything else stays torch.

One table per kernel lists the fields and values of `ModelConfig` that it supports. For any other field or value,
torch's own operations compute that part, and with `--kernels native` a note gives the reason.
tests/test_accelerate.py compares the tables with the fields of `ModelConfig`, so that a new field cannot be forgotten.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.errors import ConfigError, StorageError
from vitlab.files import user_cache
from vitlab.machine import Machine
from vitlab.model import Network, ViT
from vitlab.model.block import Block
from vitlab.native import ops
from vitlab.native.build import Instructions, Kind, Library, NativeError, load
from vitlab.native.ops import LANES, MOST_CLASSES, BlockShape, Kernels
from vitlab.native.private import make_private
from vitlab.openmp import bound_processors
from vitlab.text import value as shown

Known = Callable[[Any], bool]

# Where --kernels auto uses the kernels. Measured: docs/understand/speed.md, "What `auto` chooses".
FASTER_THAN_TORCH: tuple[Instructions, ...] = ("AVX512-BF16", "AVX-512", "AVX2")


def anything(value: Any) -> bool:
    """The kernel knows every value of the field."""
    return True


def lanes(value: int) -> bool:
    """A width that fills the kernel's vectors."""
    return value % LANES == 0


BLOCKS: dict[str, Known] = {
    **dict.fromkeys(("embed_dim", "depth", "num_heads", "head_dim", "attn_form", "attn_bias", "norm", "act"), anything),
    "attn_bias_shared": anything,
    **dict.fromkeys(("linear_bias", "mlp_ratio", "mlp_last_gelu", "dropout", "attn_dropout"), anything),
    "drop_path": lambda rate: rate == 0.0,
}
EMBEDDING: dict[str, Known] = {
    **dict.fromkeys(("image_size", "crop", "patch_size", "patch_overlap", "pos_embed"), anything),
    "embed_dim": lanes,
    "pool": lambda pool: pool != "cls",
}
READOUT: dict[str, Known] = {
    **dict.fromkeys(("norm", "head_dropout"), anything),  # dropped numbers are torch's: see NativeViT.forward
    "embed_dim": lanes,
    "pool": lambda pool: pool != "cls",
    "head_hidden": lambda widths: widths == (),
}
TABLES: dict[str, Mapping[str, Known]] = {"the blocks": BLOCKS, "the embedding": EMBEDDING, "the head": READOUT}
# Fields that change nothing in what a ViT computes: how weights start, and the knobs of other networks.
UNRELATED = frozenset({"arch", "init", "locality", "patch_init", "cnn_channels", "token_mlp_ratio"})


def unknown_to(table: Mapping[str, Known], config: ModelConfig) -> str | None:
    """The first field, with its value, that keeps a kernel from computing a part of the network; None if it can."""
    listed, names = UNRELATED.union(*TABLES.values()), [field.name for field in fields(config)]
    unlisted = [name for name in names if name not in listed]
    unknown = [name for name in names if name in table and not table[name](getattr(config, name))]
    first = next(iter(unlisted + unknown), None)
    return None if first is None else f"{first} {shown(getattr(config, first))}"


def load_kernels(machine: Machine, note: Callable[[str], None]) -> tuple[Kernels | None, Machine]:
    """The compiled kernels, where this machine can use them, and the machine as it was decided.

    ConfigError if they were asked for and are unavailable; ``note`` gets the reason where ``auto`` wanted them. Another
    VitlabError if they cannot be compiled now, but perhaps later: the choice is never left to chance.
    """
    reasons = {
        "--kernels plain was given": machine.kernels == "plain",
        "they run only on a CPU": machine.device.type != "cpu",
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if reason is None:
        try:
            found = library("bf16" if machine.precision == "bf16" else "float")
            if machine.kernels == "auto" and found.instructions not in FASTER_THAN_TORCH:
                raise NativeError(f"they are faster only with {', '.join(FASTER_THAN_TORCH)}")
            return with_kernels(found, machine, note)
        except NativeError as error:
            reason = str(error)
            if machine.kernels == "auto":
                note(f"using torch's own operations instead of vitlab's kernels: {reason}")
    if machine.kernels == "native":
        raise ConfigError(f"native kernels are unavailable: {reason}; use --kernels plain or auto")
    return None, replace(machine, kernels="plain")


def with_kernels(found: Library, machine: Machine, note: Callable[[str], None]) -> tuple[Kernels, Machine]:
    """The kernels, and the machine that uses them; ``note`` gets what the library remarks, once a process."""
    while found.remarks:
        note(found.remarks.pop(0))
    found.use_processors(bound_processors())
    by = found.multiplies_by
    machine = replace(machine, kernels="native", kernels_digest=found.digest, kernels_multiply_by=by)
    return Kernels(found, machine.threads), machine


@cache
def library(kind: Kind) -> Library:
    """The library of this process whose products run in ``kind``: asking the compiler about the processor takes a
    moment."""
    return load(kind, user_cache() / "native")


def accelerate(
    model: Network, machine: Machine, note: Callable[[str], None]
) -> tuple[Network, Kernels | None, Machine]:
    """A network that computes the same as ``model``, as fast as ``machine`` can; use it in place of ``model``, whose
    weights it takes over. With it come the kernels, for optimizer and augmentation, and the machine as decided.

    ConfigError if kernels were asked for and are unavailable on this machine. ``note`` gets the parts that the
    kernels do not support, if they were asked for by name.
    """
    asked = machine.kernels == "native"
    kernels, machine = load_kernels(machine, note)
    if isinstance(model, ViT):
        model.fuse_attention(machine.fuses_attention(model.config.grid**2))
    if machine.compile:
        keep_compiled_code_private(note)
        model.compile()  # it cannot look into C kernels
    elif kernels is not None:
        use_native_dropout(model, kernels)
        if isinstance(model, ViT):
            model = NativeViT(model, kernels)
            if not model.left_to_torch and not model.config.head_dropout:
                # Little is left for torch, whose threads would wait for it on the cores that the kernels need.
                machine = replace(machine, torch_threads=1)
        for reason in reasons_for_torch(model) if asked else ():
            note(reason)
    return model, kernels, machine


def keep_compiled_code_private(note: Callable[[str], None]) -> None:
    """Let torch.compile keep its code in the user's cache: its own folder in /tmp has a name that anyone can take."""
    if "TORCHINDUCTOR_CACHE_DIR" in os.environ:
        return
    folder = user_cache() / "inductor"
    try:
        make_private(folder)
    except StorageError as error:
        note(f"compiling the network for this process alone: {error}")
        folder = Path(tempfile.mkdtemp(prefix="vitlab-inductor-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def reasons_for_torch(model: nn.Module) -> list[str]:
    """Which parts of a network torch computes, not the kernels, and why: one line each."""
    if not isinstance(model, NativeViT):
        return ["torch computes the whole network: the kernels support only the ViT"]
    return [f"torch computes {part}: the kernels do not support {why}" for part, why in model.left_to_torch.items()]


class NativeViT(ViT):
    """A ViT whose embedding, blocks and head are computed by C kernels where they know the configuration. It shares all
    parameters with the network that it is made from."""

    def __init__(self, plain: ViT, kernels: Kernels) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(plain))
        self.kernels = kernels
        unknown = {part: unknown_to(table, plain.config) for part, table in TABLES.items()}
        self.left_to_torch = {part: why for part, why in unknown.items() if why is not None}
        classes = cast(nn.Linear, plain.head[-1]).out_features
        if classes > MOST_CLASSES:
            self.left_to_torch.setdefault("the head", f"{classes} classes")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """As `ViT.forward`."""
        drops = self.training and self.config.head_dropout > 0
        if "the head" in self.left_to_torch or drops:
            return super().forward(images_BCHW)
        x_BND = self.through_blocks(self.tokens(images_BCHW)).to(self.kernels.library.dtype)
        dense = cast(nn.Linear, self.head[-1])
        weight = dense.weight
        if (
            self.config.pool == "mean"
        ):  # the mean of all tokens, then W, is all tokens side by side, then W / N for each
            weight = (weight / self.num_tokens).repeat(1, self.num_tokens)
        return ops.readout(
            x_BND, *gain_and_offset(self.norm), weight, dense.bias, self.config.norm == "rms", self.kernels
        )

    def tokens(self, images_BCHW: Tensor) -> Tensor:
        """As `ViT.tokens`."""
        if "the embedding" in self.left_to_torch or images_BCHW.requires_grad:
            return super().tokens(images_BCHW)
        config = self.config
        places = None if config.pos_embed == "none" else self.pos_embed
        cut = config.patch_size, config.patch_overlap, config.margin
        images = images_BCHW.to(self.kernels.library.dtype)
        return ops.embed(images, self.patch_embed.weight, self.patch_embed.bias, places, cut, self.kernels)

    def through_blocks(self, x_BND: Tensor) -> Tensor:
        """As `ViT.through_blocks`."""
        if "the blocks" in self.left_to_torch:
            return super().through_blocks(x_BND)
        weights = [weight for block in self.blocks for weight in weights_of(cast(Block, block))]
        shape = block_shape(self.config, self.training)
        seed = int(torch.randint(2**32, ())) if shape.dropout or shape.attn_dropout else 0
        return ops.blocks(x_BND, weights, shape, self.kernels, seed)


def block_shape(config: ModelConfig, training: bool) -> BlockShape:
    """The blocks of ``config`` in the kernel's terms; ``training`` decides on dropout."""
    return BlockShape(
        dim=config.embed_dim,
        depth=config.depth,
        heads=config.num_heads,
        head_dim=config.embed_dim if config.attn_form == "merged" else config.width_per_head,
        hidden=config.mlp_hidden,
        attention=config.attn_form,
        rms=config.norm == "rms",
        relu2=config.act == "relu2",
        last_gelu=config.mlp_last_gelu,
        dropout=config.dropout if training else 0.0,
        attn_dropout=config.attn_dropout if training else 0.0,
    )


def weights_of(block: Block) -> list[Tensor | None]:
    """All parameters of a block in the order of ``ops.BLOCK_WEIGHTS``, None for those it does not have."""
    attention: list[Tensor | None] = [None] * 7
    if block.attn is not None:
        mix = block.attn.q if block.attn.merged else block.attn.qkv
        attention = [*gain_and_offset(block.norm1), mix.weight, mix.bias]
        attention += [block.attn.proj.weight, block.attn.proj.bias, block.attn.table]
    mlp = [block.mlp.fc1.weight, block.mlp.fc1.bias, block.mlp.fc2.weight, block.mlp.fc2.bias]
    return [*attention, *gain_and_offset(block.norm2), *mlp]


def gain_and_offset(norm: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """The parameters of a norm, None twice where it has none."""
    return (norm.weight, norm.bias) if isinstance(norm, nn.LayerNorm) else (None, None)


class NativeDropout(nn.Module):
    """Dropout whose mask comes from a kernel: a head with all tokens side by side drops many numbers."""

    def __init__(self, rate: float, kernels: Kernels) -> None:
        super().__init__()
        self.rate, self.kernels = rate, kernels

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Dropout`."""
        if not self.training or not self.rate:
            return x
        return x * ops.dropout_mask(x.shape, self.rate, x.dtype, self.kernels, int(torch.randint(2**32, ())))


def use_native_dropout(model: nn.Module, kernels: Kernels) -> None:
    """Replace the dropout of a network's head, which is one module however often it occurs there."""
    head = cast(nn.Sequential, model.head)
    for index, layer in enumerate(head):
        if isinstance(layer, nn.Dropout):
            head[index] = NativeDropout(layer.p, kernels)
