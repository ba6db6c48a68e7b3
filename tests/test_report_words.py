"""What reports say, sentence by sentence, about runs made by hand, and which runs may stand beside each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import on_cpu
from vitlab import RunConfig, Split
from vitlab.config.presets import PRESETS, preset_config
from vitlab.data import Dataset
from vitlab.data.cards import own_card
from vitlab.errors import RunError
from vitlab.look import attention as look_attention
from vitlab.look import inside as look_inside
from vitlab.machine import Machine
from vitlab.model import ViT
from vitlab.pictures.style import with_article
from vitlab.report import answer, attended, inside, judged, learned, seen
from vitlab.report.gather import Subject, check_comparable
from vitlab.report.parts import Picture, markdown
from vitlab.runs.result import Result
from vitlab.training.preprocess import Preprocess

MACHINE = Machine(torch.device("cpu"), "fp32", 1, "plain", "plain", False, "plain", "for a test")
ENVIRONMENT = {"device": "cpu", "device_name": "abacus", "threads": 1, "precision": "fp32", "kernels": "plain"}


def subject_of(
    probabilities: list[list[float]] | torch.Tensor,
    labels: list[int],
    classes: tuple[str, ...] = ("cat", "dog", "owl"),
    name: str = "here",
    part: str = "test",
    model: nn.Module | None = None,
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
    return Subject(
        Path("runs") / name, RunConfig().with_knobs(**(base | (knobs or {}))),
        Dataset(card, split, None, None, "d", "by hand"),
        model or nn.Identity(), Preprocess(6, (0.0,), (1.0,)), MACHINE, Result(**told | (result or {})), ENVIRONMENT,
        history or [], part, on_cpu(split), torch.as_tensor(probabilities).log(),
    )  # fmt: skip


SURE = [[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1]]


def test_runs_stand_beside_each_other_only_on_the_same_images() -> None:
    one = subject_of(SURE, [0, 1, 2, 0], part="validation")
    check_comparable(one, subject_of(SURE, [0, 1, 2, 0], name="twin", part="validation"))
    other_labels = subject_of(SURE, [0, 1, 2, 1], name="seed 1", part="validation")
    other_images = replace(one, path=Path("x"), images=replace(one.images, images=one.images.images.flip(0)))
    for other in (other_labels, other_images):
        with pytest.raises(RunError, match=r"is judged by other validation images than runs/here \(another seed or"):
            check_comparable(one, other)
    with pytest.raises(RunError, match="was trained on other images"):
        check_comparable(one, replace(one, dataset=replace(one.dataset, digest="e")))


def class_text(counts: list[list[int]]) -> str:
    """The sentence about the classes of a confusion matrix."""
    pairs = [(row, column) for row, line in enumerate(counts) for column, n in enumerate(line) for _ in range(n)]
    rows = [[0.8 if place == guess else 0.1 for place in range(3)] for _, guess in pairs]
    return judged.per_class(subject_of(rows, [truth for truth, _ in pairs])).text


def test_classes_are_called_unequal_only_when_a_test_of_all_says_so() -> None:
    apart = class_text([[60, 0, 0], [0, 30, 30], [0, 0, 60]])
    assert apart == (
        "Hardest is dog with 50.00 % (37.73 to 62.27 % with 95 %, on 60 images), easiest cat with 100.00 %. Were all "
        "classes equally hard, they would differ at least as much as all of these do in less than 1 % of cases "
        "(chi-square test): that is hardly chance."
    )
    near = class_text([[19, 1, 0], [1, 18, 1], [0, 0, 20]])
    assert near.startswith("Hardest is dog with 90.00 % (69.90 to 97.21 % with 95 %, on 20 images), easiest owl with ")
    assert near.endswith(" of cases (chi-square test): that may be chance.")
    same = "All classes are recognised equally well: {} of each. A bar is its 95 % interval."
    assert class_text([[7, 0, 0], [0, 5, 0], [0, 0, 3]]) == same.format("100.00 %")
    assert class_text([[3, 1, 0], [1, 3, 0], [0, 0, 0]]) == same.format("75.00 %")
    assert class_text([[3, 1, 0], [0, 0, 0], [0, 0, 0]]) == (
        "All 4 images are of one class, cat, of which 75.00 % are recognised (30.06 to 95.44 % with 95 %)."
    )


def test_which_patch_is_needed_most() -> None:
    falls = torch.tensor([[0.01, 0.02, -0.3], [0.0, 0.031, 0.137]])
    colours = "Red patches are needed; blue ones stand in the way: without them the network is surer."
    assert attended.needed_sentence(falls, "cat") == (
        f"{colours} When the patch in row 2, column 3 of the cat on the left is blanked, the probability of the right "
        "answer falls by 13.7 points."
    )
    assert attended.needed_sentence(-falls.abs(), "cat") == (
        f"{colours} The cat on the left needs none: whichever is blanked, its probability does not fall."
    )


def test_agreement_of_attention_and_need_is_counted() -> None:
    last = np.array([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    falls = np.array([[[0.1, 0.2], [0.0, 0.0]], [[-0.5, 0.1], [0.0, 0.0]], [[0.0, 0.0], [0.2, 0.7]]])
    assert attended.agree_sentence(last, falls) == (
        "In 2 of 3 images the patch with most attention in the last block is also the one that is needed most."
    )


def test_positions_show_the_layout_clearly_faintly_or_hardly() -> None:
    start = (
        "Each small map belongs to the patch at its place: red where another patch's position is similar to its own. "
        "The positions {}; direct neighbours have a mean similarity of {}, all others of {}, so that {}."
    )
    for found, near, far, words in (
        (True, 0.52, 0.20, ("were learned", "0.52", "0.20", "the layout of the image can be seen in them")),
        (False, 0.40, 0.12, ("are fixed waves", "0.40", "0.12", "the layout of the image shows in them faintly")),
        (True, 0.05, -0.02, ("were learned", "0.05", "-0.02", "hardly any layout of the image shows in them")),
        (True, 0.1, 0.9, ("were learned", "0.10", "0.90", "hardly any layout of the image shows in them")),
    ):
        assert inside.positions_sentence(found, near, far) == start.format(*words)


def test_neighbours_are_the_patches_that_touch_on_a_side() -> None:
    """On a 2 x 2 grid: patch 0 touches 1 and 2, not 3. Positions so that touching ones are alike by exactly 0.6."""
    one, two = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    model = cast(ViT, SimpleNamespace(pos_embed=torch.tensor(np.stack([one, two, two, one]))))
    made = inside.positions(subject_of(SURE, [0, 1, 2, 0], knobs={"patch_size": 3, "pool": "mean"}), model)
    assert isinstance(made, Picture)
    assert "direct neighbours have a mean similarity of 0.60, all others of 1.00, so that hardly any" in made.text


def confusion_text(counts: list[list[int]]) -> str:
    """The sentence about a confusion matrix."""
    pairs = [(row, column) for row, line in enumerate(counts) for column, n in enumerate(line) for _ in range(n)]
    rows = [[0.8 if place == guess else 0.1 for place in range(3)] for _, guess in pairs]
    return judged.confusion(subject_of(rows, [truth for truth, _ in pairs])).text


def test_confusions_name_what_is_and_what_it_was_taken_for() -> None:
    how = "A row is what an image is, a column what it was taken for."
    assert confusion_text([[5, 0, 3], [1, 4, 0], [0, 0, 7]]) == (
        "4 errors on 20 test images, in 2 kinds of confusion. A most frequent one is cat taken for owl: 3 times, 37.50 "
        f"% of that class. {how}"
    )
    assert confusion_text([[5, 0, 0], [0, 4, 0], [0, 1, 3]]) == (
        f"1 error on 13 test images: owl taken for dog, 25.00 % of that class. {how}"
    )
    assert confusion_text([[3, 1, 0], [0, 4, 0], [0, 1, 1]]) == (
        f"2 errors on 10 test images, each of another kind: one is cat taken for dog, 25.00 % of that class. {how}"
    )
    assert confusion_text([[1, 0, 0], [0, 2, 0], [0, 0, 3]]) == (
        f"0 errors on 6 test images: nothing lies beside the diagonal. {how}"
    )


def test_mistakes_name_the_surest_first() -> None:
    rows = [[0.95, 0.04, 0.01], [0.3, 0.6, 0.1], [0.1, 0.1, 0.8]]
    made = judged.mistakes(subject_of(rows, [1, 2, 2], ("ape", "dog", "owl")))
    assert isinstance(made, Picture)
    assert made.text == (
        "All 2 mistakes, surest first: what the image is → what it was taken for, how surely, and its number in the "
        "test split. At the top a dog taken for an ape with 95.0 %; 1 of them was made with more than 90 %."
    )


def test_doubt_and_confidence_are_told_apart() -> None:
    doubt = judged.reliability(subject_of([[0.6, 0.2, 0.2]] * 4, [0, 0, 0, 0], knobs={"label_smoothing": 0.1}))
    assert doubt.text == (
        "On average it is 60.00 % sure and 100.00 % right; bin by bin the two differ by 40.00 % in the mean (expected "
        "calibration error). Whiskers are 95 % intervals. Points above the dashed line mean too much doubt, as labels "
        "smoothed by 0.1 teach it."
    )
    boast = judged.reliability(subject_of([[0.8, 0.1, 0.1]] * 4, [0, 1, 1, 1]))
    assert boast.text == (
        "On average it is 80.00 % sure and 25.00 % right; bin by bin the two differ by 55.00 % in the mean (expected "
        "calibration error). Whiskers are 95 % intervals. Points below the dashed line mean too much confidence."
    )


def test_how_far_heads_look_names_the_nearest_and_the_farthest(monkeypatch: pytest.MonkeyPatch) -> None:
    distances = torch.tensor([[2.8, 1.1], [3.9, 2.7]])
    monkeypatch.setattr(look_attention, "attention_distance", lambda *_: distances)
    model = SimpleNamespace(forward_with_attention=lambda inputs: (None, None), training=False)
    model.eval, model.train = (lambda: None), (lambda mode: None)
    made = attended.distance(subject_of(SURE, [0, 1, 2, 0], model=cast(nn.Module, model), knobs={"patch_size": 3}))
    assert made.text == (
        "Over the first 4 test images the nearest look is that of block 1, head 2: 1.1 pixels on average, the farthest "
        "that of block 2, head 1: 3.9. Attention that ignores places would look 2.6 pixels far; 1 of 4 heads looks "
        "nearer than that."  # patches 3 pixels apart: (0 + 3 + 3 + 3 sqrt 2) / 4 = 2.56
    )


def test_the_lens_names_the_block_that_adds_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images: after the embedding one is right, after block 1 three, after block 2 all."""
    labels = [0, 1, 2, 0]
    right = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    wrong = (torch.tensor(labels) + 1) % 3
    answers = torch.where(right == 1, torch.tensor(labels), wrong)
    every = 0.7 * torch.nn.functional.one_hot(answers, 3) + 0.1
    monkeypatch.setattr(look_inside, "logit_lens", lambda model, inputs: every[:, : len(inputs)])
    made = inside.lens(subject_of(SURE, labels), cast(ViT, None), [0])
    assert made.text == (
        "Final norm and head read every block's output as if it were the last, for which they were trained. On 4 test "
        "images the right class comes first for 25.0 % after the embedding and for 100.0 % at the end; block 1 adds "
        "most, 50.0 points."
    )


