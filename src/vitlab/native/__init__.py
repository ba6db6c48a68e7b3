"""Blocks, dropout, maps of images and Muon's step as C kernels, compiled at first use by the system's compiler."""

from vitlab.native.affine import BEND_POINTS, MOST_SIDE, native_affine
from vitlab.native.blocks import BLOCK_WEIGHTS, BlockShape, native_blocks
from vitlab.native.build import Kind, Library, NativeError, load
from vitlab.native.dropout import dropout_mask
from vitlab.native.muon import Stack, native_muon

__all__ = [
    "BEND_POINTS",
    "BLOCK_WEIGHTS",
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
    "native_muon",
]
