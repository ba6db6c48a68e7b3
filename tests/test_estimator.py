"""ViTClassifier keeps scikit-learn's contract, trains what `vitlab train` trains, and is saved without pickle."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

from tests.tiny import glyphs, tiny_config, write_npz
from vitlab import Classifier, RunFolder, ViTClassifier, evaluate_run, preset_config, train_run
from vitlab.data.drawn import drawing_of
from vitlab.data.splits import pixel_statistics
from vitlab.errors import ConfigError, DataError, DivergedError, RunError
from vitlab.estimator import flattened, in_units, shape_of, white
from vitlab.machine import choose_machine, unchanged_process
from vitlab.processor import available_cores
from vitlab.runs.check import check_run

PLAIN: dict[str, Any] = dict(precision="fp32", kernels="plain")  # the same bits on every machine
IMAGES = glyphs(83, size=8, seed=7)
X, Y = IMAGES.images[..., 0], np.array(["ash", "birch", "cedar"])[IMAGES.labels]
# scikit-learn's checks that cannot hold; docs/do/scikit-learn.md repeats the reasons.
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "training goes through the images in random batches, and an image "
    "that is there twice is in two of them; with all images in one batch and one step both are the same to rounding "
    "(tests/test_weights.py)",
}


def tiny(**parameters: Any) -> ViTClassifier:
    """A network of a second on 8 x 8 images."""
    knobs = PLAIN | {"image_size": 8, "patch_overlap": 0} | parameters.pop("knobs", {})
    base = dict(epochs=3, batch_size=17, patch_size=2, embed_dim=12, depth=1, num_heads=2, random_state=3)
    return ViTClassifier("small", knobs=knobs, **base | parameters)


@pytest.mark.filterwarnings("ignore:it did not learn")  # some checks have labels that cannot be learned
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [
        ViTClassifier(
            "small", epochs=8, batch_size=32, embed_dim=16, depth=1, num_heads=1, random_state=0,
            knobs=PLAIN | {"label_smoothing": 0.0},
        )
    ],
    expected_failed_checks=lambda estimator: EXPECTED,
)  # fmt: skip
def test_scikit_learns_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


# Images


def test_every_form_of_the_same_images_gives_the_same_answers() -> None:
    classifier = tiny(epochs=1).fit(X, Y)
    expected = classifier.predict_proba(X)
    pandas, flat = pytest.importorskip("pandas"), X.reshape(len(X), -1)
    table = pandas.DataFrame(flat, columns=[f"pixel{n}" for n in range(64)])
    forms: list[tuple[Any, dict[str, Any]]] = [
        (X[..., np.newaxis], {}), (flat, {}), (flat, {"image_shape": (8, 8)}), (X.tolist(), {}), (table, {}),
        (X.astype(np.int64), {}), (torch.from_numpy(X), {}), (X, {"image_shape": [8, 8, 1]}),
    ]  # fmt: skip
    for form, shape in forms:
        trained = tiny(epochs=1, **shape).fit(form, Y)
        if white(np.asarray(flattened(form)[0])) == 255.0:
            np.testing.assert_array_equal(trained.predict_proba(form), expected)
        else:  # the brightest pixel is white, but numbers are scaled to mean 0 and deviation 1 in any case
            np.testing.assert_allclose(trained.predict_proba(form), expected, atol=2e-3)
        assert trained.image_shape_ == (8, 8, 1)
        assert trained.n_features_in_ == 64
    assert list(trained.classes_) == ["ash", "birch", "cedar"]


def test_a_frame_has_its_names() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.reshape(len(X), -1), columns=[f"pixel{n}" for n in range(64)])
    classifier = tiny(epochs=1).fit(frame, pandas.Series(Y))
    assert classifier.feature_names_in_[63] == "pixel63"
    with pytest.raises(ValueError, match="feature names"):
        classifier.predict(frame.rename(columns={"pixel3": "other"}))


@pytest.mark.parametrize(
    ("columns", "own", "wanted", "shape", "is_table"),
    [
        (784, None, None, (28, 28, 1), False),
        (64, None, None, (8, 8, 1), False),
        (63, None, None, (8, 8, 1), True),
        (1, None, None, (1, 1, 1), True),
        (5, None, None, (3, 3, 1), True),
        (49, None, None, (7, 7, 1), True),
        (49, None, (7, 7), (7, 7, 1), False),
        (35, None, (5, 7), (5, 7, 1), False),
        (105, None, (5, 7, 3), (5, 7, 3), False),
        (35, (5, 7, 1), None, (5, 7, 1), False),
    ],
)
def test_the_shape_of_an_image(columns: int, own: Any, wanted: Any, shape: Any, is_table: bool) -> None:
    assert shape_of(columns, own, wanted) == (shape, is_table)


@pytest.mark.parametrize(
    ("images", "parameters", "words"),
    [
        (np.zeros((5, 785)), {}, r"785 columns are not .* image_shape=\(height, width\)"),
        (np.zeros((5, 3072)), {}, r"for example \(32, 32, 3\)"),
        (np.zeros((5, 64)), {"image_shape": (7, 9)}, "63 numbers per image, but X has 64 columns"),
        (np.zeros((5, 7, 9)), {"image_shape": (9, 7)}, r"X has images of \(7, 9, 1\)"),
        (np.zeros((5, 64)), {"image_shape": (4, 4, 4)}, r"must be \(height, width\)"),
        (np.zeros((5, 3, 7, 9)), {}, r"channels come last: X.transpose\(0, 2, 3, 1\)"),
        (np.zeros((5, 7, 9, 4)), {}, r"X\[..., :3\]"),
        (np.zeros((5, 7, 9, 2)), {}, "c 1 or 3"),
        (np.zeros((5, 7, 9)), {"epochs": 0}, "epochs must be above 0"),
        (np.zeros((5, 7, 9)), {"preset": "smal"}, "did you mean small"),
        (np.zeros((5, 7, 9)), {"knobs": {"patchsize": 3}}, "did you mean patch_size"),
        (np.zeros((5, 7, 9)), {"class_weight": {11: 2.0}}, r"class_weight: y has no label 11, but 0 and 1"),
        (
            np.zeros((5, 7, 9)),
            {"knobs": "rotate=0"},
            r"knobs is a dict, such as knobs=\{.rotate.: 0.0\}, not 'rotate=0'",
        ),
        (np.zeros((5, 64)), {"image_shape": 8}, r"image_shape is \(height, width\) or .* not 8"),
        (np.zeros((5, 7, 9)), {"threads": 0}, "threads must be at least 1, not 0"),
        (np.zeros((5, 7, 9)), {"class_weight": "equal"}, "class_weight must be one of none, balanced"),
    ],
)
def test_what_cannot_work_is_refused_with_a_way_out(images: Any, parameters: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ViTClassifier(**parameters).fit(images, [0, 1, 0, 1, 0])


def test_images_of_another_shape_are_refused() -> None:
    classifier = tiny(epochs=1).fit(X, Y)
    with pytest.raises(ConfigError, match=r"those of fit had \(8, 8, 1\)"):
        classifier.predict(X.reshape(-1, 4, 16))
    for image in (X[0], X[0][..., None], X[0].tolist(), torch.from_numpy(X[0])):
        with pytest.raises(ConfigError, match=r"of one image, but must have several; use X\[None\]"):
            classifier.predict(image)
    assert len(classifier.predict(X[0][None])) == len(classifier.predict(X[:1].reshape(1, 64))) == 1


def test_a_table_is_a_square_of_its_columns_and_no_number_is_lost() -> None:
    draw = np.random.default_rng(5)
    table = draw.normal(size=(41, 5)) * [1, 2, 3, 4, 5]
    classifier = tiny(patch_size=None, knobs={"image_size": 3}).fit(table, table[:, 4] > 0)
    assert classifier.config_.model.grid == 3
    assert classifier.config_.augment.rotate == classifier.config_.augment.shift == 0.0
    images = classifier._pixels(table)
    np.testing.assert_allclose(images.reshape(41, 9)[:, :5] * classifier.scale_, table, rtol=1e-6)
    assert not images.reshape(41, 9)[:, 5:].any()
    assert classifier.score(table, table[:, 4] > 0) > 0.5
    for column in range(5):
        other = table.copy()
        other[:, column] += 3.0
        assert (classifier.predict_proba(other) != classifier.predict_proba(table)).any(axis=1).all()


def test_numbers_are_8_bits_only_where_nothing_is_lost() -> None:
    whole = np.array([[0.0, 255.0, 7.0]])
    assert white(whole.astype(np.uint8) // 2) == white(whole) == 255.0
    assert white(-whole) == 255.0
    assert white(np.zeros((2, 3))) == 1.0
    assert in_units(whole, 255.0).dtype == np.uint8
    for other in (whole + 0.5, -whole, whole[:, :1] - 1):
        found = in_units(other, 255.0)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, other / 255.0, rtol=1e-6)
    assert in_units(whole == 7, 1.0).tolist() == [[0.0, 0.0, 1.0]]


def test_float_images_have_statistics_and_may_be_drawings() -> None:
    images = np.random.default_rng(3).normal(2.0, 5.0, size=(7, 3, 5, 3)).astype(np.float32)
    images[..., 2] = 4.0
    mean, std = pixel_statistics(images)
    np.testing.assert_allclose(mean, images.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, [images[..., 0].std(), images[..., 1].std(), 1.0], rtol=1e-5)
    levels = glyphs(31, size=28).images
    for wanted in ("auto", "yes", "no"):
        assert drawing_of((levels / 255).astype(np.float32), wanted) == drawing_of(levels, wanted)


# Training


def test_it_trains_what_the_command_line_trains(tmp_path: Path) -> None:
    np.savez(tmp_path / "glyphs.npz", x_train=IMAGES.images, y_train=IMAGES.labels)
    knobs = dict(epochs=2, batch_size=17, patch_size=2, embed_dim=12, depth=1, num_heads=2, image_size=8, seed=3)
    config = preset_config("small").with_knobs(data=str(tmp_path / "glyphs.npz"), threads=1, **knobs, **PLAIN)
    train_run(config, tmp_path / "run")
    parameters = dict(epochs=2, validation_fraction=0.1, threads=1, knobs={"patch_overlap": 2})
    classifier = tiny(**parameters).fit(X, Y)
    weights, _ = RunFolder(tmp_path / "run").load_weights(config.digest())
    assert all(torch.equal(value, weights[name]) for name, value in classifier.network_.state_dict().items())
    rows = RunFolder(tmp_path / "run").history()
    timeless = [{name: row[name] for name in row if not name.endswith("seconds")} for row in rows]
    assert [row | old for row, old in zip(classifier.history_, timeless, strict=True)] == classifier.history_
    assert classifier.history_[-1]["val_top1"] is not None


def test_a_state_draws_the_seed() -> None:
    first, second = (tiny(epochs=1, random_state=np.random.RandomState(5)).fit(X, Y) for _ in range(2))
    other = tiny(epochs=1, random_state=None).fit(X, Y)
    assert first.config_.train.seed == second.config_.train.seed != other.config_.train.seed
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_the_process_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tiny(epochs=1, threads=2).fit(X, Y)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 1
    assert np.float64(5e-324) * 1.0 > 0, "denormals are not flushed"
    with unchanged_process():
        torch.set_flush_denormal(True)
        torch.set_float32_matmul_precision("high")
    assert (torch.tensor([1e-40]) * 1.0).item() > 0
    assert torch.get_float32_matmul_precision() == "highest"
    torch.set_flush_denormal(True)
    with unchanged_process():
        choose_machine(preset_config("small").with_knobs(threads=2, flush_denormals=False).machine)
    assert (torch.tensor([1e-40]) * 1.0).item() == 0


def test_fits_in_several_threads_do_not_disturb_each_other() -> None:
    expected = tiny(epochs=2).fit(X, Y).predict_proba(X)
    made = [tiny(epochs=2) for _ in range(3)]
    threads = [threading.Thread(target=one.fit, args=(X, Y)) for one in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in made:
        np.testing.assert_array_equal(one.predict_proba(X), expected)


def test_a_rate_that_is_too_large_is_named() -> None:
    with pytest.raises(DivergedError, match=r"in epoch 1; lower lr 1e\+30 or muon_lr 0.02"):
        tiny(lr=1e30).fit(X, Y)


def test_a_network_that_did_not_learn_says_so(tmp_path: Path) -> None:
    """Without validation images, the training images tell."""
    labels = np.random.default_rng(7).permutation(Y)
    with pytest.warns(ConvergenceWarning, match="it did not learn: .* of the training images .* try another lr"):
        classifier = tiny(epochs=1).fit(X, labels)
    result = RunFolder(classifier.save(tmp_path / "run")).result()
    assert result is not None
    assert (result.train_measured, result.train_guess_top1) == (83, 28 / 83)
    assert result.train_top1 == classifier.score(X, labels)
    with pytest.warns(ConvergenceWarning, match="its loss blew up"):
        tiny(epochs=1, lr=1e3, class_weight="balanced").fit(X, labels)


# Scales


def fitted(scale: float, kind: Any) -> ViTClassifier:
    return tiny(epochs=1).fit((X * float(scale)).astype(kind), Y)


DARK = np.where(np.arange(64).reshape(8, 8) % 5, 0, 1)  # a batch of images in the dark, of whole numbers
OTHER_SCALES: dict[str, tuple[float, Any, Callable[[Any], Any], str | None]] = {
    "0..1 after uint8": (1, "uint8", lambda x: x / 255, r"if 1 is white in X, use X \* 255"),
    "float32 0..1 after whole floats": (1, float, lambda x: np.float32(x / 255), r"use X \* 255"),
    "0..1 after 0..15": (1 / 16, "int64", lambda x: x // 16 / 16, r"use X \* 14"),
    "black and white": (1, "uint8", lambda x: x > 99, r"use X \* 255"),
    "8 after 16 bits": (257, "uint16", lambda x: x, r"if 255 is white in X, use X \* 257"),
    "uint8 after 0..1": (1 / 255, float, lambda x: x, r"perhaps with X / 255"),
    "16 after 8 bits": (1, "uint8", lambda x: x.astype(np.uint16) * 257, r"perhaps with X / 257"),
    "dark": (1, "uint8", lambda x: x // 90, None),
    "dark floats": (1, "uint8", lambda x: x / 90, None),
    "black": (1, "uint8", lambda x: x * 0.0, None),
    "whole 0 and 1": (1, "uint8", lambda x: DARK[None].repeat(3, 0), None),
    "dark 16 bits": (257, "uint16", lambda x: x.astype(np.uint16), None),
    "dark after 0..1": (1 / 255, float, lambda x: x / 90000, None),
    "one hot pixel": (1 / 255, float, lambda x: x / 255 + 97.0 * (np.arange(x.size) == 5).reshape(x.shape), None),
    "brighter": (1 / 255, float, lambda x: x / 40, None),
}


@pytest.mark.filterwarnings("ignore:it did not learn")
@pytest.mark.parametrize(("scale", "kind", "change", "words"), OTHER_SCALES.values(), ids=OTHER_SCALES)
def test_another_scale_than_in_fit_is_warned_of(
    scale: float, kind: Any, change: Any, words: str | None, tmp_path: Path
) -> None:
    classifier = fitted(scale, kind)
    for one in (classifier, ViTClassifier.load(classifier.save(tmp_path / "run"))):
        one.predict((X * float(scale)).astype(kind))
        with nullcontext() if words is None else pytest.warns(UserWarning, match=words):
            one.predict(change(X[:7]))


def test_a_table_has_no_scale() -> None:
    table = np.arange(41 * 5).reshape(41, 5) % 37
    classifier = tiny(patch_size=None, knobs={"image_size": 3}).fit(table, table[:, 4] > 18)
    classifier.predict([[0.5, 0, 0, 0, 1], [999, 0, 0, 0, 0]])


def test_progress_is_printed_only_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    tiny(epochs=1).fit(X, Y)
    assert capsys.readouterr() == ("", "")
    tiny(epochs=2, verbose=True, validation_fraction=0.2, class_weight="balanced").fit(X, Y)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("epoch 2/2  weighted loss ")
    assert "validation loss" in lines[-1]


# Weights


def test_class_weights_are_sample_weights() -> None:
    some = np.flatnonzero((Y != "cedar") | (np.arange(len(Y)) % 4 == 0))
    images, labels = X[some], Y[some]
    of_class = {"ash": 2.0, "birch": 0.5, "cedar": 5.0}
    for weights in ("balanced", of_class):
        by_class = tiny(class_weight=weights).fit(images, labels)
        by_image = tiny().fit(images, labels, sample_weight=compute_sample_weight(weights, labels))
        np.testing.assert_array_equal(by_class.predict_proba(X), by_image.predict_proba(X))
    assert (tiny().fit(images, labels).predict_proba(X) != by_class.predict_proba(X)).any()


def test_weight_0_leaves_an_image_out_and_equal_weights_are_none() -> None:
    kept = np.arange(len(X)) % 5 != 1
    left_out = tiny().fit(X, Y, sample_weight=np.where(kept, 2.0, 0.0)).predict_proba(X)
    np.testing.assert_array_equal(left_out, tiny().fit(X[kept], Y[kept]).predict_proba(X))
    equal = tiny().fit(X, Y, sample_weight=7.0)
    np.testing.assert_array_equal(equal.predict_proba(X), tiny().fit(X, Y).predict_proba(X))
    assert "train_loss_weighted" not in equal.history_[0]


# In scikit-learn's company


def test_a_pipeline_with_a_scaler_reads_digits() -> None:
    images, labels = load_digits(return_X_y=True)
    network = tiny(epochs=4, embed_dim=24, batch_size=32, knobs={"shift": 0.0, "shear": 0.0})
    pipeline = make_pipeline(StandardScaler(), network)
    assert pipeline.fit(images[:1200], labels[:1200]).score(images[1200:], labels[1200:]) > 0.8


def test_a_search_in_two_processes_gives_the_results_of_one_and_shares_the_cores() -> None:
    grid = {"patch_size": [2, 4], "lr": np.logspace(-3, -2, 2)}
    searches = [GridSearchCV(tiny(epochs=1), grid, cv=2, n_jobs=jobs, error_score="raise").fit(X, Y) for jobs in (1, 2)]
    one, two = (search.cv_results_["mean_test_score"] for search in searches)
    np.testing.assert_array_equal(one, two)
    made = cross_validate(tiny(epochs=1), X, Y, cv=2, n_jobs=2, return_estimator=True)["estimator"]
    assert {each.config_.machine.threads for each in made} == {max(1, available_cores() // 2)}


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs/do/scikit-learn.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    monkeypatch.chdir(tmp_path)
    shorter = "\n".join(blocks).replace("epochs=12", "epochs=1").replace("n_jobs=2", "n_jobs=1").replace("cv=3", "cv=2")
    exec(shorter, {})
    assert capsys.readouterr().out.splitlines()[-1] == "True"
    assert all(check in page for check in EXPECTED)


# Saving


@pytest.mark.parametrize(
    "labels",
    [IMAGES.labels - 1, IMAGES.labels > 0, Y, Y.astype(object), IMAGES.labels.astype(np.uint8), IMAGES.labels * 1.0],
    ids=["int", "bool", "str", "object", "uint8", "float"],
)
def test_a_saved_classifier_is_the_same(labels: Any, tmp_path: Path) -> None:
    classifier = tiny(epochs=1, class_weight={labels[0]: 3.0}).fit(X * 0.37, labels)
    loaded = ViTClassifier.load(classifier.save(tmp_path / "run"))
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict(X), classifier.predict(X))
    assert loaded.classes_.dtype == classifier.classes_.dtype
    assert loaded.history_ == classifier.history_
    np.testing.assert_array_equal(clone(loaded).fit(X * 0.37, labels).predict_proba(X), classifier.predict_proba(X))
    again = ViTClassifier.load(loaded.save(tmp_path / "again"))
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))


def test_a_saved_classifier_is_a_run_folder(tmp_path: Path) -> None:
    X = IMAGES.images[..., 0].copy()
    X[0, 0, 0] = 255  # white must be among the training images, so that files of 8 bits mean the same
    classifier = tiny(epochs=4).fit(X / 255.0, Y)
    run = classifier.save(tmp_path / "run")
    assert not any(finding.is_bad for finding in check_run(run))
    opened = Classifier.load(run)
    assert opened.classes == ("ash", "birch", "cedar")
    best = [opened(image, center=False)[0] for image in X[:7]]
    assert [label.name for label in best] == classifier.predict(X[:7] / 255.0).tolist()
    expected = classifier.predict_proba(X[:7] / 255.0).max(axis=1)
    np.testing.assert_allclose([label.probability for label in best], expected, atol=1e-5)
    with pytest.raises(DataError, match="arrays in memory and were not stored"):
        evaluate_run(run, "val")
    with pytest.raises(RunError, match="is not empty; choose another path, or delete that folder first"):
        classifier.save(run)


def test_a_run_of_the_command_line_can_be_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "glyphs.npz", x_train=IMAGES.images, y_train=IMAGES.labels, classes=np.array(["x", "y", "z"]))
    knobs = dict(epochs=4, patch_size=2, image_size=8, val_fraction=0.2, class_weight="balanced", seed=5)
    train_run(preset_config("small").with_knobs(data=str(tmp_path / "glyphs.npz"), **knobs, **PLAIN), tmp_path / "run")
    loaded = ViTClassifier.load(tmp_path / "run")
    assert loaded.score(X, np.array(["x", "y", "z"])[IMAGES.labels]) > 0.9
    assert (loaded.class_weight, loaded.validation_fraction, loaded.patch_size) == ("balanced", 0.2, 2)
    assert loaded.get_params()["knobs"] == PLAIN | {"image_size": 8}
    assert clone(loaded).fit(X, Y).history_[-1]["train_loss_weighted"]


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    classifier = tiny(epochs=1).fit(X, Y)
    changes: list[dict[str, Any]] = [{"labels": ["ash"]}, {"scale": "white"}, {"label_type": "V3"}, {"labels": None}]
    for number, change in enumerate(changes):
        about = classifier._about() | change
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ViTClassifier, "_about", lambda self, about=about: about)
            classifier.save(tmp_path / str(number))
        with pytest.raises(RunError, match=r"data.json is damaged: estimator: "):
            ViTClassifier.load(tmp_path / str(number))


def test_numbers_from_0_to_1_are_refused_by_a_network_for_pictures(tmp_path: Path) -> None:
    train_run(tiny_config(write_npz(tmp_path / "bars.npz")), tmp_path / "run")
    loaded = ViTClassifier.load(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"from 0 to 1; use X \* 255"):
        loaded.predict(IMAGES.images / 255)
    assert loaded.predict(IMAGES.images / 1.0).tolist() == loaded.predict(IMAGES.images).tolist()


@pytest.mark.parametrize("weight", [-1.0, np.inf, np.nan])
def test_weights_of_classes_that_cannot_be(weight: float) -> None:
    with pytest.raises(ConfigError, match="class_weight must be finite numbers from 0"):
        ViTClassifier("fast", epochs=1, class_weight={"ash": weight}).fit(X, Y)


def test_knobs_cannot_name_other_images() -> None:
    with pytest.raises(ConfigError, match="must not contain data"):
        ViTClassifier("fast", epochs=1, knobs={"data": "mnist"}).fit(X, Y)


def test_tensors_with_gradients_are_images_and_masks_are_refused() -> None:
    tensor = torch.from_numpy(IMAGES.images[..., 0] / 255).requires_grad_()
    assert ViTClassifier("fast", epochs=1).fit(tensor, Y).image_shape_ == (8, 8, 1)
    for images in (IMAGES.images, X):
        with pytest.raises(ConfigError, match="masked"):
            ViTClassifier("fast", epochs=1).fit(np.ma.masked_greater(images, 100), Y)