def test_a_run_beside_is_told_how_much_faster_it_was() -> None:
    own = subject_of(SURE, [0, 1, 2, 0], result={"train_seconds": 10.0})
    slow = subject_of([[0.2, 0.7, 0.1], *SURE[1:]], [0, 1, 2, 0], name="slow", result={"train_seconds": 25.0})
    assert answer.beside_sentence(own, slow) == (
        "slow beside it, a configuration of its own: 75.00 % in 25.0 s with 1,000 parameters. here was 2.5 times as "
        "fast. On 1 image only here is right, on 0 only slow: that could be chance (exact sign test, p = 1)."
    )
    assert answer.beside_sentence(slow, own) == (
        "here beside it, a configuration of its own: 100.00 % in 10.0 s with 1,000 parameters. slow took 2.5 times as "
        "long. On 0 images only slow is right, on 1 only here: that could be chance (exact sign test, p = 1)."
    )
    bad = subject_of(torch.tensor([[0.1, 0.8, 0.1]]).expand(8, 3), [0] * 8, name="bad")
    good = subject_of(torch.tensor([[0.8, 0.1, 0.1]]).expand(8, 3), [0] * 8)
    assert answer.beside_sentence(good, bad).endswith(
        "here was 1.0 times as fast. On 8 images only here is right, on 0 only bad: that is hardly chance (exact sign "
        "test, p = 0.0078)."
    )


