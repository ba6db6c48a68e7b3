"""Split, the validation cut, the limit, and the pixel statistics."""

from typing import Any

import numpy as np
import pytest

from vitlab.data import Split, cut_validation, limit
from vitlab.data.splits import count_constant, pixel_statistics
from vitlab.errors import ConfigError, DataError
from vitlab.randomness import numpy_generator


def numbered(labels: list[int]) -> Split:
    """A Split whose image i is filled with the number i."""
    images = np.empty((len(labels), 3, 5, 1), dtype=np.uint8)
    images[:] = np.arange(len(labels)).reshape(-1, 1, 1, 1)
    return Split(images, np.array(labels, dtype=np.int64))


def numbers(split: Split) -> list[int]:
    return [int(number) for number in split.images[:, 0, 0, 0]]


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((2, 3, 5, 1), np.float64), np.zeros(2, np.int64), "uint8, uint16 or float32"),
        (np.zeros((2, 3, 5), np.uint8), np.zeros(2, np.int64), "uint8"),
        (np.zeros((2, 3, 5, 17), np.uint8), np.zeros(2, np.int64), "17 channels .* the most is 16"),
        (np.zeros((2, 0, 5, 1), np.uint8), np.zeros(2, np.int64), "pixel"),
        (np.zeros((2, 3, 5, 1), np.uint8), np.zeros(2, np.int32), "int64"),
        (np.zeros((2, 3, 5, 1), np.uint8), np.zeros((2, 1), np.int64), "int64"),
        (np.zeros((2, 3, 5, 1), np.uint8), np.zeros(3, np.int64), "2 images but 3 labels"),
        (np.zeros((2, 3, 5, 1), np.uint8), np.array([0, -1]), "negative"),
    ],
)
def test_a_split_refuses_what_it_cannot_be(images: Any, labels: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Split(images, labels)


def test_take_keeps_images_with_their_labels_and_order() -> None:
    taken = numbered([0, 1, 2, 0, 1]).take([3, 1, 1])
    assert (numbers(taken), taken.labels.tolist(), len(taken)) == ([3, 1, 1], [0, 1, 1], 3)


def test_last_is_the_unshuffled_end_as_keras_cuts_it() -> None:
    train, val = cut_validation(numbered([0] * 17), 0.25, "last", seed=1)
    assert numbers(train) == list(range(12))  # int(17 * 0.75) = int(12.75)
    assert val is not None
    assert numbers(val) == [12, 13, 14, 15, 16]


def test_stratified_takes_the_same_share_of_each_class() -> None:
    split = numbered([0] * 100 + [1] * 50 + [2] * 20)
    train, val = cut_validation(split, 0.1, "stratified", seed=3)
    assert val is not None
    assert np.bincount(val.labels).tolist() == [10, 5, 2]
    assert sorted(numbers(train) + numbers(val)) == list(range(170))
    assert numbers(train) == sorted(numbers(train))


def test_stratified_cuts_as_many_as_last_when_classes_are_tiny() -> None:
    split = numbered([label for label in range(11) for _ in range(4)])
    for fraction in (0.1, 0.3, 0.7):
        _, drawn = cut_validation(split, fraction, "stratified", seed=0)
        assert drawn is not None
        assert len(drawn) == 44 - int(44 * (1 - fraction))  # as many as Keras would cut
        counts = np.bincount(drawn.labels, minlength=11)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("how", "labels"), [("last", [0] * 9 + [1]), ("last", [0, 1, 2] * 3 + [3])])
def test_a_class_is_never_left_without_training_images(how: str, labels: list[int]) -> None:
    """The best epoch would be chosen on a class that nobody has learned."""
    with pytest.raises(ConfigError, match="stratified"):
        cut_validation(numbered(labels), 0.1, how, seed=0)


def test_last_refuses_images_that_are_sorted_by_class() -> None:
    """One class would choose the best epoch; by chance that happens to few images only."""
    for labels in ([0] * 40 + [1] * 60, [1] * 40 + [0] * 60, [0] * 9 + [2] * 9 + [1] * 9, [0, 1] * 100 + [1] * 23):
        with pytest.raises(ConfigError, match=r"show only 1 of \d classes: .* use val_split=.stratified."):
            cut_validation(numbered(labels), 0.1, "last", seed=0)
        train, val = cut_validation(numbered(labels), 0.1, "last", seed=0, is_new=False)  # a run that began so
        assert val is not None
        assert numbers(train) + numbers(val) == list(range(len(labels)))


