"""The sentences of reports about runs made by hand, and which runs may be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import stats

from tests.tiny import on_cpu
from vitlab import RunConfig, Split
from vitlab.config.presets import PRESETS, preset_config
from vitlab.data import Dataset
from vitlab.data.cards import own_card
from vitlab.errors import RunError
from vitlab.look import attention, curves, images, inside, mistakes, summary
from vitlab.look.report import Picture, markdown
from vitlab.look.run import Subject, check_comparable
from vitlab.machine import Machine
from vitlab.model import ViT, build_model
from vitlab.runs.result import Result
from vitlab.text import with_article
from vitlab.training.preprocess import Preprocess

MACHINE = Machine(torch.device("cpu"), "fp32", 1, "plain", "plain", False, "plain", "for a test")
ENVIRONMENT = {"device": "cpu", "device_name": "abacus", "threads": 1, "precision": "fp32", "kernels": "plain"}


def subject_of(
    probabilities: list[list[float]] | torch.Tensor,
    labels: list[int],
    classes: tuple[str, ...] = ("cat", "dog", "owl"),
    name: str = "here",
    part: str = "test",
    model: Any = None,
    history: list[dict[str, Any]] | None = None,
    result: dict[str, Any] | None = None,
    knobs: dict[str, Any] | None = None,
) -> Subject:
    """A run whose answers are given: one row of probabilities an image."""
    draw = np.random.default_rng(0)
    split = Split(draw.integers(0, 255, (len(labels), 6, 6, 1)).astype(np.uint8), np.array(labels, np.int64))
    card = own_card("pets", "Pets", split.images, classes, "drawn by hand", "folder")
    base: dict[str, Any] = dict(
        image_size=6, patch_size=2, depth=2, num_heads=2, embed_dim=8, label_smoothing=0.0, dropout=0.0, drop_path=0.0
    )
    told: dict[str, Any] = {
        "status": "done",
        "train_seconds": 10.0,
        "params": 1000,
        "test_top1": None,
        "train_images": 100,
    }
    config = RunConfig().with_knobs(**(base | (knobs or {})))
    network: Any = build_model(config.model, 1, len(classes))
    model = model or network
    model.describe = network.describe
    return Subject(
        Path("runs") / name, config, Dataset(card, split, None, None, "d", "by hand"), model,
        Preprocess(6, (0.0,), (1.0,)), MACHINE, Result(**told | (result or {})), ENVIRONMENT,
        history or [], part, on_cpu(split), torch.as_tensor(probabilities).log(),
    )  # fmt: skip


SURE = [[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1]]


def test_runs_are_compared_only_on_the_same_images() -> None:
    one = subject_of(SURE, [0, 1, 2, 0], part="validation")
    check_comparable(one, subject_of(SURE, [0, 1, 2, 0], name="twin", part="validation"))
    other_labels = subject_of(SURE, [0, 1, 2, 1], name="seed 1", part="validation")
    other_images = replace(one, path=Path("x"), images=replace(one.images, images=one.images.images.flip(0)))
    for other in (other_labels, other_images):
        with pytest.raises(RunError, match=r"has other validation images than runs/here \(another seed or"):
            check_comparable(one, other)
    with pytest.raises(RunError, match="was trained on other images"):
        check_comparable(one, replace(one, dataset=replace(one.dataset, digest="e")))


def class_text(counts: list[list[int]]) -> str:
    """The sentence about the classes of a confusion matrix."""
    pairs = [(row, column) for row, line in enumerate(counts) for column, n in enumerate(line) for _ in range(n)]
    rows = [[0.8 if place == guess else 0.1 for place in range(3)] for _, guess in pairs]
    return mistakes.classes_picture(subject_of(rows, [truth for truth, _ in pairs])).text


def test_classes_are_called_unequal_only_when_a_test_of_all_says_so() -> None:
    apart = class_text([[60, 0, 0], [0, 30, 30], [0, 0, 60]])
    assert apart == (
        "The hardest class is dog with 50.00 % (95 % interval 37.73 to 62.27 %, on 60 images), the easiest cat with "
        "100.00 %. If all classes were equally hard, differences at least this large would occur in less than 1 % of "
        "cases (chi-square test): this is unlikely to be chance. The answer that is right least often is owl: in "
        "66.67 % of 90 cases (its precision)."
    )
    near = class_text([[19, 1, 0], [1, 18, 1], [0, 0, 20]])
    assert near.startswith(
        "The hardest class is dog with 90.00 % (95 % interval 69.90 to 97.21 %, on 20 images), the easiest owl with "
    )
    assert " of cases (chi-square test): this may be chance. The answer that is right least often is dog: in " in near
    assert class_text([[60, 0, 0], [0, 60, 0], [60, 0, 0]]).endswith(" No answer is ever 'owl'.")
    same = "All classes have the same accuracy: {}. Bars are 95 % intervals."
    assert class_text([[7, 0, 0], [0, 5, 0], [0, 0, 3]]) == same.format("100.00 %")
    assert class_text([[3, 1, 0], [1, 3, 0], [0, 0, 0]]) == same.format("75.00 %")
    assert class_text([[3, 1, 0], [0, 0, 0], [0, 0, 0]]) == (
        "All 4 images are of one class, cat; accuracy is 75.00 % (95 % interval 30.06 to 95.44 %)."
    )


def test_which_patch_matters_most() -> None:
    falls = torch.tensor([[0.01, 0.02, -0.3], [0.0, 0.031, 0.137]])
    colours = "Red patches support the right class, blue ones speak against it."
    assert attention.deletion_sentence(falls, "cat") == (
        f"{colours} Blanking the patch in row 2, column 3 of the first image (cat) lowers the probability of its class "
        "by 13.7 points."
    )
    assert attention.deletion_sentence(-falls.abs(), "cat") == (
        f"{colours} Blanking any patch of the first image (cat) does not lower the probability of its class."
    )


def test_agreement_of_attention_and_deletion_is_counted() -> None:
    last = np.array([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    falls = np.array([[[0.1, 0.2], [0.0, 0.0]], [[-0.5, 0.1], [0.0, 0.0]], [[0.0, 0.0], [0.2, 0.7]]])
    assert attention.agreement_sentence(last, falls) == (
        "In 2 of 3 images the patch with the most attention in the last block is also the one whose deletion costs "
        "most."
    )


def test_positions_show_the_layout_clearly_faintly_or_hardly() -> None:
    start = (
        "Each small map compares the position embedding of the patch at its place with those of all patches: red is "
        "similar. The embeddings {}; mean similarity is {} between direct neighbours and {} between all others: they "
        "{} reflect the image's layout."
    )
    for found, near, far, words in (
        (True, 0.52, 0.20, ("were learned", "0.52", "0.20", "clearly")),
        (False, 0.40, 0.12, ("are fixed (sine and cosine)", "0.40", "0.12", "faintly")),
        (True, 0.05, -0.02, ("were learned", "0.05", "-0.02", "hardly")),
        (True, 0.1, 0.9, ("were learned", "0.10", "0.90", "hardly")),
    ):
        assert inside.positions_sentence(found, near, far) == start.format(*words)


def test_neighbours_are_the_patches_that_touch_on_a_side() -> None:
    """On a 2 x 2 grid: patch 0 touches 1 and 2, not 3. Positions so that touching ones are alike by exactly 0.6."""
    one, two = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    model = SimpleNamespace(pos_embed=torch.tensor(np.stack([one, two, two, one])))
    made = inside.positions_picture(
        subject_of(SURE, [0, 1, 2, 0], knobs={"patch_size": 3, "pool": "mean"}), cast(ViT, model)
    )
    assert isinstance(made, Picture)
    assert "is 0.60 between direct neighbours and 1.00 between all others: they hardly reflect" in made.text


def confusion_text(counts: list[list[int]]) -> str:
    """The sentence about a confusion matrix."""
    pairs = [(row, column) for row, line in enumerate(counts) for column, n in enumerate(line) for _ in range(n)]
    rows = [[0.8 if place == guess else 0.1 for place in range(3)] for _, guess in pairs]
    return mistakes.confusion_picture(subject_of(rows, [truth for truth, _ in pairs])).text


def test_confusions_name_the_true_class_and_the_answer() -> None:
    how = "Rows are true classes, columns predictions."
    assert confusion_text([[5, 0, 3], [1, 4, 0], [0, 0, 7]]) == (
        "4 errors on 20 test images, in 2 class pairs. Most frequent: cat classified as owl, 3 times (37.50 % of that "
        f"class). {how}"
    )
    assert confusion_text([[5, 0, 0], [0, 4, 0], [0, 1, 3]]) == (
        f"1 error on 13 test images: owl classified as dog (25.00 % of that class). {how}"
    )
    assert confusion_text([[3, 1, 0], [0, 4, 0], [0, 1, 1]]) == (
        f"2 errors on 10 test images, in 2 class pairs; one is cat classified as dog (25.00 % of that class). {how}"
    )
    assert confusion_text([[1, 0, 0], [0, 2, 0], [0, 0, 3]]) == f"0 errors on 6 test images. {how}"


def test_the_most_confident_mistake_comes_first() -> None:
    rows = [[0.95, 0.04, 0.01], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8]]
    made = mistakes.mistakes_picture(subject_of(rows, [1, 2, 2], ("ape", "dog", "owl")))
    assert isinstance(made, Picture)
    assert made.text == (
        "2 mistakes, most confident first: true class → answer, the answer's probability, and the image's number in "
        "the test split. The first is a dog classified as an ape with 95.0 %; 1 had more than 90 %."
    )


def test_underconfidence_and_overconfidence_are_distinguished() -> None:
    doubt = mistakes.reliability_picture(
        subject_of([[0.6, 0.2, 0.2]] * 4, [0, 0, 0, 0], knobs={"label_smoothing": 0.1})
    )
    assert doubt.text == (
        "Mean confidence is 60.00 %, accuracy 100.00 %; the expected calibration error is 40.00 %. Error bars are 95 % "
        "intervals. Points above the dashed line mean underconfidence, which label smoothing of 0.1 causes."
    )
    boast = mistakes.reliability_picture(subject_of([[0.8, 0.1, 0.1]] * 4, [0, 1, 1, 1]))
    assert boast.text == (
        "Mean confidence is 80.00 %, accuracy 25.00 %; the expected calibration error is 55.00 %. Error bars are 95 % "
        "intervals. Points below the dashed line mean overconfidence."
    )


def test_how_far_heads_look_names_the_nearest_and_the_farthest(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = torch.tensor([[2.8, 1.1], [3.9, 2.7]])
    monkeypatch.setattr(attention, "attention_distance", lambda *_: distances)
    model = SimpleNamespace(forward_with_attention=lambda inputs: (None, None), training=False)
    model.eval, model.train = (lambda: None), (lambda mode: None)
    made = attention.distance_picture(subject_of(SURE, [0, 1, 2, 0], model=model, knobs={"patch_size": 3}))
    assert made.text == (
        "Mean attention distance over the first 4 test images: shortest in block 1, head 2 (1.1 pixels), longest in "
        "block 2, head 1 (3.9). Uniform attention would give 2.6 pixels; 1 of 4 heads is below that."
        # patches 3 pixels apart: (0 + 3 + 3 + 3 sqrt 2) / 4 = 2.56
    )


def test_the_lens_names_the_block_that_adds_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images: after the embedding one is right, after block 1 three, after block 2 all."""
    labels = [0, 1, 2, 0]
    right = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    wrong = (torch.tensor(labels) + 1) % 3
    answers = torch.where(right == 1, torch.tensor(labels), wrong)
    every = 0.7 * torch.nn.functional.one_hot(answers, 3) + 0.1
    monkeypatch.setattr(inside, "logit_lens", lambda model, inputs: every[:, : len(inputs)])
    made = inside.lens_picture(subject_of(SURE, labels), cast(ViT, None), 0)
    assert made.text == (
        "The final norm and head, which were trained for the last block, read the output of every block. On 4 test "
        "images, accuracy is 25.0 % after the embedding and 100.0 % at the end; block 1 adds most, 50.0 points."
    )


