"""The MLP-Mixer: its arithmetic against the paper's formula in NumPy, and everything else that a network must do."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import erf
from torch.utils.flop_counter import FlopCounterMode

from tests.command import vitlab
from tests.made_runs import make_run
from tests.tiny import tiny_config, write_npz
from vitlab import Reporter, evaluate_run, resume_run, train_run
from vitlab.config import ModelConfig, RunConfig
from vitlab.errors import ConfigError
from vitlab.export.web import export_web
from vitlab.model import VIEWS, build_model, count_parameters
from vitlab.predict import Classifier

Array = npt.NDArray[np.float64]
CONFIG = ModelConfig(
    arch="mixer", image_size=17, patch_size=5, embed_dim=14, depth=2, mlp_ratio=1.5, token_mlp_ratio=0.8, pool="mean"
)


def mixer(config: ModelConfig = CONFIG) -> Any:
    """A network whose weights are random everywhere, in double precision."""
    model = build_model(config, 3, 7).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.4)
    return model


def layer_norm(x: Array, gain: Array, offset: Array) -> Array:
    spread = np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    out: Array = (x - x.mean(axis=-1, keepdims=True)) / spread * gain + offset
    return out


def mlp(x: Array, w: dict[str, Array], name: str) -> Array:
    hidden = x @ w[f"{name}.fc1.weight"].T + w[f"{name}.fc1.bias"]
    out: Array = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2))) @ w[f"{name}.fc2.weight"].T + w[f"{name}.fc2.bias"]
    return out


def test_the_forward_pass_is_the_papers() -> None:
    """Tolstikhin et al. 2021, equation 1, in NumPy: U = X + W2 s(W1 LN(X)), Y = U + W4 s(W3 LN(U))."""
    model, images = mixer(), torch.randn(5, 3, 17, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    w = {name: value.numpy() for name, value in model.state_dict().items()}
    pixels = images.numpy()[:, :, :15, :15]  # 17 pixels hold three patches of 5
    cut = pixels.reshape(5, 3, 3, 5, 3, 5).transpose(0, 2, 4, 3, 5, 1).reshape(5, 9, 75)
    x = cut @ w["patch_embed.weight"].T + w["patch_embed.bias"]
    for block in ("blocks.0", "blocks.1"):
        normed = layer_norm(x, w[f"{block}.norm1.weight"], w[f"{block}.norm1.bias"])
        x = x + mlp(normed.transpose(0, 2, 1), w, f"{block}.tokens").transpose(0, 2, 1)
        x = x + mlp(layer_norm(x, w[f"{block}.norm2.weight"], w[f"{block}.norm2.bias"]), w, f"{block}.mlp")
    pooled = layer_norm(x, w["norm.weight"], w["norm.bias"]).mean(axis=1)
    expected = pooled @ w["head.1.weight"].T + w["head.1.bias"]
    np.testing.assert_allclose(model(images).detach().numpy(), expected, atol=1e-12)


def test_its_size_and_cost() -> None:
    model = build_model(CONFIG, 3, 7).eval()
    token, channel = 9 * 11 + 11 + 11 * 9 + 9, 14 * 21 + 21 + 21 * 14 + 14
    assert count_parameters(model) == 75 * 14 + 14 + 2 * (2 * 28 + token + channel) + 28 + 14 * 7 + 7
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 17, 17))
    assert model.describe().flops_per_image == counter.get_total_flops()


def test_it_describes_itself() -> None:
    network = mixer().describe()
    assert (network.name, network.kind) == ("Mixer", "MLP-Mixer")
    assert network.line == "3 x 3 patches of 5 pixels, 2 pixels cut off at the right and bottom, 2 blocks, width 14"
    assert network.missing.keys() == {"attention", "positions"}
    assert network.missing.keys() <= set(VIEWS)
    assert set(network.matrices) == {
        f"blocks.{i}.{part}.weight" for i in range(2) for part in ("tokens.fc1", "tokens.fc2", "mlp.fc1", "mlp.fc2")
    }


@pytest.mark.parametrize(("init", "silent"), [("zero", True), ("vit", False)])
def test_with_init_zero_each_block_starts_as_the_identity(init: Any, silent: bool) -> None:
    model: Any = build_model(ModelConfig(arch="mixer", init=init), 1, 7).eval()
    x = model.tokens(torch.randn(3, 1, 28, 28))
    assert torch.equal(model.blocks[0](x), x) is silent


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        (dict(pool="cls"), "class token"),
        (dict(token_mlp_ratio=0.001), "token_mlp_ratio"),
        (dict(patch_size=29), "patch_size 29"),
        (dict(mlp_ratio=0.001), "mlp_ratio"),
    ],
)
def test_configurations_that_cannot_work(knobs: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ModelConfig(arch="mixer", **knobs)


def test_knobs_of_other_networks_mean_nothing_to_it() -> None:
    ModelConfig(arch="mixer", num_heads=5, pos_embed="sincos", embed_dim=14, cnn_channels=())
    assert RunConfig().digest() == RunConfig().with_knobs(token_mlp_ratio=0.5).digest()
    assert RunConfig().digest() != RunConfig().with_knobs(token_mlp_ratio=0.7).digest()


def run_config(folder: Path, **knobs: Any) -> RunConfig:
    data = write_npz(folder / "glyphs.npz") if not (folder / "glyphs.npz").exists() else folder / "glyphs.npz"
    return tiny_config(data, arch="mixer", optimizer="muon", **knobs)


def test_it_trains_resumes_and_evaluates(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    whole = train_run(config, tmp_path / "whole")
    assert whole["test_top1"] > 0.9

    def press(task: object, counters: Any, sums: object) -> None:
        if counters.step == 8:
            signal.raise_signal(signal.SIGINT)

    assert train_run(config, tmp_path / "broken", Reporter(step=press))["status"] == "interrupted"
    assert resume_run(tmp_path / "broken")["model_sha256"] == whole["model_sha256"]
    assert evaluate_run(tmp_path / "whole")["top1"] == whole["test_top1"]


def test_it_compares_looks_predicts_and_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train_run(run_config(tmp_path, epochs=1), Path("run"))
    told = vitlab("look run --json")
    assert told.code == 0, told.err
    left_out = json.loads(told.out)["left_out"]
    assert "an MLP-Mixer has no attention" in left_out.values()
    assert "an MLP-Mixer has no position embeddings" in left_out.values()
    assert {"deletion.png", "filters.png", "lens.png", "patches.png"} <= {
        path.name for path in Path("run/pictures").iterdir()
    }
    assert "A small MLP-Mixer that distinguishes 3 classes" in Path("run/README.md").read_text()
    assert Classifier.load("run")(np.zeros((8, 8), np.uint8))[0].probability > 0
    for form, name in (("onnx", "run.onnx"), ("torch", "run.pt2")):
        answer = vitlab(f"export run --to {form}")
        assert answer.code == 0, answer.err
        assert Path(name).exists()
    knobs = "--data glyphs.npz --image-size 8 --patch-size 2 --embed-dim 12 --num-heads 3 --epochs 1 --threads 1"
    studied = vitlab(f"study --vary arch=vit,mixer --seeds 1 {knobs} --pool mean --precision fp32 --quiet --json")
    assert studied.code == 0, studied.err
    assert [line["cell"] for line in json.loads(studied.out)["lines"]] == ["arch vit", "arch mixer"]


def test_it_goes_into_a_page(tmp_path: Path) -> None:
    """What the page computes is compared with torch in test_page_engine.py and test_page_inside.py."""
    run = make_run(tmp_path / "run", arch="mixer")
    export_web([Classifier.load(run)], tmp_path / "page")
    assert json.loads((tmp_path / "page" / "models.json").read_text())["models"][0]["arch"] == "mixer"
