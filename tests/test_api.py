"""vitlab in Python: training, opening, predicting, looking at attention; checked against torch, json and NumPy."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

import vitlab
from tests.made_runs import make_run
from tests.tiny import glyphs, tiny_config, write_npz
from vitlab.api.given import arrays_in, packed, place_of
from vitlab.errors import ConfigError, DataError, Interrupted, RunError
from vitlab.model import build_model
from vitlab.predict import ImageError

MANY = glyphs(307, seed=3)  # more than go through the network at once, and not a multiple of it


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> vitlab.Run:
    """A run that was trained from Python, on a file."""
    folder = tmp_path_factory.mktemp("api")
    return vitlab.train(tiny_config(write_npz(folder / "bars.npz")), out=str(folder / "run"), progress=False)


@pytest.fixture(scope="module")
def logits(run: vitlab.Run) -> torch.Tensor:
    """The answers to MANY, computed with nothing but torch and the run's files, in float64."""
    config = run.config.model
    model = build_model(config, 1, 3).double()
    model.load_state_dict(load_file(run.path / "model.safetensors"))
    settings = json.loads((run.path / "data.json").read_text())["preprocess"]
    pixels = torch.from_numpy(MANY.images).permute(0, 3, 1, 2).double() / 255
    with torch.no_grad():
        answers: torch.Tensor = model.eval()((pixels - settings["mean"][0]) / settings["std"][0])
    return answers


# --- train and load


def test_a_folder_is_chosen_and_chosen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_npz(tmp_path / "bars.npz")
    config = tiny_config("mnist", epochs=1)
    runs = [vitlab.train(config, data=where, seed=np.int64(7), progress=False) for where in (data, str(data))]
    assert len({one.path for one in runs}) == 2
    for one in runs:
        assert one.path.parent == Path("runs")
        assert one.config.train.seed == 7
        assert one.config.data.data == str(data)


def test_load_opens_the_same_run(run: vitlab.Run) -> None:
    for path in (run.path, str(run.path)):
        again = vitlab.load(path)
        assert again.result == run.result
        assert again.config == run.config
        assert again.classes == ("0", "1", "2")


def test_old_functions_take_strings(run: vitlab.Run) -> None:
    assert vitlab.load_model(str(run.path))[2] == run.classes
    assert vitlab.evaluate_run(str(run.path))["images"] == 31
    assert vitlab.resume_run(str(run.path)) == run.result
    assert vitlab.RunFolder(str(run.path)).result() == run.result


def test_what_is_written_is_what_the_command_line_writes(run: vitlab.Run) -> None:
    assert vitlab.RunFolder(run.path).result() == run.result
    assert run.result["test_images"] == 31


