"""Named configurations against the tables of the seed page, as vitlab's design notes restate and complete them."""

from __future__ import annotations

import pytest
import torch

from vitlab.config import AugmentConfig, DataConfig, OptimConfig, RunConfig, TrainConfig
from vitlab.config.presets import DEFAULT_PRESET, PRESETS, preset_config
from vitlab.errors import ConfigError
from vitlab.model import build_model, count_parameters, parameters_by_part

# Image, patch, dimension, layers, tokens, cut pixels; million multiply-adds; what the page printed.
SEED = {
    "seed-48x6": (48, 6, 48, 8, 64, 0, 44.69, "94.91 % in 412 s"),
    "seed-56x7": (56, 7, 48, 8, 64, 0, 44.73, "93.96 % in 414 s"),
    "seed-32x6": (32, 6, 48, 8, 25, 2, 15.74, "95.59 % in 165 s"),
    "seed-64x12": (64, 12, 48, 8, 25, 4, 15.87, "94.93 % in 166 s"),
    "seed-32x8": (32, 8, 48, 8, 16, 0, 10.41, "94.62 % in 97 s"),
    "seed-28x7": (28, 7, 48, 8, 16, 0, 10.40, "93.72 % in 96 s"),
    "seed-21x7": (21, 7, 48, 8, 9, 0, 6.58, "93.43 % in 72 s"),
    "seed-28x4": (28, 4, 48, 8, 49, 0, 32.40, "94.68 % in 313 s"),
    "seed-dim64": (28, 7, 64, 8, 16, 0, 15.79, "93.78 % in 122 s"),
    "seed-dim48": (28, 7, 48, 8, 16, 0, 10.40, "93.59 % in 95 s"),
    "seed-dim32": (28, 7, 32, 8, 16, 0, 6.33, "93.38 % in 82 s"),
    "seed-dim16": (28, 7, 16, 8, 16, 0, 3.56, "91.33 % in 63 s"),
    "seed-best": (28, 14, 96, 16, 4, 0, 14.96, "98.94 % in under 2 hours"),
}  # fmt: skip
# Parameters: patch_embed, pos_embed, blocks, encoder with final norm, head, total.
PARAMETERS = {
    "seed-48x6": (1_776, 3_072, 376_320, 381_264, 8_401_930, 8_783_194),
    "seed-56x7": (2_400, 3_072, 376_320, 381_888, 8_401_930, 8_783_818),
    "seed-32x6": (1_776, 1_200, 376_320, 379_392, 4_568_074, 4_947_466),
    "seed-64x12": (6_960, 1_200, 376_320, 384_576, 4_568_074, 4_952_650),
    "seed-32x8": (3_120, 768, 376_320, 380_304, 3_683_338, 4_063_642),
    "seed-28x7": (2_400, 768, 376_320, 379_584, 3_683_338, 4_062_922),
    "seed-21x7": (2_400, 432, 376_320, 379_248, 2_995_210, 3_374_458),
    "seed-28x4": (816, 2_352, 376_320, 379_584, 6_927_370, 7_306_954),
    "seed-dim64": (3_200, 1_024, 665_600, 669_952, 4_207_626, 4_877_578),
    "seed-dim48": (2_400, 768, 376_320, 379_584, 3_683_338, 4_062_922),
    "seed-dim32": (1_600, 512, 168_960, 171_136, 3_159_050, 3_330_186),
    "seed-dim16": (800, 256, 43_520, 44_608, 2_634_762, 2_679_370),
    "seed-best": (18_912, 384, 2_979_840, 2_999_328, 2_896_906, 5_896_234),
}  # fmt: skip
CNNS = ("cnn-tuned", "keras-cnn")


def test_the_names_are_those_of_the_seed_the_cnn_and_ours() -> None:
    assert sorted(PRESETS) == sorted(
        [*SEED, *CNNS, "small", "fast", "accurate", "fashion", "fashion-10min", "cifar", "colour", "textbook"]
    )
    assert len(SEED) == len(PARAMETERS) == 13
    assert DEFAULT_PRESET in PRESETS


@pytest.mark.parametrize("name", SEED)
def test_parameters_of_the_seeds_networks_part_by_part(name: str) -> None:
    patch_embed, pos_embed, blocks, encoder, head, total = PARAMETERS[name]
    with torch.device("meta"):
        model = build_model(preset_config(name).model, in_channels=1, num_classes=10)
    parts = parameters_by_part(model)
    norm = 2 * SEED[name][2]
    expected = dict(patch_embed=patch_embed, pos_embed=pos_embed, blocks=blocks, norm=norm, head=head)
    assert parts == expected
    assert sum(parts.values()) - head == encoder
    assert count_parameters(model) == total


@pytest.mark.parametrize("name", SEED)
def test_million_multiply_adds_of_the_seeds_networks(name: str) -> None:
    millions = build_model(preset_config(name).model, 1, 10).describe().flops_per_image / 2e6
    assert f"{millions:.2f}" == f"{SEED[name][6]:.2f}"