def test_the_gap_between_training_and_validation_is_read_the_right_way_round() -> None:
    for train, val, words in (
        (0.25, 0.5, "0.250 and the validation loss 0.500: it does better on the images that it was trained on."),
        (0.5, 0.25, "0.500 and the validation loss 0.250, the lower one; training is made harder by smoothed labels."),
    ):
        row = {"train_loss": train, "val_loss": val}
        run = subject_of(SURE, [0, 1, 2, 0], history=[row], knobs={"label_smoothing": 0.1, "rotate": 0.0})
        assert learned.gap_sentence(run) == f"At the end the training loss is {words}"


def test_what_training_drew_is_counted_in_steps() -> None:
    """100 images in batches of 8: 13 steps an epoch."""
    config = RunConfig().with_knobs(batch_size=8, epochs=1.75, rotate=5.0, clean_tail=0.3)  # round(22.75) = 23 steps
    assert seen.drawn_sentence(config, 100, 23) == (
        "Training drew a version anew for every image of its first 17 steps; the other 6 saw images unchanged."
    )
    stopped = "Training drew a version anew for every image of all its 5 steps."
    assert seen.drawn_sentence(config, 100, 5) == stopped
    assert seen.drawn_sentence(config.with_knobs(clean_tail=0.0), 100, 5) == stopped