def test_progress_is_silent_or_somebody_elses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, rows = tiny_config(write_npz(tmp_path / "bars.npz"), epochs=2), list[Any]()
    vitlab.train(config, out=tmp_path / "a", progress=False)
    vitlab.train(config, out=tmp_path / "b", progress=vitlab.Reporter(epoch=lambda task, row: rows.append(row)))
    assert capfd.readouterr() == ("", "")
    assert [row["epoch"] for row in rows] == [1, 2]
    vitlab.train(config, out=tmp_path / "c")
    said = capfd.readouterr()
    assert said.out == ""
    assert f"saved in {tmp_path / 'c'}" in said.err.splitlines()[-1]


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    def press_stop(*anything: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    config = tiny_config(write_npz(tmp_path / "bars.npz"))
    whole = vitlab.train(config, out=tmp_path / "whole", progress=False)
    with pytest.raises(Interrupted, match=r"to continue: `vitlab.load\('.*run'\).resume\(\)`"):
        vitlab.train(config, out=tmp_path / "run", progress=vitlab.Reporter(epoch=press_stop))
    begun = vitlab.load(tmp_path / "run")
    assert "interrupted" in repr(begun)
    resumed = begun.resume(progress=False)
    assert resumed.result["model_sha256"] == whole.result["model_sha256"]
    with pytest.raises(RunError, match="not empty"):
        vitlab.train(config, out=tmp_path / "run", progress=False)


# --- data


def test_arrays_are_stored_once_and_found_again(tmp_path: Path) -> None:
    train, test = glyphs(53, seed=1), glyphs(31, seed=2)
    arrays = (train.images / 255, train.labels, torch.from_numpy(test.images).permute(0, 3, 1, 2), test.labels.tolist())
    config = tiny_config("mnist", epochs=1)
    first = vitlab.train(config, data=arrays, out=tmp_path / "first", progress=False)
    second = vitlab.train(config, data=arrays, out=tmp_path / "second", progress=False)
    (stored,) = (tmp_path / "arrays").iterdir()
    assert first.config.data.data == second.config.data.data == str(stored)
    assert first.result["model_sha256"] == second.result["model_sha256"]
    found = vitlab.load_dataset(stored)
    assert found.test is not None
    for split, own in ((found.train, train), (found.test, test)):
        assert np.array_equal(split.images, own.images)
        assert np.array_equal(split.labels, own.labels)
    assert first.evaluate("test", threads=1)["images"] == 31
    assert vitlab.load(first.path).resume(progress=False).result == first.result


def test_labels_may_be_names() -> None:
    split = glyphs(7)
    made = arrays_in((split.images[..., 0], np.array(["ox", "cat", "owl", "ox", "cat", "owl", "ox"])))
    assert made["classes"].tolist() == ["cat", "owl", "ox"]
    assert made["y_train"].tolist() == [2, 0, 1, 2, 0, 1, 2]
    assert made["x_train"].shape == (7, 8, 8, 1)


def test_names_of_classes_keep_their_given_order() -> None:
    split = glyphs(7)
    given = {"x_train": split.images, "y_train": np.array(["ox", "cat", "owl"])[split.labels]}
    made = arrays_in(given | {"classes": ["ox", "owl", "cat"]})
    assert made["classes"][made["y_train"]].tolist() == given["y_train"].tolist()
    assert made["classes"].tolist() == ["ox", "owl", "cat"]
    with pytest.raises(DataError, match="the classes lack 'ox'"):
        arrays_in(given | {"classes": ["cat", "owl"]})


@pytest.mark.parametrize("kind", [object, float, "uint8", ">i4"])
def test_labels_of_any_type_of_number_are_these_numbers(kind: Any) -> None:
    labels = np.arange(13) % 12
    made = arrays_in((np.zeros((13, 8, 8), np.uint8), labels.astype(kind)))
    assert "classes" not in made  # their text would be sorted 0, 1, 10, 11, 2
    assert made["y_train"].tolist() == labels.tolist()


def test_true_and_false_are_labels() -> None:
    made = arrays_in((np.zeros((5, 8, 8), np.uint8), np.arange(5) > 1))
    assert made["classes"][made["y_train"]].tolist() == ["False", "False", "True", "True", "True"]


def test_a_run_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = vitlab.train(tiny_config(write_npz(tmp_path / "bars.npz")), out="run", progress=False)
    answers = made.predict(MANY.images[:3]).names
    opened = vitlab.load("run")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    for one in (made, opened):
        assert one.predict(MANY.images[:3]).names == answers
        assert one.result["status"] == "done"
        assert one.evaluate()["images"] == 31
        assert "not finished" not in repr(one)


def test_a_data_set_in_memory_is_data(tmp_path: Path) -> None:
    digits = vitlab.load_dataset("digits")
    again = vitlab.load_dataset(place_of(digits, tmp_path))
    assert np.array_equal(again.train.images, digits.train.images)
    assert again.card.classes == digits.card.classes


def test_the_bytes_of_arrays_do_not_depend_on_their_order_or_the_day() -> None:
    one, two = np.arange(7), np.arange(5)
    assert packed({"a": one, "b": two}) == packed({"b": two, "a": one})
    with np.load(BytesIO(packed({"a": one}))) as read:
        assert np.array_equal(read["a"], one)


class Frame:
    """What matters here of a DataFrame, whose iterator gives the names of its columns."""

    def __init__(self, rows: Any) -> None:
        self.rows, self.shape = rows, rows.shape
        self.columns = [f"pixel{number}" for number in range(rows.shape[1])]

    def __iter__(self) -> Any:
        return iter(self.columns)

    def __array__(self, *arguments: Any, **others: Any) -> Any:
        return self.rows

    def to_numpy(self) -> Any:
        return self.rows


SPLIT = glyphs(7)
WRONG: dict[str, tuple[Any, str]] = {
    "one array": (SPLIT.images, "name, a path, or arrays.*not ndarray"),
    "three": ((SPLIT.images, SPLIT.labels, 1), "not tuple of 3"),
    "labels of others": ((SPLIT.images, SPLIT.labels[:5]), "each of 7 images"),
    "floats above 1": ((SPLIT.images / 3.0, SPLIT.labels), r"x.round\(\)"),
    "normalised": ((SPLIT.images / 127.5 - 1, SPLIT.labels), "undo their normalisation"),
    "flat": ((SPLIT.images.reshape(7, -1), SPLIT.labels), r"not \[7, 64\]; x.reshape\(-1, 8, 8\) makes pictures"),
    "flat colours": ((np.zeros((7, 363)), SPLIT.labels), r"x.reshape\(-1, 11, 11, 3\)"),
    "flat oblongs": ((np.zeros((7, 35)), SPLIT.labels), r"x.reshape\(-1, H, W\)"),
    "a table": ((Frame(SPLIT.images.reshape(7, -1)), SPLIT.labels), r"x.to_numpy\(\).reshape\(-1, 8, 8\)"),
    "0 to 16": ((SPLIT.images % 17 / 1.0, SPLIT.labels), r"if 16 is white, use x / 16"),
    "scikit-learn's order": (
        (SPLIT.images, SPLIT.images[:5], SPLIT.labels, SPLIT.labels[:5]),
        "the order is X_train, y_train, X_test, y_test",
    ),
    "scikit-learn's lists": (
        (SPLIT.images.tolist(), SPLIT.images[:5].tolist(), SPLIT.labels.tolist(), SPLIT.labels[:5].tolist()),
        "the order is X_train, y_train, X_test, y_test",
    ),
    "17 channels": ((np.repeat(SPLIT.images, 17, 3), SPLIT.labels), "up to 16 channels"),
    "unknown key": ({"x_train": 1, "y_train": 2, "z": 3}, "may have only"),
    "negative": ((SPLIT.images, SPLIT.labels - 1), r"must not be negative.*numpy.unique"),
    "halves": ((SPLIT.images, SPLIT.labels + 0.5), "whole numbers or names, not float64"),
    "bytes": ((SPLIT.images, np.array([b"a", b"b"] * 3 + [b"a"])), "whole numbers or names"),
    "one-hot": ((SPLIT.images, np.eye(3)[SPLIT.labels]), r"y.argmax\(1\)"),
    "column": ((SPLIT.images, SPLIT.labels[:, None]), r"y.ravel\(\)"),
    "missing label": ((SPLIT.images, ["a", "b", None, "a", "b", "a", "b"]), "labels are missing"),
    "missing number": ((SPLIT.images, np.array([0, 1, np.nan, 0, 1, 0, 1], object)), "labels are missing"),
    "mixed labels": ((SPLIT.images, np.array([1, "a"] * 3 + [1], object)), r"one is 1 \(int\)"),
    "masked": ((np.ma.masked_greater(SPLIT.images, 9), SPLIT.labels), r"masked; x.filled\(0\)"),
    "masked labels": ((SPLIT.images, np.ma.masked_equal(SPLIT.labels, 1)), "masked"),
    "other sizes": (([SPLIT.images[0], SPLIT.images[1][:5]], [0, 1]), "same size"),
    "objects": ((np.array([*SPLIT.images, None], object)[:-1], SPLIT.labels), "same size"),
    "a generator": (((one for one in SPLIT.images), SPLIT.labels), "not generator"),
    "names of data": (("mnist", "digits"), "labels are an array, or a list"),
    "no images": ((SPLIT.images[:0], SPLIT.labels[:0]), "no training images; pass some"),
    "no test images": (
        (SPLIT.images, SPLIT.labels, SPLIT.images[:0], SPLIT.labels[:0]),
        "no test images; leave an empty part out",
    ),
    "one class": ((SPLIT.images, SPLIT.labels * 0), "two classes or more"),
    "unknown number": ((SPLIT.images, SPLIT.labels, SPLIT.images, SPLIT.labels + 7), "no training image is labelled 7"),
    "test of other size": (
        (SPLIT.images, SPLIT.labels, SPLIT.images[:, 1:], SPLIT.labels),
        r"test images are \[7, 8, 1\]",
    ),
    "unknown name": ((SPLIT.images, ["a"] * 7, SPLIT.images, ["b"] * 7), "no training image is labelled 'b'"),
}


@pytest.mark.parametrize(("data", "words"), WRONG.values(), ids=WRONG)
def test_unsuitable_arrays_are_refused_before_anything_is_written(data: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as caught:
        vitlab.train(tiny_config("mnist"), data=data, out=tmp_path / "run", progress=False)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_pairs_as_keras_has_them_are_data() -> None:
    train, test = glyphs(7), glyphs(5)
    expected = arrays_in((train.images, train.labels, test.images, test.labels))
    for first, second in (
        ((train.images, train.labels), (test.images, test.labels)),
        ([torch.from_numpy(train.images), train.labels.tolist()], [test.images.tolist(), test.labels]),
    ):
        found = arrays_in((first, second))
        assert all(np.array_equal(found[key], expected[key]) for key in expected)
    two = arrays_in((list(train.images[:2]), [0, 1]))  # are no pairs
    assert two["x_train"].shape == (2, 8, 8, 1)


def test_rows_of_pixels_in_a_file_are_refused_with_the_way_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x_train=SPLIT.images.reshape(7, -1), y_train=SPLIT.labels)
    with pytest.raises(DataError, match=r"of shape \[7, 64\]; they must be .*; x.reshape\(-1, 8, 8\) makes"):
        vitlab.load_dataset(tmp_path / "rows.npz")


def test_more_classes_than_their_images_allow_get_a_line(tmp_path: Path) -> None:
    lines, images = list[str](), glyphs(43).images
    for name, labels in (("own", np.arange(43)), ("two", np.arange(43) // 2), ("few", np.arange(43) % 20)):
        config = tiny_config("mnist", epochs=1, val_fraction=0.0)
        reporter = vitlab.Reporter(note=lines.append)
        vitlab.train(config, data=(images, labels), out=tmp_path / name, progress=reporter)
    (line,) = (line for line in lines if "too many to learn" in line)
    assert line.startswith("43 classes for 43 images")


ANY: Any = vitlab  # whatever its types say
CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "data as preset": (lambda: ANY.train("digits"), "'digits' is a data set, not a preset; use data='digits'"),
    "a path as preset": (lambda: ANY.train(Path("flowers")), "'flowers' is a data set"),
    "arrays as preset": (lambda: ANY.train((MANY.images, MANY.labels)), r"not tuple; images go into data=\("),
    "data without name": (lambda: ANY.train("fast", "digits"), "only the preset has no name; use data="),
    "verbose": (lambda: ANY.train("fast", data="digits", verbose=2), "use progress=True or progress=False"),
    "progress": (lambda: ANY.train("fast", data="digits", progress="bar"), "progress is True or False, not 'bar'"),
    "progress of a study": (lambda: ANY.study("patch-size", progress="bar"), "progress is True or False"),
    "vary as text": (
        lambda: ANY.study(vary="patch_size=4,7"),
        r"vary is a dict, such as vary=\{",
    ),
    "vary as name": (lambda: ANY.study({"depth": [1, 2]}), r"text, not dict; vary=\{"),
    "presets as a list": (lambda: ANY.compare(["small", "fast"]), r'vitlab.compare\("small", "keras-cnn"\)'),
    "no path": (lambda: ANY.load(None), "load takes the path of a run or its name in runs/, not NoneType"),
    "a number of classes": (lambda: ANY.ViTClassifier(10).fit(MANY.images, MANY.labels), "a preset is a name.*not int"),
    "workers": (lambda: ANY.compare("small", "fast", data="digits", workers=0), "workers is the number of runs"),
}


@pytest.mark.parametrize(("call", "words"), CALLS.values(), ids=CALLS)
def test_calls_in_anothers_way_are_told_ours(
    call: Callable[[], Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_evaluate_says_where_other_images_go(run: vitlab.Run) -> None:
    for given, words in (((MANY.images, MANY.labels), r"on=\(images, labels\)"), (Path("other"), "on=path")):
        with pytest.raises(ConfigError, match=f"split is test, val or train, not .*; for other images use {words}"):
            run.evaluate(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, -1, 1.5, None])
def test_the_number_of_labels_is_one_or_more(run: vitlab.Run, count: Any) -> None:
    answers, answer = run.predict(MANY.images[:2]), next(run.classifier.answers(MANY.images[:1]))
    for top in (answers.top, answer.top, lambda n: run.classifier(MANY.images[0], top=n)):  # type: ignore[union-attr]
        with pytest.raises(ConfigError, match="top is the number of labels, from 1"):
            top(count)
    assert len(answers.top(np.int64(2))[0]) == len(run.classifier(MANY.images[0], top=2)) == 2  # type: ignore[arg-type]


# --- predict


def test_predictions_are_the_softmax_of_the_network(run: vitlab.Run, logits: torch.Tensor) -> None:
    answers = run.predict(MANY.images)
    expected = torch.exp(logits) / torch.exp(logits).sum(dim=1, keepdim=True)
    assert len(answers) == 307
    np.testing.assert_allclose(answers.probabilities, expected, atol=2e-6)
    assert answers.indices.tolist() == logits.argmax(dim=1).tolist()
    assert answers.names == [str(index) for index in answers.indices]
    assert [label.index for label in answers] == answers.indices.tolist()
    assert answers[5].probability == answers.probabilities[5].max()
    ranked = answers.top(2)[5]
    assert [label.index for label in ranked] == logits[5].argsort(descending=True)[:2].tolist()


def test_some_of_the_answers(run: vitlab.Run) -> None:
    answers = run.predict(MANY.images[:23])
    assert answers.unlike is not None
    for chosen in (slice(3, 20, 4), [22, 0, 5], np.arange(23) % 3 == 0, slice(0, 0)):
        some, places = answers[chosen], np.arange(23)[chosen]
        assert some.indices.tolist() == answers.indices[places].tolist()
        assert some.unlike is not None
        assert some.unlike.tolist() == answers.unlike[places].tolist()
        for place, picture in zip(places, some.pictures, strict=False):
            assert np.array_equal(picture, MANY.images[place])
        assert ":" not in repr(answers[:0])
        assert "<table" in some._repr_html_()


def test_masked_pictures_are_refused(run: vitlab.Run) -> None:
    for pictures in (MANY.images[:3], MANY.images[0], [MANY.images[0]]):
        masked = np.ma.masked_greater(pictures, 100)
        with pytest.raises(ImageError, match="masked"):
            run.predict(masked if isinstance(pictures, np.ndarray) else list(masked))


def test_unlike_is_the_runs_own_measure(run: vitlab.Run) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    images = np.concatenate([MANY.images[:7], noise])
    answers, classifier = run.predict(images), vitlab.Classifier.load(run.path)
    assert answers.unlike is not None
    assert classifier.bounds is not None
    distances = classifier.novelty(torch.from_numpy(images))
    assert answers.unlike.tolist() == (distances > classifier.bounds.threshold).tolist()
    assert answers.unlike[7:].all()


FORMS = (
    *("[N, H, W]", "floats", "float32 [N, H, W]", "int64", "colour", "transparent", "tensor [N, C, H, W]"),
    *("tensor [N, H, W, C]", "tensor [N, H, W]", "tensor of floats", "channels first", "list", "list of matrices"),
    *("generator", "PIL", "paths", "strings", "bytes", "split"),
)


def forms(folder: Path) -> dict[str, Any]:
    """The first pictures of MANY in every form that is understood."""
    pixels = MANY.images[:5]
    paths = [folder / f"{number}.png" for number in range(5)]
    for path, image in zip(paths, pixels, strict=True):
        PIL.Image.fromarray(image[..., 0]).save(path)
    made = {
        "[N, H, W]": pixels[..., 0],
        "floats": pixels / 255,
        "float32 [N, H, W]": np.float32(pixels[..., 0] / 255),
        "int64": pixels.astype(np.int64),
        "colour": np.repeat(pixels, 3, axis=3),
        "transparent": np.concatenate([np.repeat(pixels, 3, axis=3), np.full_like(pixels, 255)], axis=3),
        "tensor [N, C, H, W]": torch.from_numpy(pixels).permute(0, 3, 1, 2),
        "tensor [N, H, W, C]": torch.from_numpy(pixels),
        "tensor [N, H, W]": torch.from_numpy(pixels[..., 0]),
        "tensor of floats": torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255,
        "channels first": pixels.transpose(0, 3, 1, 2),
        "list": list(pixels),
        "list of matrices": [image[..., 0] for image in pixels],
        "generator": (image for image in pixels),
        "PIL": [PIL.Image.fromarray(image[..., 0]) for image in pixels],
        "paths": paths,
        "strings": [str(path) for path in paths],
        "bytes": [path.read_bytes() for path in paths],
        "split": MANY.take(range(5)),
    }
    assert tuple(made) == FORMS
    return made


@pytest.mark.parametrize("form", FORMS)
def test_pictures_in_every_form_get_the_same_answers(run: vitlab.Run, form: str, tmp_path: Path) -> None:
    expected = run.predict(MANY.images[:5]).probabilities
    np.testing.assert_allclose(run.predict(forms(tmp_path)[form]).probabilities, expected, atol=1e-6)


def test_a_single_picture_is_a_batch_of_one(run: vitlab.Run, tmp_path: Path) -> None:
    expected = run.predict(MANY.images[:1]).probabilities
    picture = PIL.Image.fromarray(MANY.images[0, ..., 0])
    picture.save(tmp_path / "a.png")
    tensor = torch.from_numpy(MANY.images[0]).permute(2, 0, 1)
    for one in (MANY.images[0], MANY.images[0, ..., 0], picture, tmp_path / "a.png", str(tmp_path / "a.png"), tensor):
        found = run.predict(one)
        assert len(found) == 1
        np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert len(run.predict([])) == 0
    assert run.predict([]).probabilities.shape == (0, 3)


def test_pictures_of_several_sizes_are_reduced_to_that_of_the_data(run: vitlab.Run) -> None:
    large = np.kron(MANY.images[:3, ..., 0], np.ones((4, 4), np.uint8))
    np.testing.assert_allclose(
        run.predict([large[0], MANY.images[1], large[2]]).probabilities,
        run.predict([run.classifier.pixels(large[0]), MANY.images[1], large[2]]).probabilities,
    )
    assert run.predict(large).indices.tolist() == run.predict(MANY.images[:3]).indices.tolist()


AMBIGUOUS: dict[str, tuple[Any, str]] = {
    "tensor of three": (torch.zeros(3, 8, 8), r"x\[None\] for one, or x\[:, None\] for several"),
    "floats to 255": (MANY.images[:3].astype(float), "if 255 is white"),
    "integers to 1": ((MANY.images[:3] > 99).astype(int), "if 1 is white"),
    "normalised": (MANY.images[:3] / 127.5 - 1, "undo their normalisation"),
    "not finite": (np.full((3, 8, 8), np.nan), "not finite"),
    "five sizes": (np.zeros((1, 1, 1, 8, 8)), r"\[N, H, W, C\]|pixels are"),
    "a number": (3, "not int"),
    "rows of numbers": ([[0, 255], [255, 0]], "not list"),
    "pixels in rows": (MANY.images[:3].reshape(3, -1), r"3 pictures in rows; pass x.reshape\(-1, 8, 8\)"),
    "many rows": (MANY.images.reshape(307, -1), r"307 pictures in rows or one .* rows, or x\[None\] for one"),
    "a tensor of rows": (torch.from_numpy(MANY.images[:3].reshape(3, -1) / 255), r"reshape\(-1, 8, 8\)"),
    "one row": (MANY.images[0].ravel(), r"one picture in a row; pass x.reshape\(-1, 8, 8\)"),
    "a list of rows": (list(MANY.images[:3].reshape(3, -1)), r"one picture in a row; pass x.reshape\(-1, 8, 8\)"),
    "a table": (Frame(MANY.images[:3].reshape(3, -1)), r"not Frame; use x.to_numpy\(\).reshape\(-1, 8, 8\)"),
    "a mapping": ({"a": MANY.images[0]}, r"not dict; list\(x.values\(\)\) is"),
}


@pytest.mark.parametrize(("value", "words"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_may_mean_several_things_is_refused_in_one_line(run: vitlab.Run, value: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        run.predict(value)
    assert "\n" not in str(caught.value)


def test_what_looks_like_pictures_in_rows_may_be_one_picture(run: vitlab.Run) -> None:
    """64 numbers are an image of the network; a picture that is as wide has a way in."""
    square = np.kron(MANY.images[0, ..., 0], np.ones((8, 8), np.uint8))
    expected = run.predict([square]).probabilities
    assert np.array_equal(run.predict(square[None]).probabilities, expected)
    assert run.classifier(square)[0].probability == pytest.approx(expected.max(), abs=1e-6)
    assert run.attention(square).label.index == expected.argmax()
    for rows in (MANY.images[:1].reshape(1, -1), MANY.images[0].ravel(), glyphs(521).images.reshape(521, -1)):
        for one in (rows, torch.from_numpy(rows)):
            with pytest.raises(ImageError, match=r"looks like .* in .*row"):
                run.attention(one)
    with pytest.raises(ImageError, match=r"not Frame; numpy.asarray\(x\)"):
        run.attention(Frame(MANY.images[0, ..., 0]))  # type: ignore[arg-type]


def test_colours_first_are_not_taken_for_grey_pictures(tmp_path: Path) -> None:
    colour = vitlab.Classifier.load(str(make_run(tmp_path / "run", channels=3)))
    picture = np.random.default_rng(3).integers(0, 256, (3, 31, 29), dtype=np.uint8)
    with pytest.raises(ImageError, match=r"one picture in colour or 3 grey ones; pass x.transpose\(1, 2, 0\) for one"):
        colour.predict(picture)
    assert len(colour.predict(picture.transpose(1, 2, 0))) == len(colour.predict(torch.from_numpy(picture))) == 1
    assert len(colour.predict(picture[..., None])) == 3
    assert len(colour.predict(picture[:2])) == 2
    with pytest.raises(ImageError, match=r"5 pictures in rows; pass x.reshape\(-1, 28, 28, 3\)"):
        colour.predict(np.zeros((5, 28 * 28 * 3)))


def test_a_doubt_is_shown_beside_each_answer() -> None:
    chances = np.array([[0.9, 0.1, 0.0], [0.4, 0.35, 0.25], [0.45, 0.3, 0.25], [0.8, 0.1, 0.1]])
    answers = vitlab.Predictions(("ox", "cat", "owl"), chances, np.array([False, False, True, True]))
    assert "ox 90.0 %, ox 40.0 % (not sure), ox 45.0 % (unlike, not sure), ...; 2 unlike the training" in repr(answers)
    assert repr(answers[3:]) == "<Predictions of 1 picture: ox 80.0 % (unlike)>"
    assert "unlike" not in repr(vitlab.Predictions(("ox", "cat", "owl"), chances, None))


def test_drawings_are_normalised_in_a_batch_as_they_are_alone(tmp_path: Path) -> None:
    classifier = vitlab.Classifier.load(str(make_run(tmp_path / "run", data="mnist")))
    draw = np.zeros((5, 28, 28), np.uint8)
    draw[0, 4:24, 12:16] = 255  # as MNIST's are: 20 high, in the middle
    draw[1, 1:9, 2:5] = 255  # small, in a corner
    draw[2] = 255 - draw[0]  # dark on white
    draw[3, 4:24, 12:16] = 255
    draw[3, 4:8, 8:20] = 200
    together = classifier.predict(draw)
    alone = [classifier(picture, top=10) for picture in draw]
    for number, labels in enumerate(alone):
        for label in labels:
            assert together.probabilities[number, label.index] == pytest.approx(label.probability, abs=1e-6)


def test_a_network_refuses_pixels_and_says_what_to_do(run: vitlab.Run) -> None:
    images = torch.from_numpy(MANY.images[:2])
    for arch in ("vit", "cnn", "mixer", "resnet"):
        sizes: dict[str, Any] = {"cnn_channels": (3,)} if arch in ("cnn", "resnet") else {}
        model = build_model(tiny_config("mnist", arch=arch, **sizes).model, 1, 3)
        with pytest.raises(TypeError, match=r"not uint8 \[2, 1, 8, 8\]: call model\(preprocess\(images\)\)"):
            model(images.permute(0, 3, 1, 2))
    assert run.network()(run.preprocess(images)).shape == (2, 3)
    with pytest.raises(TypeError, match="preprocess"):
        run.network().forward_with_attention(images)  # type: ignore[operator]


INPUTS: dict[str, tuple[Any, str]] = {
    "an array": (MANY.images[:3], r"\[B, H, W, 1\], not ndarray; torch.from_numpy\(x\)"),
    "channels first": (
        torch.from_numpy(MANY.images[:3]).permute(0, 3, 1, 2).repeat(1, 1, 3, 3),
        r"permute\(0, 2, 3, 1\)",
    ),
    "one image": (torch.from_numpy(MANY.images[0]), r"not \[8, 8, 1\]; x\[None\] makes a batch"),
    "a list": ([1], "not list"),
}


@pytest.mark.parametrize(("images", "words"), INPUTS.values(), ids=INPUTS)
def test_preprocess_says_what_it_takes(run: vitlab.Run, images: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"preprocess takes a tensor .*{words}"):
        run.preprocess(images)


@pytest.mark.parametrize("arch", ["vit", "mixer"])
def test_a_network_says_which_images_it_takes(arch: str) -> None:
    model = build_model(tiny_config("mnist", arch=arch).model, 1, 3)
    assert model(torch.zeros(5, 1, 8, 8)).shape == (5, 3)
    for sizes in ((5, 8, 8, 1), (5, 3, 8, 8), (5, 1, 7, 11), (5, 1, 28, 28)):
        with pytest.raises(TypeError, match=r"takes \[B, 1, 8, 8\], not .*: call model\(preprocess\(images\)\)"):
            model(torch.zeros(sizes))
    for images in (np.zeros((5, 1, 8, 8), np.float32), torch.zeros(1, 8, 8)):
        with pytest.raises(TypeError, match="a network takes preprocessed images"):
            model(images)


# --- attention, history, figures


def test_attention_is_what_the_network_computes(run: vitlab.Run) -> None:
    attention = run.attention(MANY.images[7])
    assert attention.weights.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(attention.weights.sum(axis=-1), 1, atol=1e-6)
    model, preprocess, _ = vitlab.load_model(run.path)
    inputs = preprocess(torch.from_numpy(MANY.images[7:8]))
    with torch.no_grad():
        expected = model.forward_with_attention(inputs)[1][:, 0]  # type: ignore[operator]
    np.testing.assert_allclose(attention.weights, expected, atol=1e-6)
    assert attention.label.index == run.predict(MANY.images[7]).indices[0]
    np.testing.assert_allclose(attention.picture, MANY.images[7] / 255, atol=1e-6)
    mean = [0.5 * (block.mean(axis=0) + np.eye(16)) for block in attention.weights]
    np.testing.assert_allclose(attention.rollout, mean[1] @ mean[0], atol=1e-6)
    np.testing.assert_allclose(attention.pooled, attention.weights.mean(axis=2).reshape(2, 3, 4, 4), atol=1e-6)


def test_a_network_without_attention_says_so(tmp_path: Path) -> None:
    config = tiny_config(write_npz(tmp_path / "bars.npz"), attn_form="none", epochs=1)
    run = vitlab.train(config, out=tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="has no attention to show: this network has no attention"):
        run.attention(MANY.images[0])


def test_history_is_history_jsonl_with_and_without_pandas(run: vitlab.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert run.history == rows
    monkeypatch.delitem(sys.modules, "pandas")
    pandas = pytest.importorskip("pandas")
    table = vitlab.load(run.path).history
    assert isinstance(table, pandas.DataFrame)
    assert table.to_dict("records") == rows


def test_figures_show_themselves_in_a_notebook(run: vitlab.Run) -> None:
    for figure in (run.plot(), run.attention(MANY.images[0]).plot(), run.attention(MANY.images[0]).plot(patch=5)):
        assert isinstance(figure, Figure)
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="no patch 16; choose one from 0 to 15"):
        run.attention(MANY.images[0]).plot(patch=16)


# --- representations


def test_representations_are_short() -> None:
    digits = vitlab.load_dataset("digits")
    for shown in (digits, digits.test, digits.card, vitlab.preset_config("small"), vitlab.Reporter(note=print)):
        assert len(repr(shown)) < 120, repr(shown)


def test_representations_of_a_run(run: vitlab.Run) -> None:
    answers, attention = run.predict(MANY.images), run.attention(MANY.images[0])
    for shown in (run, run.result, run.classifier, answers, attention):
        assert len(repr(shown)) < 120 + len(str(run.path)), repr(shown)
    assert f"{100 * run.result['test_top1']:.2f} %" in repr(run)
    for page in (run._repr_html_(), answers._repr_html_()):
        assert len(page) < 20_000
    assert "and 297 more pictures" in answers._repr_html_()


def test_names_from_strangers_are_escaped(run: vitlab.Run) -> None:
    evil = "<script>alert(1)</script>"
    answers = vitlab.Predictions((evil, "b"), np.array([[0.9, 0.1]]), np.array([True]))
    assert evil not in answers._repr_html_()
    assert "&lt;script&gt;" in answers._repr_html_()
    assert "unlike the training images" in answers._repr_html_()
