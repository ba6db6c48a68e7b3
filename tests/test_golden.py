"""The seed's networks are the seed's networks: same weights, same numbers as Keras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import golden

FILES = sorted((Path(__file__).parent / "data").glob("*.npz"))


def test_the_three_golden_files_are_here() -> None:
    assert {path.stem for path in FILES} == {"cnn", "vit_28x7", "vit_32x6_cut_edges"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_logits_and_tokens_equal_those_of_keras(path: Path) -> None:
    found = golden.compare(golden.read(path))
    assert found.logits <= 1e-4
    assert found.tokens is None or found.tokens <= 1e-5
    assert found.params_agree


@pytest.mark.parametrize("name", ["w:block0.attn.query.kernel", "w:block0.mlp1.bias", "w:pos_embed", "tokens"])
def test_an_array_in_wrong_order_is_noticed(name: str) -> None:
    arrays = golden.read(FILES[1])
    arrays[name] = arrays[name][::-1].copy()
    assert not golden.compare(arrays).acceptable


def test_the_command_exits_by_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = golden.read(FILES[0])
    np.savez(tmp_path / "wrong.npz", **arrays | {"logits": arrays["logits"] + np.float32(0.01)})
    assert golden.main([str(path) for path in FILES]) == 0
    assert golden.main([str(FILES[1]), str(tmp_path / "wrong.npz")]) == 1
    assert "DIFFERS" in capsys.readouterr().out
