"""Every knob: name, type, limits, help; what does not fit together; JSON, digest and the command line's words."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitlab.config import MachineConfig, ModelConfig, RunConfig, sections
from vitlab.config.hints import did_you_mean
from vitlab.config.knobs import describe, digest, flat_fields, inner_type, knob_type, parse
from vitlab.config.presets import preset_config
from vitlab.errors import ConfigError

# Every knob with a valid value that is not its default. A new knob is a decision: it belongs here, too.
OTHER_VALUES: dict[str, dict[str, Any]] = {
    "data": dict(data="cifar10", val_split="last", val_fraction=0.2, limit_train=5, normalize=False, drawings="no",
        rehearse="digits:0.25"),
    "augment": dict(
        rotate=5.0, zoom=0.1, shift=1.0, shear=2.0, elastic=1.5, flip=True, force_flip=True, erase=0.1, fill="reflect",
        clean_tail=0.2, brightness=0.3, contrast=0.3, saturation=0.3, mixup=0.2, cutmix=1.0,
    ),
    "model": dict(
        arch="cnn", image_size=32, crop=24, patch_size=4, patch_overlap=1, embed_dim=64, depth=3, num_heads=3,
        head_dim=11, attn_form="none", attn_bias=True, norm="rms", act="relu2", linear_bias=False,
        mlp_ratio=4.0, mlp_last_gelu=True, pool="cls", head_hidden=(13, 11), pos_embed="sincos", dropout=0.1,
        attn_dropout=0.1, head_dropout=0.1, drop_path=0.1, init="keras", cnn_channels=(5, 7),
        token_mlp_ratio=0.7, locality=1.5, attn_bias_shared=True, patch_init="white",
    ),
    "optim": dict(
        optimizer="muon", muon_lr=0.01, muon_momentum=0.8, muon_weight_decay=0.2, lr=2e-3, min_lr=1e-4,
        schedule="linear", warmup_epochs=1.0, weight_decay=0.1, decay_all=True, beta1=0.8, beta2=0.99,
        adam_eps=1e-7, grad_clip=1.0, label_smoothing=0.1, ema_decay=0.9, init_lr_scale=0.1, freeze="blocks:1",
    ),
    "train": dict(
        epochs=3, batch_size=64, eval_batch_size=500, seed=1, class_weight="1,2,3", select="last",
        sampling="balanced", monitor="val_loss", patience=3, checkpoint_seconds=5.0, keep_epochs=True,
        init_from="runs/first", init_sha256="0" * 64,
    ),
    "machine": dict(
        device="cpu", precision="fp32", threads=1, attention="fused", kernels="plain", compile=True,
        allocator="system", flush_denormals=False, ranks=2,
    ),
}  # fmt: skip
KNOBS = {name: value for section in OTHER_VALUES.values() for name, value in section.items()}


# Names


def test_the_knobs_are_these_and_no_others() -> None:
    found = {section: {f.name for f in fields(value)} for section, value in sections(RunConfig()).items()}
    assert found == {section: set(values) for section, values in OTHER_VALUES.items()}


def test_names_are_unique_over_all_sections() -> None:
    assert len(flat_fields(RunConfig)) == sum(len(fields(section)) for section in sections(RunConfig()).values())


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_has_a_sentence_of_help(name: str) -> None:
    _, knob = flat_fields(RunConfig)[name]
    text = knob.metadata["help"]
    assert text.endswith(".")
    assert text[0].isupper()
    assert "  " not in text
    assert len(text) > 20


# Changing knobs


@pytest.mark.parametrize("name", KNOBS)
def test_with_knobs_changes_that_knob_and_nothing_else(name: str) -> None:
    section, _ = flat_fields(RunConfig)[name]
    before, after = RunConfig().to_dict(), RunConfig().with_knobs(**{name: KNOBS[name]}).to_dict()
    assert json.loads(json.dumps(KNOBS[name])) == after[section][name] != before[section][name]
    after[section][name] = before[section][name]
    assert after == before


def test_with_knobs_changes_knobs_of_several_sections_at_once() -> None:
    changed = RunConfig().with_knobs(epochs=1, warmup_epochs=1.0, patch_size=4)
    assert (changed.train.epochs, changed.optim.warmup_epochs, changed.model.patch_size) == (1, 1.0, 4)


def test_with_knobs_keeps_what_was_changed_before() -> None:
    config = RunConfig(preset="small").with_knobs(embed_dim=64, lr=0.5).with_knobs(depth=3, min_lr=0.25)
    assert config == RunConfig(preset="small").with_knobs(embed_dim=64, lr=0.5, depth=3, min_lr=0.25)
    assert (config.preset, config.model.embed_dim, config.optim.lr) == ("small", 64, 0.5)


@pytest.mark.parametrize("name", ["patchsize", "model", "preset", ""])
def test_an_unknown_knob_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no knob '{name}'"):
        RunConfig().with_knobs(**{name: 1})


def test_a_configuration_cannot_be_changed_in_place() -> None:
    config: Any = RunConfig()
    with pytest.raises(FrozenInstanceError):
        config.train.epochs = 3
    with pytest.raises(FrozenInstanceError):
        config.preset = "x"


# Types and limits

WRONG_TYPES: list[tuple[str, Any]] = [
    ("crop", 2.5), ("crop", True), ("attn_form", "qkvo"), ("optimizer", "sgd"),
    ("depth", True), ("depth", 2.0), ("depth", "2"), ("depth", None), ("depth", [2]), ("seed", 1.5),
    ("lr", "0.1"), ("lr", True), ("lr", None), ("rotate", [1.0]),
    ("flip", 1), ("flip", 0), ("flip", "true"), ("flip", None),
    ("data", 5), ("data", None),
    ("pool", "max"), ("pool", None), ("pool", 3), ("pool", ["cls"]),
    ("head_hidden", 5), ("head_hidden", "5"), ("head_hidden", (5.0,)), ("head_hidden", (True,)), ("head_hidden", None),
    ("head_dim", 2.5), ("head_dim", False), ("grad_clip", "none"), ("grad_clip", True), ("threads", 1.0),
]  # fmt: skip
NOT_NUMBERS: list[tuple[str, Any]] = [
    (name, float(text)) for name in ("lr", "rotate", "grad_clip", "mlp_ratio") for text in ("nan", "inf", "-inf")
]


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES + NOT_NUMBERS)
def test_a_wrong_type_is_refused_from_code_and_from_json(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be"):
        RunConfig().with_knobs(**{name: value})
    section, _ = flat_fields(RunConfig)[name]
    with pytest.raises(ConfigError, match=f"^{name} must be"):
        RunConfig.from_dict({section: {name: value}})


@pytest.mark.parametrize("name", ["seed", "lr"])
def test_a_number_beyond_all_limits_is_a_config_error(name: str) -> None:
    with pytest.raises(ConfigError):
        RunConfig().with_knobs(**{name: 10**400})


OUT_OF_RANGE = [
    ("val_fraction", -0.1), ("val_fraction", 1.0), ("limit_train", 0),
    ("rotate", -1.0), ("rotate", 180.5), ("zoom", -0.1), ("zoom", 1.0), ("shift", -1.0), ("shear", -1.0),
    ("shear", 60.0), ("elastic", -0.1), ("erase", -0.1), ("erase", 1.1), ("clean_tail", -0.1), ("clean_tail", 1.1),
    ("brightness", 1.0), ("contrast", -0.1), ("saturation", 1.0), ("mixup", -0.1), ("cutmix", -1.0),
    ("image_size", 0), ("crop", 0), ("muon_lr", 0.0), ("muon_momentum", 1.0), ("muon_weight_decay", -0.1),
    ("patch_size", 0), ("patch_overlap", -1), ("embed_dim", 0), ("depth", 0), ("num_heads", 0),
    ("head_dim", 0), ("mlp_ratio", 0.0), ("head_hidden", (5, 0)), ("dropout", -0.1), ("dropout", 1.0),
    ("attn_dropout", -0.1), ("attn_dropout", 1.0), ("head_dropout", -0.1), ("head_dropout", 1.0), ("drop_path", -0.1),
    ("drop_path", 1.0), ("cnn_channels", (0,)),
    ("lr", 0.0), ("min_lr", -1e-9), ("warmup_epochs", -0.5), ("weight_decay", -0.1), ("beta1", -0.1), ("beta1", 1.0),
    ("beta2", -0.1), ("beta2", 1.0), ("adam_eps", 0.0), ("grad_clip", 0.0), ("label_smoothing", -0.1),
    ("label_smoothing", 1.0), ("ema_decay", -0.1), ("ema_decay", 1.0),
    ("epochs", 0), ("batch_size", 0), ("eval_batch_size", 0), ("seed", -1), ("checkpoint_seconds", -1.0),
    ("threads", 0),
]  # fmt: skip
ON_THE_EDGE = [
    ("val_fraction", 0.0), ("limit_train", 1), ("rotate", 180.0), ("erase", 1.0), ("clean_tail", 1.0),
    ("patch_size", 1), ("patch_size", 28), ("patch_overlap", 7), ("depth", 1), ("num_heads", 1), ("head_dim", 1),
    ("head_dim", None), ("head_hidden", ()), ("min_lr", 1e-3), ("warmup_epochs", 10.0), ("weight_decay", 0.0),
    ("beta1", 0.0), ("grad_clip", None), ("epochs", 0.01), ("batch_size", 1), ("seed", 0), ("threads", 1),
    ("checkpoint_seconds", 0.0), ("mlp_ratio", 0.02), ("limit_train", None), ("threads", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_value_outside_its_range_is_refused_with_the_limit(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^{name} must be (at least|above|at most|below) -?\d"):
        RunConfig().with_knobs(**{name: value})


@pytest.mark.parametrize(("name", "value"), ON_THE_EDGE)
def test_a_value_on_the_edge_of_its_range_is_accepted(name: str, value: Any) -> None:
    section, _ = flat_fields(RunConfig)[name]
    assert getattr(getattr(RunConfig().with_knobs(**{name: value}), section), name) == value


def test_a_whole_number_may_stand_for_a_float_and_means_the_same_run() -> None:
    config = RunConfig().with_knobs(rotate=5)
    assert type(config.augment.rotate) is float
    assert config.digest() == RunConfig().with_knobs(rotate=5.0).digest()


# What does not fit together: the message shows the arithmetic

CONFLICTS: list[tuple[dict[str, Any], list[str]]] = [
    (dict(patch_size=40), ["40", "28", "7 gives a 4 x 4 grid of 16 patches"]),
    (dict(patch_size=6, image_size=5), ["patch_size 6", "image_size 5", "2 gives a 2 x 2 grid of 4 patches"]),
    (dict(patch_overlap=8), ["patch_overlap 8", "patch_size 7"]),
    (dict(num_heads=5), ["num_heads 5", "embed_dim 48", "use 3, 4 or 6 heads", "head_dim"]),
    (dict(embed_dim=7, num_heads=2), ["num_heads 2", "embed_dim 7", "use 1 or 7 heads"]),
    (dict(mlp_ratio=0.01), ["mlp_ratio 0.01", "embed_dim 48"]),
    (dict(pos_embed="sincos", embed_dim=50, num_heads=5), ["sincos", "4", "50"]),
    (dict(arch="cnn", cnn_channels=()), ["cnn_channels", "at least one"]),
    (dict(arch="cnn", image_size=9, cnn_channels=(3, 5)), ["image_size 9", "2 convolutions"]),
    (dict(min_lr=0.5, lr=0.25), ["min_lr 0.5", "lr 0.25"]),
    (dict(crop=29), ["crop 29", "image_size 28"]),
    (dict(crop=5, patch_size=7), ["patch_size 7", "crop 5"]),
    (dict(attn_form="merged"), ["one head", "not 4", "num_heads=1"]),
]


@pytest.mark.parametrize(("knobs", "words"), CONFLICTS)
def test_what_does_not_fit_together_is_refused_with_its_arithmetic(knobs: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig().with_knobs(**knobs)
    message = str(caught.value)
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize(
    "knobs",
    [
        dict(patch_size=28), dict(num_heads=5, head_dim=9), dict(arch="cnn", patch_size=40, num_heads=5),
        dict(arch="vit", cnn_channels=()), dict(arch="cnn", image_size=10), dict(arch="vit", image_size=8),
    ],
)  # fmt: skip
def test_knobs_of_the_network_that_is_not_built_do_not_matter(knobs: dict[str, Any]) -> None:
    RunConfig().with_knobs(**knobs)


def test_derived_numbers_of_the_network() -> None:
    config = ModelConfig(image_size=32, patch_size=6, embed_dim=44, num_heads=4, mlp_ratio=1.5)
    assert (config.grid, config.width_per_head, config.mlp_hidden) == (5, 11, 66)
    assert ModelConfig(embed_dim=44, num_heads=3, head_dim=17).width_per_head == 17


# JSON and digest

EVERYTHING_ELSE = RunConfig(preset="small").with_knobs(**{k: v for k, v in KNOBS.items() if k != "arch"})


@pytest.mark.parametrize("config", [RunConfig(), EVERYTHING_ELSE, RunConfig().with_knobs(arch="cnn")])
def test_json_gives_back_the_same_configuration(config: RunConfig) -> None:
    text = json.dumps(config.to_dict(), allow_nan=False)
    assert RunConfig.from_dict(json.loads(text)) == config
    assert config.to_dict()["model"]["head_hidden"] == list(config.model.head_hidden)


def test_names_missing_from_json_take_their_defaults() -> None:
    assert RunConfig.from_dict({}) == RunConfig()
    assert RunConfig.from_dict({"train": {"epochs": 3}}) == RunConfig().with_knobs(epochs=3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"modle": {}}, r"'modle' in RunConfig \(did you mean model\?\)"),
        ({"model": {"patchsize": 3}}, r"'patchsize' in ModelConfig \(did you mean patch_size\?\)"),
        ({"model": 3}, "ModelConfig must be a JSON object"),
        ([], "RunConfig must be a JSON object"),
        (None, "RunConfig must be a JSON object"),
        ({"preset": 3}, "preset must be"),
        ({"model": {"patch_size": 40}}, "larger than image_size"),
    ],
)
def test_json_that_is_no_configuration_is_refused(values: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RunConfig.from_dict(values)


SHAPELESS = (*OTHER_VALUES["machine"], "eval_batch_size", "checkpoint_seconds", "keep_epochs")


def test_the_digest_differs_for_every_knob_that_shapes_the_result() -> None:
    shaping = [name for name in KNOBS if name not in SHAPELESS]
    digests = {RunConfig().with_knobs(**{name: KNOBS[name]}).digest() for name in shaping}
    assert len(digests | {RunConfig().digest()}) == len(shaping) + 1
    assert all(len(digest) == 12 and set(digest) <= set("0123456789abcdef") for digest in digests)


def test_a_knob_that_came_later_leaves_the_digests_of_older_runs_alone() -> None:
    """The digest is the one that version 0.1 wrote into a result.json before `elastic` was a knob."""
    assert preset_config("seed-28x7").digest() == "e11bb9ed2492"


@pytest.mark.parametrize("name", SHAPELESS)
def test_the_digest_ignores_what_changes_speed_and_safety_only(name: str) -> None:
    assert RunConfig().with_knobs(**{name: KNOBS[name]}).digest() == RunConfig().digest()


def test_the_digest_ignores_the_presets_name_and_survives_json() -> None:
    assert RunConfig(preset="small").digest() == RunConfig().digest()
    assert RunConfig.from_dict(json.loads(json.dumps(EVERYTHING_ELSE.to_dict()))).digest() == EVERYTHING_ELSE.digest()


def test_the_digest_does_not_depend_on_the_order_in_which_knobs_are_declared() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


# Words of a command line


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("depth", "3", 3), ("head_dim", "11", 11), ("head_dim", "none", None), ("head_dim", "None", None),
        ("lr", "1e-3", 0.001), ("lr", "2", 2.0), ("grad_clip", "none", None), ("grad_clip", "0.5", 0.5),
        ("flip", "true", True), ("flip", "False", False), ("pool", "cls", "cls"), ("data", "none", "none"),
        ("data", "./a b.npz", "./a b.npz"), ("head_hidden", "13", 13), ("device", "cuda", "cuda"),
    ],
)  # fmt: skip
def test_words_are_read_as_their_knobs_type(name: str, text: str, value: Any) -> None:
    found = parse(name, knob_type(RunConfig, name), text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("depth", "3.0", "a whole number, not '3.0'"), ("depth", "none", "a whole number, not 'none'"),
        ("depth", "", "a whole number"), ("head_dim", "x", "a whole number"),
        ("lr", "fast", "a number, not 'fast'"),
        ("flip", "yes", "true or false, not 'yes'"), ("flip", "1", "true or false"),
        ("pool", "flaten", "cls, mean, flatten, not 'flaten' .*did you mean flatten"), ("pool", "CLS", "cls"),
        ("head_hidden", "1.5", "whole numbers, not '1.5'"), ("head_hidden", "none", "whole numbers"),
    ],
)  # fmt: skip
def test_words_that_cannot_be_read_are_refused_with_what_is_allowed(name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be .*{words}"):
        parse(name, knob_type(RunConfig, name), text)


@pytest.mark.parametrize(("name", "text"), [("head_dim", "x"), ("grad_clip", "x"), ("threads", "all")])
def test_a_refused_word_is_told_that_none_would_do(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match="or none"):
        parse(name, knob_type(RunConfig, name), text)


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**12), 10**12))
@settings(deadline=None)
def test_numbers_written_out_are_read_back_exactly(number: float, whole: int) -> None:
    assert parse("x", float, repr(number)) == number
    assert parse("x", int | None, str(whole)) == whole


def test_types_are_described_in_words() -> None:
    assert describe(int | None) == "a whole number, or none"
    assert describe(Literal["a", "b"]) == "a or b"
    assert describe(tuple[int, ...]) == "whole numbers"
    assert inner_type(float | None) == (float, True)
    assert inner_type(float) == (float, False)
    assert knob_type(RunConfig, "threads") == int | None


def test_suggestions_are_made_only_for_words_that_are_close() -> None:
    assert did_you_mean("patch_siz", ["patch_size", "depth"]) == " (did you mean patch_size?)"
    assert did_you_mean("qqq", ["patch_size", "depth"]) == ""


def test_sections_can_be_built_alone_and_are_checked_then() -> None:
    with pytest.raises(ConfigError, match="threads"):
        RunConfig(machine=MachineConfig(threads=0))