def test_a_class_without_an_image_is_said_to_have_none() -> None:
    made = seen.examples(subject_of(SURE, [1, 1, 2, 1]).dataset)
    assert made.text == (
        "4 training images of 3 classes, a row a class with its number of images in brackets. The largest class is dog "
        "with 3; of cat there is none."
    )


def test_the_source_of_a_preset_is_named_once() -> None:
    config = preset_config("seed-32x6")
    accuracy, seconds = PRESETS["seed-32x6"].published or (0.0, 0.0)
    told = {"test_top1": (accuracy + 0.5) / 100, "test_top1_interval": [0.9, 0.999], "train_seconds": 0.17 * seconds}
    run = replace(subject_of(SURE, [0, 1, 2, 0], result=told), config=config)
    first, second = answer.preset_sentences(run)
    assert first.count(f"{accuracy:.2f} %") == 1
    assert second == (
        "Against that page this run is at +0.50 points in 17 % of the time; the published accuracy lies inside this "
        "run's interval."
    )


def test_articles() -> None:
    words = [with_article(name) for name in ("cat", "owl", "8", "11", "18", "1", "T-shirt/top", "Ankle boot")]
    assert words == ["a cat", "an owl", "an 8", "an 11", "an 18", "a 1", "a T-shirt/top", "an Ankle boot"]


def test_markdown_of_names_from_outside_means_nothing() -> None:
    assert markdown("7 taken for 2: 5 times, 0.49 %.") == "7 taken for 2: 5 times, 0.49 %."
    assert markdown("a_b *c* [d](e) <img src=x> `f` |g| \\h #i $j$") == (
        r"a\_b \*c\* \[d\](e) \<img src=x\> \`f\` \|g\| \\h \#i \$j\$"
    )
    assert markdown("two\nlines\t here") == "two lines here"
