"""The stack of transformer blocks as one C kernel, compiled at first use by the system's compiler."""

from vitlab.native.blocks import BLOCK_WEIGHTS, BlockShape, native_blocks
from vitlab.native.build import Kind, Library, NativeError, load

__all__ = ["BLOCK_WEIGHTS", "BlockShape", "Kind", "Library", "NativeError", "load", "native_blocks"]