def test_two_runs_are_compared_in_speed_and_on_each_image() -> None:
    own = subject_of(SURE, [0, 1, 2, 0], result={"train_seconds": 10.0})
    slow = subject_of([[0.2, 0.7, 0.1], *SURE[1:]], [0, 1, 2, 0], name="slow", result={"train_seconds": 25.0})
    assert summary.other_sentence(own, slow) == (
        "Compared with slow (a custom configuration): 75.00 % in 25.0 s with 1,000 parameters. here was 2.5 times as "
        "fast. Only here is right on 1 image, only slow on 0 images: this may be chance (exact sign test, p = 1)."
    )
    assert summary.other_sentence(slow, own) == (
        "Compared with here (a custom configuration): 100.00 % in 10.0 s with 1,000 parameters. slow took 2.5 times as "
        "long. Only slow is right on 0 images, only here on 1 image: this may be chance (exact sign test, p = 1)."
    )
    bad = subject_of(torch.tensor([[0.1, 0.8, 0.1]]).expand(8, 3), [0] * 8, name="bad")
    good = subject_of(torch.tensor([[0.8, 0.1, 0.1]]).expand(8, 3), [0] * 8)
    assert summary.other_sentence(good, bad).endswith(
        "here was 1.0 times as fast. Only here is right on 8 images, only bad on 0 images: this is unlikely to be "
        "chance (exact sign test, p = 0.0078)."
    )


