"""The knobs of data, augmentation, optimisation, training and machine. Those of the network are in model.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from vitlab.config import class_weight
from vitlab.config.knobs import amount, count, fraction, knob
from vitlab.errors import ConfigError

FREEZE = re.compile(r"none|patches|blocks:[1-9]\d{0,3}|all-but-head")


@dataclass(frozen=True)
class DataConfig:
    """Which images to train on, and which to keep for validation."""

    data: str = knob(
        "mnist",
        "Data set: a name from `vitlab data list`, a folder of images, or an .npz or .csv file.",
        essential=True,
    )
    val_split: Literal["stratified", "last"] = knob(
        "stratified",
        "How validation images are split off the training set. stratified: the same share of each class, drawn with "
        "the seed. last: the last part of the file, as in Keras.",
    )
    val_fraction: float = fraction(0.1, "Share of the training images to keep for validation; 0 trains on all of them.")
    limit_train: int | None = count(
        None, "Train on only the first N images of the shuffled training set, for quick trials.", 1_000_000_000
    )
    drawings: Literal["auto", "yes", "no"] = knob(
        "auto",
        "Whether the images are drawings that were scaled and centred like MNIST's digits, so that every picture to "
        "classify must be prepared in the same way. auto decides by the images; yes and no overrule it.",
        inert="auto",
    )
    normalize: bool = knob(
        True,
        "Subtract the data set's mean and divide by its standard deviation. Without it, pixels stay between 0 and 1.",
    )
    rehearse: str | None = knob(
        None,
        "Mix images of another data set into the training images, so that a network that knows them does not forget "
        "them: DATA, or DATA:SHARE with their share of all training images (default 0.5). none: only your own.",
        inert=None,
    )

    def __post_init__(self) -> None:
        if self.rehearse is not None:
            rehearsal(self.rehearse)


def rehearsal(text: str) -> tuple[str, float]:
    """The data set and the share in DATA or DATA:SHARE; ConfigError for a share outside 0 to 1."""
    place, colon, share = text.rpartition(":")
    try:
        number = float(share)
    except ValueError:
        place, colon, number = text, "", 0.5
    if not colon:
        place, number = text, 0.5
    if not place or not 0 < number < 1:
        raise ConfigError(f"rehearse takes DATA or DATA:SHARE with a share above 0 and below 1, not {text!r}")
    return place, number


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to the training images, drawn anew for each batch. All ranges are symmetric around no change."""

    rotate: float = amount(
        0.0, "Largest random rotation in degrees. A few degrees imitate slanted handwriting.", at_most=180.0
    )
    zoom: float = fraction(
        0.0, "Largest random zoom as a fraction, separate for height and width; 0.2 means up to 20 % smaller or larger."
    )
    shift: float = amount(0.0, "Largest random shift in pixels, drawn separately for each direction.")
    shear: float = knob(
        0.0, "Largest random slant in degrees, drawn separately for rows and columns.", at_least=0.0, below=45.0
    )
    elastic: float = amount(
        0.0,
        "Bend the image smoothly, like rubber, as handwriting varies: each point of a coarse 5 x 5 grid is shifted at "
        "random by up to this many pixels.",
        inert=0.0,
    )
    flip: bool = knob(False, "Mirror half of the images left to right. Refused where that changes the meaning.")
    force_flip: bool = knob(False, "Mirror images even where the data set forbids it (a mirrored 3 is not a digit).")
    erase: float = amount(
        0.0,
        "Probability of blanking a random rectangle (2 to 20 % of the area), so the network cannot rely on one spot.",
        at_most=1.0,
    )
    brightness: float = fraction(
        0.0, "Largest random change of brightness, as a fraction: 0.2 multiplies pixels by 0.8 to 1.2.", inert=0.0
    )
    contrast: float = fraction(
        0.0, "Largest random change of contrast (the distance from the image's mean grey), as a fraction.", inert=0.0
    )
    saturation: float = fraction(
        0.0,
        "Largest random change of saturation (the distance of a colour from grey), as a fraction. Grey images have "
        "none.",
        inert=0.0,
    )
    mixup: float = amount(
        0.0,
        "Blend each training image, and its label, with another one of its batch. The shares come from a Beta "
        "distribution with this parameter: 0.2 leaves most images almost pure, 1 makes all shares as likely. 0 is off.",
        at_most=100.0,
        inert=0.0,
    )
    cutmix: float = amount(
        0.0,
        "Paste a rectangle of another image of the batch into each training image, and mix the labels by area. The "
        "areas come from a Beta distribution with this parameter: 1 makes all areas as likely. 0 is off. With mixup "
        "on too, an image gets one or the other.",
        at_most=100.0,
        inert=0.0,
    )
    fill: Literal["zeros", "reflect"] = knob(
        "zeros", "What fills the area outside the image: zeros (black), or its reflection (Keras' default)."
    )
    clean_tail: float = amount(
        0.0,
        "Share of the training steps, at the end, without augmentation: images then look as they do at test time.",
        at_most=1.0,
    )


