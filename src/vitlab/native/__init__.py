"""Patch embedding, blocks, head, dropout, maps of images and Muon's step as C kernels, compiled at first use."""

from vitlab.native.affine import BEND_POINTS, MOST_SIDE, native_affine
from vitlab.native.blocks import BLOCK_WEIGHTS, BlockShape, native_blocks
from vitlab.native.build import Kind, Library, NativeError, load
from vitlab.native.dropout import dropout_mask
from vitlab.native.embed import LANES, native_embed
from vitlab.native.muon import Stack, native_muon
from vitlab.native.readout import MOST_CLASSES, native_readout

__all__ = [
    "BEND_POINTS",
    "BLOCK_WEIGHTS",
    "LANES",
    "MOST_CLASSES",
    "MOST_SIDE",
    "BlockShape",
    "Kind",
    "Library",
    "NativeError",
    "Stack",
    "dropout_mask",
    "load",
    "native_affine",
    "native_blocks",
    "native_embed",
    "native_muon",
    "native_readout",
]
