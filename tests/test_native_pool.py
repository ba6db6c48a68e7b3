"""The pool of threads: each piece once, whoever does it; the same bits however the threads are interrupted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.test_native import library
from vitlab.native import ops
from vitlab.native.build import SOURCES, Library
from vitlab.native.ops import BlockShape, Kernels, Stack

embed: Any = ops.embed  # called with several of their arguments from a list
readout: Any = ops.readout

BATCH, TOKENS, DIM, HIDDEN, CLASSES, ROUNDS = 61, 9, 16, 23, 5, 3


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of native_pool.c, under the thread sanitizer where the compiler has it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("pool") / "ask"
    sources = [str(Path(__file__).parent / "native_pool.c"), str(SOURCES / "pool.c"), f"-I{SOURCES}"]
    words = [compiler, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *sources, "-lm", "-o"]
    for options in (["-fsanitize=thread"], []):
        made = subprocess.run([*words, str(program), *options], capture_output=True, check=False).returncode == 0
        # On some systems the sanitizer cannot work, and ends every program.
        if made and subprocess.run([program, "nothing"], capture_output=True, check=False).returncode == 0:
            return program
    raise AssertionError("pool.c does not compile")


@pytest.mark.parametrize("question", ["many", "together", "asleep", "forked"])
def test_work_is_shared_and_those_who_wait_sleep(ask: Path, question: str) -> None:
    """The sanitizer does not know that the child of a fork begins with a new pool, and would end it."""
    environment = os.environ | {"TSAN_OPTIONS": "die_after_fork=0"}
    done = subprocess.run([ask, question], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


@contextmanager
def interrupted(kernels: Library) -> Iterator[None]:
    """All threads sleep now and then, so that others do their pieces."""
    kernels.c.vitlab_interrupt(300)
    try:
        yield
    finally:
        kernels.c.vitlab_interrupt(0)


def training_step(kernels: Kernels) -> list[Tensor]:
    """The results of every kernel in a step on ``BATCH`` images: outputs, gradients, changed weights."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).requires_grad_()

    shape = BlockShape(DIM, 2, 1, DIM, HIDDEN, "merged", rms=True, relu2=False)
    block = [None, None, random(DIM, DIM), None, random(DIM, DIM), None, random(1, TOKENS, TOKENS)]
    block += [None, None, random(HIDDEN, DIM), None, random(DIM, HIDDEN), None]
    ends = [random(DIM, 16), random(DIM), random(TOKENS, DIM), random(CLASSES, TOKENS * DIM), random(CLASSES)]
    images, draws = random(BATCH, 1, 12, 12).detach(), torch.rand(BATCH, 7, generator=draw)
    weights = [torch.ones(12, 5), torch.ones(12, 5)]
    images = ops.affine(images, draws, (5.0,) * 7, 0.0, weights, False, kernels)
    mask = ops.dropout_mask(torch.Size([50_021]), 0.5, torch.float32, kernels, seed=3)
    x_BND = ops.blocks(embed(images, *ends[:3], (4, 0, 0), kernels), [*block, *block], shape, kernels)
    logits = readout(x_BND, None, None, *ends[3:], True, kernels)
    leaves = [leaf for leaf in (*ends, *block) if leaf is not None]
    gradients = torch.autograd.grad(logits.square().sum(), leaves)
    weight, momentum, grad = (torch.stack([random(11, 7).detach()] * 5) for _ in range(3))
    stack = Stack(weight, momentum, grad, 5, 11, 7)
    ops.muon_step([stack], kernels, memory=0.9, lr=0.1, shrink=0.9, polynomial=(3.4, -4.8, 2.0), rounds=2)
    return [images, mask, logits.detach(), *gradients, stack.weight, stack.momentum]


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_interrupted_threads_give_the_same_bits(threads: int) -> None:
    kernels = Kernels(library("float"), threads)
    calm = training_step(kernels)
    assert all(result.isfinite().all() and result.std() > 0 for result in calm)
    with interrupted(kernels.library):
        for _ in range(ROUNDS):
            assert all(map(torch.equal, training_step(kernels), calm))