@dataclass(frozen=True)
class OptimConfig:
    """AdamW (Loshchilov and Hutter 2019), optionally Muon, and the learning rate schedule."""

    optimizer: Literal["adamw", "muon"] = knob(
        "adamw",
        "AdamW for all parameters; or Muon (orthogonalised momentum) for the matrices inside the network, with AdamW "
        "for the first and last layer and for everything that is not a matrix.",
    )
    lr: float = knob(
        1e-3,
        "Peak learning rate. A small one is slow and steady; a large one is fast and may oscillate or diverge.",
        above=0.0,
        essential=True,
    )
    min_lr: float = amount(0.0, "Learning rate at the end of a falling schedule.")
    schedule: Literal["constant", "linear", "cosine"] = knob(
        "cosine", "How the learning rate falls from lr to min_lr after the warm-up."
    )
    warmup_epochs: float = amount(
        0.0,
        "Epochs over which the learning rate rises from 0 to lr, at most half of the training. Without a warm-up a ViT "
        "starts badly.",
    )
    weight_decay: float = amount(
        0.05,
        "Pulls weights towards zero to reduce over-fitting, as in torch: each step multiplies them by "
        "1 - lr x weight_decay. TensorFlow Addons does not multiply by lr: its 1e-4 at lr 1e-3 is 0.1 here. "
        "Muon's matrices have muon_weight_decay instead.",
        essential=True,
    )
    muon_lr: float = knob(0.02, "Peak learning rate of Muon's matrices; it follows the same schedule as lr.", above=0.0)
    muon_momentum: float = fraction(0.95, "Share of its running mean of gradients that Muon keeps at each step.")
    muon_weight_decay: float = amount(0.05, "Weight decay of Muon's matrices, with muon_lr in place of lr.")
    decay_all: bool = knob(
        False, "Decay biases, norms and position vectors too, as TensorFlow Addons does. Usually only matrices decay."
    )
    beta1: float = fraction(
        0.9, "Share of its running mean of gradients that Adam keeps at each step; 0.9 averages about ten steps."
    )
    beta2: float = fraction(
        0.999, "Share of its running mean of squared gradients that Adam keeps at each step; short runs need less."
    )
    adam_eps: float = knob(1e-8, "Small number that prevents Adam from dividing by zero; Keras uses 1e-7.", above=0.0)
    grad_clip: float | None = knob(
        None, "Largest norm of the whole gradient; a larger one is scaled down. none: no clipping.", above=0.0
    )
    label_smoothing: float = fraction(0.0, "Share of each label spread over all classes, to reduce over-confidence.")
    ema_decay: float = fraction(
        0.0, "Evaluate and save a running average of the weights; each step keeps this share of it. 0 turns it off."
    )
    init_lr_scale: float = knob(
        1.0,
        "Factor on the learning rates of the weights taken from init_from; new parts keep lr and muon_lr. Below 1, "
        "what was learned changes more slowly.",
        above=0.0,
        at_most=1000.0,
        inert=1.0,
    )
    freeze: str = knob(
        "none",
        "Parts that keep the weights they start with. patches: the patch embedding, positions and class token. "
        "blocks:N: these and the first N blocks (of a CNN: convolutions). all-but-head: everything but the head.",
        inert="none",
    )

    def __post_init__(self) -> None:
        if isinstance(self.freeze, str) and not FREEZE.fullmatch(self.freeze):
            raise ConfigError(
                f"freeze must be none, patches, blocks:N with N from 1, or all-but-head, not {self.freeze!r}"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Length of training, batches, randomness, and which weights to keep."""

    epochs: float = knob(
        10.0,
        "Passes over the training images, fractions allowed. Start with 1 for a quick result.",
        above=0.0,
        at_most=1_000_000.0,
        essential=True,
    )
    batch_size: int = count(
        128,
        "Images per step. Larger batches are faster and steadier but need more memory and make fewer steps per epoch.",
        10_000_000,
        essential=True,
    )
    eval_batch_size: int = count(
        1000,
        "Images per step in evaluation, fewer if they are large; changes memory and speed, not results.",
        10_000_000,
    )
    seed: int = knob(
        0,
        "Source of all randomness; on a CPU the same seed repeats a run bit for bit.",
        at_least=0,
        at_most=2**53,
        essential=True,
    )
    init_from: str | None = knob(
        None,
        "Start from the weights of a finished run (its folder), or of a network in `vitlab zoo` (its name). What fits "
        "is taken, tables of another grid are interpolated, and the rest is new. none: from scratch.",
        inert=None,
    )
    init_sha256: str | None = knob(
        None,
        "SHA-256 of the weights in init_from. vitlab fills it in; if you give it, other weights are refused.",
        inert=None,
    )
    class_weight: str = knob(
        "none",
        "How much the images of each class count in the training loss. balanced: a class with few images counts as "
        "much as one with many (each image has the weight images / (classes x images of its class)). Numbers: one for "
        "each class in the order of the classes (1,1,5), or by name (cat=5,dog=2; the others 1); only their ratios "
        "matter. none: every image counts the same.",
        inert="none",
    )
    sampling: Literal["all", "balanced"] = knob(
        "all",
        "Which training images an epoch shows. all: each once. balanced: as many images, but the same number of each "
        "class: those of small classes several times, of large ones a part that is drawn anew for each epoch.",
        inert="all",
    )
    select: Literal["best", "last"] = knob(
        "best",
        "Which weights to keep: those of the epoch with the best validation accuracy (see monitor), or the last.",
    )
    monitor: Literal["val_top1", "val_loss", "val_balanced_accuracy", "val_macro_f1"] = knob(
        "val_top1",
        "The number on validation images by which the best epoch is chosen, and for which patience waits: the share "
        "of right answers, the loss (lower is better), that share averaged over the classes, or their mean F1.",
        inert="val_top1",
    )
    patience: int = knob(
        0,
        "Stop early: end the training after this many epochs in a row in which monitor was no better than its best; "
        "0 turns it off. select says whether the best epoch's weights are kept. The schedule is still that of all "
        "epochs, so a run that stops early never reaches its lowest rates, where accuracy often rises most; with "
        "schedule constant nothing is cut.",
        at_least=0,
        at_most=1_000_000,
        inert=0,
    )
    checkpoint_seconds: float = amount(
        30.0, "Longest time in seconds between two checkpoints, and therefore the most training that a crash can cost."
    )
    keep_epochs: bool = knob(
        False,
        "Keep the weights after each epoch, in half precision, in the run's folder epochs/: 2 bytes per parameter and "
        "epoch. The page then has a slider over training time. Changes no result.",
        inert=False,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_weight", class_weight.written(self.class_weight))


@dataclass(frozen=True)
class MachineConfig:
    """Where and how to compute. These knobs change speed and rounding, but not what is computed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = knob(
        "auto",
        "Where to compute; auto uses a CUDA GPU if there is one. mps is Apple's GPU: nobody has tested vitlab on it, "
        "so a short test compares its numbers with the CPU's first.",
        essential=True,
    )
    precision: Literal["auto", "fp32", "bf16"] = knob(
        "auto",
        "Number format of matrix products; auto uses bf16 where the processor or GPU has instructions for it, else "
        "fp32.",
    )
    threads: int | None = count(None, "CPU threads; none uses all cores that this process may use.", 1024)
    attention: Literal["auto", "explicit", "fused"] = knob(
        "auto",
        "Compute attention with plain matrix products (explicit) or with torch's fused kernel; auto uses explicit for "
        "short sequences on a CPU.",
    )
    kernels: Literal["auto", "plain", "native"] = knob(
        "auto",
        "Compute patch embedding, blocks, head and Muon with torch's operations (plain) or with vitlab's own C kernels "
        "(native). auto uses the kernels on processors where they were measured to be faster (AVX2 with FMA, AVX-512, "
        "AVX512-BF16), if there is a C compiler. Torch computes what the kernels do not support, such as drop_path.",
    )
    compile: bool = knob(
        False, "Compile the network with torch.compile, which takes up to half a minute before the first step."
    )
    allocator: Literal["keep", "system"] = knob(
        "keep",
        "What to do with freed memory on Linux. keep: reuse it for the next step. system: leave it to the system's "
        "allocator, which returns large blocks to the kernel and has to request them again.",
    )
    flush_denormals: bool = knob(
        True, "Treat numbers below 1e-38 (denormals) as 0: on many processors they are a hundred times slower."
    )
    ranks: int | None = count(
        None,
        "Processes that train together: they divide every batch, and the threads or the GPUs of the machine. none: as "
        "many as torchrun has started, else one.",
        1024,
        inert=None,
    )

    @property
    def wants_gpu(self) -> bool:
        """Whether a GPU was requested by name."""
        return self.device == "cuda"