@pytest.mark.parametrize("seed", range(9))
def test_last_takes_images_in_random_order(seed: int) -> None:
    """Even where small classes, each of six images, are missing by chance."""
    labels = np.random.default_rng(seed).permutation(np.arange(120) % 20)
    _, val = cut_validation(numbered(labels.tolist()), 0.1, "last", seed=0)
    assert val is not None
    assert 1 < len(np.unique(val.labels)) < 20


def test_images_of_one_colour_are_counted() -> None:
    images = np.zeros((1031, 3, 5, 3), np.uint8)
    images[::2] = (7, 8, 9)
    assert count_constant(images) == 1031
    images[1030, 2, 4, 2] = 1
    images[7, 0, 0, 0] = 1
    assert count_constant(images) == 1029


def test_stratified_leaves_every_class_an_image_to_learn_from() -> None:
    train, val = cut_validation(numbered([0] * 50 + [1]), 0.5, "stratified", seed=0)
    assert 1 in train.labels
    assert val is not None
    assert 1 not in val.labels
    with pytest.raises(ConfigError, match="spare"):
        cut_validation(numbered(list(range(20))), 0.1, "stratified", seed=0)


def test_stratified_depends_on_the_seed_alone() -> None:
    split = numbered([0, 1] * 40)
    first, again, other = (cut_validation(split, 0.2, "stratified", seed)[1] for seed in (5, 5, 6))
    assert first is not None
    assert again is not None
    assert other is not None
    assert numbers(first) == numbers(again) != numbers(other)


@pytest.mark.parametrize("how", ["last", "stratified"])
def test_no_part_may_be_empty(how: str) -> None:
    split = numbered([0, 1, 0])
    assert cut_validation(split, 0, how, 0) == (split, None)
    with pytest.raises(ConfigError, match="no validation image"):
        cut_validation(numbered([0] * 3), 1e-17, how, 0)
    with pytest.raises(ConfigError, match="no training image"):
        cut_validation(split, 0.9, how, 0)


@pytest.mark.parametrize(("fraction", "how"), [(1.0, "last"), (-0.1, "last"), (float("nan"), "last"), (0.1, "first")])
def test_wrong_cuts_are_refused(fraction: float, how: str) -> None:
    with pytest.raises(ConfigError):
        cut_validation(numbered([0, 1]), fraction, how, 0)


def test_limit_is_a_prefix_of_one_shuffle() -> None:
    split = numbered([0, 1] * 15)
    seven, eleven = limit(split, 7, seed=2), limit(split, 11, seed=2)
    assert numbers(seven) == numbers(eleven)[:7]
    assert numbers(eleven) != list(range(11))
    assert numbers(limit(split, 7, seed=4)) != numbers(seven)
    assert [number % 2 for number in numbers(eleven)] == eleven.labels.tolist()


def test_draws_come_from_the_generators_that_the_rest_of_vitlab_expects() -> None:
    """Pinned: a run that is resumed or repeated years later must meet the same images."""
    expected = numpy_generator(2, "limit").permutation(30)[:7]
    assert numbers(limit(numbered([0] * 30), 7, seed=2)) == expected.tolist()
    _, val = cut_validation(numbered([0] * 30), 0.2, "stratified", seed=2)
    assert val is not None
    assert numbers(val) == sorted(numpy_generator(2, "validation").permutation(30)[:6].tolist())


def test_limit_keeps_all_and_refuses_none() -> None:
    split = numbered([0, 1, 0])
    assert sorted(numbers(limit(split, 3, 0))) == sorted(numbers(limit(split, 99, 0))) == [0, 1, 2]
    with pytest.raises(ConfigError, match="at least 1"):
        limit(split, 0, 0)


def test_pixel_statistics_are_those_of_numpy() -> None:
    images = np.random.default_rng(1).integers(0, 256, (1031, 3, 5, 3), dtype=np.uint8)
    images[..., 1] //= 3
    mean, std = pixel_statistics(images)
    scaled = images.reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, scaled.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(0), rtol=1e-9)


def test_a_constant_channel_cannot_divide_by_zero() -> None:
    mean, std = pixel_statistics(np.full((2, 3, 5, 1), 51, np.uint8))
    assert mean == pytest.approx((0.2,))
    assert std == (1.0,)