@pytest.mark.parametrize("name", SEED)
def test_rows_of_the_seed_are_trained_as_the_page_says(name: str) -> None:
    config = preset_config(name)
    image, patch, dim, layers, tokens = SEED[name][:5]
    model = config.model
    assert (model.image_size, model.patch_size, model.embed_dim, model.depth) == (image, patch, dim, layers)
    assert model.grid**2 == tokens
    assert (model.num_heads, model.width_per_head, model.mlp_hidden, model.head_hidden) == (
        4,
        dim,
        2 * dim,
        (2048, 1024),
    )
    assert (model.pool, model.mlp_last_gelu, model.init, model.pos_embed) == ("flatten", True, "keras", "learned")
    assert (model.dropout, model.attn_dropout, model.head_dropout, model.drop_path) == (0.1, 0.1, 0.5, 0.0)
    best = name == "seed-best"
    assert (config.train.batch_size, config.train.epochs) == ((2000, 100) if best else (128, 1))
    assert config.train == TrainConfig(epochs=100 if best else 1, batch_size=2000 if best else 128, select="best")
    assert config.data == DataConfig(data="mnist", val_split="last", val_fraction=0.1, normalize=True)
    # The tables are met with flips and exceeded by three points without: docs/understand/seed-results.md.
    flips = dict(flip=not best, force_flip=not best)
    assert config.augment == AugmentConfig(rotate=7.2, zoom=0.2, fill="reflect", **flips)
    assert config.optim == OptimConfig(
        lr=1e-3, schedule="constant", warmup_epochs=0.0, weight_decay=0.1, decay_all=True, adam_eps=1e-7, grad_clip=None
    )


@pytest.mark.parametrize("name", SEED)
def test_rows_of_the_seed_print_what_the_page_printed_and_their_cut_edges(name: str) -> None:
    preset = PRESETS[name]
    image, _, _, _, tokens, cut, _, printed = SEED[name]
    assert printed in preset.expected
    assert f"{tokens} patches" in preset.about
    assert ("cut off" in preset.about) == (cut > 0)
    if cut:
        assert f"{cut} of {image} pixels" in preset.about
    assert "uni-frankfurt.de" in preset.source


def test_the_cnn_is_the_one_of_keras_io() -> None:
    config = preset_config("keras-cnn")
    assert count_parameters(build_model(config.model, 1, 10)) == 34_826
    assert f"{build_model(config.model, 1, 10).describe().flops_per_image / 2e6:.2f}" == "2.44"
    assert config.model.head_dropout == 0.5
    assert config.data == DataConfig(data="mnist", val_split="last", val_fraction=0.1, normalize=False)
    assert config.augment == AugmentConfig()
    assert config.optim == OptimConfig(
        lr=1e-3, beta1=0.9, beta2=0.999, adam_eps=1e-7, weight_decay=0.0, schedule="constant"
    )
    assert (config.train.epochs, config.train.batch_size, config.train.select) == (15, 128, "last")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_answers(name: str) -> None:
    config = preset_config(name)
    with torch.device("meta"), torch.no_grad():
        model = build_model(config.model, in_channels=1, num_classes=10)
        logits = model.eval()(torch.empty(2, 1, config.model.input_side, config.model.input_side))
    assert logits.shape == (2, 10)
    assert all(text.strip() for text in (PRESETS[name].about, PRESETS[name].source, PRESETS[name].expected))
    assert PRESETS[name].about.endswith(".")


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_configuration_carries_its_name_and_survives_json(name: str) -> None:
    config = preset_config(name)
    assert config.preset == name
    assert RunConfig.from_dict(config.to_dict()) == config
    assert config.digest() == PRESETS[name].config.digest()


def test_the_default_is_a_vit_and_only_the_seeds_tables_mirror_digits() -> None:
    assert preset_config(DEFAULT_PRESET).model.arch == "vit"
    mirroring = [name for name in PRESETS if preset_config(name).augment.flip]
    not_digits = ("fashion", "fashion-10min", "cifar", "colour")  # clothes and most photos may be mirrored
    mirroring = [name for name in mirroring if name not in not_digits]
    assert sorted(mirroring) == sorted(name for name in PRESETS if name.startswith("seed-") and name != "seed-best")


def test_presets_differ_except_for_the_row_that_stands_in_both_tables() -> None:
    digests = {name: preset_config(name).digest() for name in PRESETS}
    assert digests["seed-28x7"] == digests["seed-dim48"]
    assert len(set(digests.values())) == len(PRESETS) - 1


@pytest.mark.parametrize(
    ("wrong", "meant"), [("smal", "small"), ("seed-28x77", "seed-28x7"), ("keras_cnn", "keras-cnn")]
)
def test_an_unknown_preset_is_refused_with_a_suggestion(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"no preset '{wrong}' \(did you mean {meant}\?\); `list"):
        preset_config(wrong)


def test_a_preset_unlike_any_other_is_refused_without_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="no preset 'qqq'; `list"):
        preset_config("qqq")