def test_the_gap_between_training_and_validation_is_read_the_right_way_round() -> None:
    for train, val, words in (
        (0.25, 0.5, "0.250 and the validation loss 0.500: the network does better on the images it was trained on."),
        (0.5, 0.25, "0.500 and the validation loss 0.250, lower because training is made harder by augmentation."),
    ):
        row = {"train_loss": train, "val_loss": val}
        run = subject_of(
            SURE, [0, 1, 2, 0], history=[row], knobs={"label_smoothing": 0.0, "rotate": 5.0, "clean_tail": 0.0}
        )
        assert curves.gap_sentence(run) == f"At the end the training loss is {words}"
    smoothed = subject_of(SURE, [0, 1, 2, 0], history=[row], knobs={"label_smoothing": 0.1})
    lowest = stats.entropy([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    assert curves.gap_sentence(smoothed) == (
        f"At the end the training loss is 0.500; with smoothed labels it cannot fall below {lowest:.3f}. The "
        "validation loss, 0.250, is that of plain labels, so the two do not compare."
    )


def test_what_training_drew_is_counted_in_steps() -> None:
    """100 images in batches of 8: 13 steps an epoch."""
    config = RunConfig().with_knobs(batch_size=8, epochs=1.75, rotate=5.0, clean_tail=0.3)  # round(22.75) = 23 steps
    assert images.drawn_sentence(config, 100, 23) == (
        "Training drew a new version of every image in its first 17 steps; the last 6 steps used unchanged ones."
    )
    stopped = "Training drew a new version of every image in all its 5 steps."
    assert images.drawn_sentence(config, 100, 5) == stopped
    assert images.drawn_sentence(config.with_knobs(clean_tail=0.0), 100, 5) == stopped


def test_a_class_without_an_image_is_said_to_have_none() -> None:
    made = images.examples_picture(subject_of(SURE, [1, 1, 2, 1]).dataset)
    assert made.text == (
        "4 training images in 3 classes: one row per class, with its number of images in brackets. The largest class "
        "is dog with 3; cat has none."
    )


def test_the_source_of_a_preset_is_named_once() -> None:
    config = preset_config("seed-32x6")
    accuracy, seconds = PRESETS["seed-32x6"].published or (0.0, 0.0)
    told = {"test_top1": (accuracy + 0.5) / 100, "test_top1_interval": [0.9, 0.999], "train_seconds": 0.17 * seconds}
    run = replace(subject_of(SURE, [0, 1, 2, 0], result=told), config=config)
    first, second = summary.preset_sentences(run)
    assert first.count(f"{accuracy:.2f} %") == 1
    assert second == (
        "Compared with the seed page: +0.50 percentage points in 17 % of the time; the published accuracy is inside "
        "this run's interval."
    )


def test_articles() -> None:
    words = [with_article(name) for name in ("cat", "owl", "8", "11", "18", "1", "T-shirt/top", "Ankle boot")]
    assert words == ["a cat", "an owl", "an 8", "an 11", "an 18", "a 1", "a T-shirt/top", "an Ankle boot"]


def test_markdown_of_names_from_outside_means_nothing() -> None:
    assert markdown("7 taken for 2: 5 times, 0.49 %.") == "7 taken for 2: 5 times, 0.49 %."
    assert markdown("a_b *c* [d](e) <img src=x> `f` |g| \\h #i $j$") == (
        r"a\_b \*c\* \[d\](e) &lt;img src=x&gt; &#96;f&#96; \|g\| \\h \#i \$j\$"
    )
    assert markdown("&lt; \x1b[2J \u202e https://e.com WWW.e.com") == (
        r"&amp;lt; \\x1b\[2J \\u202e https\://e.com WWW\.e.com"
    )
    assert markdown("two\nlines\t here") == "two lines here"
