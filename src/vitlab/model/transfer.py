"""Weights of one network as the start of another: what fits is taken, tables of another grid are interpolated, the rest
is left as it was initialised.

Letters in names: N tokens, D embed_dim, h heads, C channels, K classes, S side of a patch with its overlap.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.config import ModelConfig
from vitlab.errors import ConfigError
from vitlab.model.block import shared_by_offset
from vitlab.text import few, listed

EMBEDDING = ("patch_embed", "pos_embed", "cls_token")
WORDS = {"patch_embed": "patch embedding", "pos_embed": "positions", "cls_token": "class token", "norm": "last norm"}
STACKS = {"blocks": "block", "convs": "convolution", "stages": "stage"}


@dataclass(frozen=True)
class Shape:
    """A network as far as the shapes of its weights depend on it."""

    config: ModelConfig
    channels: int
    classes: tuple[str, ...]


@dataclass
class Transfer:
    """What became of each parameter of the new network, by name: ``taken`` as it was, ``adapted`` (interpolated, or for
    other channels), ``partly`` taken (rows of the head), ``new``; and ``left``: those of the old one without use."""

    taken: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def old(self) -> frozenset[str]:
        """The parameters that hold what was learned, wholly: `init_lr_scale` is for them."""
        return frozenset(self.taken + self.adapted)

    def line(self) -> str:
        """What was taken, adapted, new and left, in one line without a full stop."""
        total = len(self.taken + self.adapted + self.partly + self.new)
        said = [f"{len(self.taken)} of {total} tensors taken as they are"]
        for names, word in ((self.adapted, "adapted"), (self.partly, "rows kept for known classes"), (self.new, "new")):
            if names:
                said.append(f"{word}: {in_words(names)}")
        if self.left:
            said.append(f"without use here: {in_words(self.left)}")
        return "; ".join(said)


def in_words(names: Collection[str]) -> str:
    """Parameters by their parts: "positions, head and blocks 3 to 5"."""
    parts: dict[str, None] = {}
    numbers: dict[str, set[int]] = {}
    for name in names:
        first, *rest = name.split(".")
        if first in STACKS and rest[1:] != ["attn", "bias"]:
            numbers.setdefault(first, set()).add(int(rest[0]) + 1)
        elif first not in STACKS:
            parts[WORDS.get(first, first)] = None
    alone = {int(name.split(".")[1]) + 1 for name in names if name.endswith(".attn.bias")}
    if alone - numbers.get("blocks", set()):
        parts["attention bias"] = None
    return few([*parts, *(spans(STACKS[kind], found) for kind, found in numbers.items())], most=5)


def spans(word: str, numbers: set[int]) -> str:
    """block 3; blocks 3 to 5; blocks 1 and 4."""
    first, last = min(numbers), max(numbers)
    if first == last:
        return f"{word} {first}"
    whole = len(numbers) == last - first + 1
    return f"{word}s {first} to {last}" if whole else f"{word}s {listed([str(one) for one in sorted(numbers)])}"


def transfer(
    weights: Mapping[str, Tensor], old: Shape, new: Shape, fresh: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], Transfer]:
    """The ``weights`` of the network ``old`` for the network ``new``; ``fresh`` is its newly initialised state, which
    is kept where nothing fits.

    ConfigError for another kind of network, or if no weight of a block fits.

    >>> import torch
    >>> shape = Shape(vitlab.preset_config("small").model, 1, ("a", "b"))
    >>> weights = vitlab.build_model(shape.config, 1, 2).state_dict()
    >>> _, done = transfer(weights, shape, Shape(shape.config, 1, ("b", "c")), weights)
    >>> done.partly
    ['head.1.weight', 'head.1.bias']
    """
    if old.config.arch != new.config.arch:
        raise ConfigError(
            f"weights of arch {old.config.arch} cannot start a network of arch {new.config.arch}; "
            f"leave out --arch, or use another run"
        )
    result, done = {}, Transfer()
    for name, own in fresh.items():
        value = fitted(name, weights.get(name), own, old, new)
        kind = done.new if value is None else done.adapted
        if value is not None and name.startswith("head.") and is_last(name, fresh):
            value, whole = rows_by_class(value, own, old.classes, new.classes)
            kind = done.adapted if whole else done.partly if set(old.classes) & set(new.classes) else done.new
        result[name] = own.clone() if value is None else value.to(own.dtype).contiguous().clone()
        given = weights.get(name)
        if kind is done.adapted and given is not None and torch.equal(result[name], given):
            kind = done.taken
        kind.append(name)
    done.left.extend(name for name in weights if name not in fresh)
    if not any(name.startswith(("blocks.", "convs.", "stages.")) for name in done.taken + done.adapted):
        changed = [
            f"{name} {getattr(old.config, name)} became {getattr(new.config, name)}"
            for name in ("embed_dim", "num_heads", "head_dim", "mlp_ratio", "attn_form", "cnn_channels")
            if getattr(old.config, name) != getattr(new.config, name)
        ]
        raise ConfigError(f"no weight of a block fits: {listed(changed)}; keep what the weights were trained with")
    return result, done


def fitted(name: str, given: Tensor | None, own: Tensor, old: Shape, new: Shape) -> Tensor | None:
    """The weight ``given`` for the place of ``own``; None if it cannot fit. Rows of the last layer are chosen later."""
    a, b = old.config, new.config
    first, last = name.split(".")[0], name.rsplit(".", 1)[-1]
    if given is None:
        return None
    if name == "patch_embed.weight":
        value = adapt_patches(given, old, new) if given.shape[0] == own.shape[0] else None
    elif name == "pos_embed":
        value = resize_tokens(given, 0, grids(a), grids(b)) if given.shape[1] == own.shape[1] else None
    elif ".attn." in name and (a.num_heads, a.width_per_head, a.attn_form) != (
        b.num_heads,
        b.width_per_head,
        b.attn_form,
    ):
        return None  # the same numbers would be cut into other heads
    elif name.endswith(".attn.bias"):
        value = resize_tokens(resize_tokens(given, 1, grids(a), grids(b)), 2, grids(a), grids(b))
        if b.attn_bias_shared:
            value = shared_by_offset(value, b.grid)
    elif name in ("convs.0.weight", "stages.0.conv.weight"):
        value = adapt_channels(given, 1, new.channels)
    elif first == "head":
        return fitted_head(name, given, own, old, new)
    else:
        value = given
    return value if value is not None and (value.shape == own.shape or last == "head") else None


def fitted_head(name: str, given: Tensor, own: Tensor, old: Shape, new: Shape) -> Tensor | None:
    """A layer of the head; of the last one with the rows of the old classes."""
    a, b = old.config, new.config
    if a.head_hidden != b.head_hidden or a.pool != b.pool:
        return None
    if name == "head.1.weight" and b.pool == "flatten" and b.arch in ("vit", "mixer") and a.grid != b.grid:
        if a.embed_dim != b.embed_dim:
            return None
        table = given.unflatten(1, (a.grid**2, a.embed_dim))
        # The sum over more tokens must stay as large as it was.
        given = resize_tokens(table, 1, grids(a), grids(b)).flatten(1) * (a.grid / b.grid) ** 2
    return given if given.shape[1:] == own.shape[1:] else None


def is_last(name: str, fresh: Mapping[str, Tensor]) -> bool:
    """Whether ``name`` belongs to the layer that makes the class scores."""
    layers = [int(one.split(".")[1]) for one in fresh if one.startswith("head.")]
    return int(name.split(".")[1]) == max(layers)


def rows_by_class(given: Tensor, own: Tensor, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[Tensor, bool]:
    """``own`` with the rows of those classes whose names the old network knew, and whether these are all."""
    rows, known = own.clone(), {name: row for row, name in enumerate(old)}
    for row, name in enumerate(new):
        if name in known:
            rows[row] = given[known[name]]
    return rows, set(new) <= known.keys()


# --- Tables over another grid, other channels, other patches


def grids(config: ModelConfig) -> tuple[bool, int]:
    """Whether a class token comes first, and the patches per side."""
    return config.pool == "cls", config.grid


def resize_tokens(table: Tensor, axis: int, old: tuple[bool, int], new: tuple[bool, int]) -> Tensor:
    """A table with an axis of tokens for another grid: bicubic, with antialiasing where the new grid is coarser, as
    timm's `resample_abs_pos_embed`. The class token's entry is kept apart; where only the new network has such a token
    it is 0."""
    if old == new:
        return table
    (has_token, side), (wants_token, other) = old, new
    last = table.movedim(axis, -1)
    token, places = last[..., :1] if has_token else torch.zeros_like(last[..., :1]), last[..., has_token:]
    if side != other:
        square = places.reshape(1, -1, side, side).float()
        square = F.interpolate(square, size=(other, other), mode="bicubic", antialias=True, align_corners=False)
        places = square.reshape(*places.shape[:-1], other**2).to(table.dtype)
    return torch.cat([token, places] if wants_token else [places], dim=-1).movedim(-1, axis)


def adapt_channels(weight: Tensor, axis: int, channels: int) -> Tensor:
    """A weight for another number of input channels. From one: copied and divided by their number, so that a grey image
    in colour gives what it gave; to one: summed; otherwise repeated in turn and scaled, as in timm."""
    had = weight.shape[axis]
    if had == channels:
        return weight
    if channels == 1:
        return weight.sum(dim=axis, keepdim=True)
    chosen = torch.arange(channels, device=weight.device) % had
    return weight.index_select(axis, chosen) * (had / channels)


def adapt_patches(weight: Tensor, old: Shape, new: Shape) -> Tensor:
    """The patch embedding [D, S S C] for other channels and other patches.

    Another overlap: cut off, or filled with 0, which computes the same. Another patch size: the weight whose product
    with an enlarged patch is nearest to what it was, ``pinv(B^T) w`` with B the bicubic resizing (Beyer et al. 2023,
    "FlexiViT", equation 2).
    """
    a, b = old.config, new.config
    before, after = (c.patch_size + 2 * c.patch_overlap for c in (a, b))
    table = adapt_channels(weight.unflatten(1, (before, before, old.channels)), 3, new.channels)
    if a.patch_size == b.patch_size:
        pad = b.patch_overlap - a.patch_overlap
        return F.pad(table, (0, 0, pad, pad, pad, pad)).flatten(1)
    if before != after:
        resize = resizing(before, after).T  # [before^2, after^2]
        table = torch.einsum("ab,dac->dbc", torch.linalg.pinv(resize.double()).T, table.flatten(1, 2).double())
    return table.flatten(1).to(weight.dtype)


def resizing(before: int, after: int) -> Tensor:
    """The matrix [after^2, before^2] that resizes a square of pixels."""
    squares = torch.eye(before**2).reshape(-1, 1, before, before)
    return F.interpolate(squares, size=(after, after), mode="bicubic", align_corners=False).flatten(1).T


# --- Freezing


def frozen_parameters(model: nn.Module, freeze: str) -> frozenset[str]:
    """The names of the parameters that ``freeze`` keeps as they are (`vitlab.config.OptimConfig`); ConfigError if the
    network has no such part."""
    names = [name for name, _ in model.named_parameters()]
    if freeze == "none":
        return frozenset()
    if freeze == "all-but-head":
        return frozenset(name for name in names if not name.startswith("head."))
    embedding = [name for name in names if name.split(".")[0] in EMBEDDING]
    if freeze == "patches":
        if not embedding:
            raise ConfigError("freeze patches: this network has no patch embedding; use blocks:N or all-but-head")
        return frozenset(embedding)
    count = int(freeze.removeprefix("blocks:"))
    numbers = {name: int(found[2]) for name in names if (found := re.match(rf"({'|'.join(STACKS)})\.(\d+)\.", name))}
    if count > max(numbers.values()) + 1:
        raise ConfigError(f"freeze {freeze}: this network has only {max(numbers.values()) + 1} blocks; use fewer")
    return frozenset(embedding + [name for name, number in numbers.items() if number < count])
