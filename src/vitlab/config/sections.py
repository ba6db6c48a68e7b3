"""The knobs of data, augmentation, optimisation, training and machine; those of the network are in model.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitlab.config.knobs import knob


@dataclass(frozen=True)
class DataConfig:
    """Which images, and which of them choose the best epoch."""

    data: str = knob("mnist", "Data set: a name from `vitlab data list`, a folder of images, or a .npz file.")
    val_split: Literal["stratified", "last"] = knob(
        "stratified",
        "How validation images are cut from the training set: the same share of each class, drawn by the "
        "seed; or the last part of the file, as Keras does it.",
    )
    val_fraction: float = knob(
        0.1,
        "Share of the training images that is kept for validation; 0 trains on all of them.",
        at_least=0.0,
        below=1.0,
    )
    limit_train: int | None = knob(
        None,
        "Use only the first N training images of the shuffled split; for quick trials.",
        at_least=1,
        at_most=1_000_000_000,
    )
    normalize: bool = knob(
        True,
        "Subtract the data set's mean and divide by its standard deviation; off leaves pixels in 0 to 1.",
    )


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of the training images; each batch draws new ones. All ranges are symmetric."""

    rotate: float = knob(
        0.0,
        "Largest random rotation in degrees; a few degrees imitate a slanted hand.",
        at_least=0.0,
        at_most=180.0,
    )
    zoom: float = knob(
        0.0,
        "Largest random zoom as a fraction, drawn apart for height and width; 0.2 means 20 % smaller to larger.",
        at_least=0.0,
        below=1.0,
    )
    shift: float = knob(0.0, "Largest random shift in pixels, drawn apart for the two directions.", at_least=0.0)
    shear: float = knob(
        0.0, "Largest random slant in degrees, drawn apart for rows and columns.", at_least=0.0, below=45.0
    )
    elastic: float = knob(
        0.0,
        "Largest random shift in pixels of each point of a coarse grid of 5 x 5, between which the image is bent "
        "smoothly, like rubber: no two hands draw the same curve.",
        at_least=0.0,
        inert=0.0,
    )
    flip: bool = knob(False, "Mirror half of the images left to right; refused where that changes the meaning.")
    force_flip: bool = knob(False, "Flip even where the data set's card forbids it: a mirrored 3 is no digit.")
    erase: float = knob(
        0.0,
        "Probability of blanking a random rectangle (2 to 20 % of the area), which teaches not to rely on one spot.",
        at_least=0.0,
        at_most=1.0,
    )
    fill: Literal["zeros", "reflect"] = knob(
        "zeros", "What moves in from outside the image: zeros (black) or its own reflection (Keras' default)."
    )
    clean_tail: float = knob(
        0.0,
        "Share of the training steps at the end that see images without augmentation, as the test does.",
        at_least=0.0,
        at_most=1.0,
    )


@dataclass(frozen=True)
class OptimConfig:
    """AdamW (Loshchilov and Hutter 2019), Muon beside it if asked, and the learning rate over time."""

    optimizer: Literal["adamw", "muon"] = knob(
        "adamw",
        "AdamW for everything; or Muon (orthogonalised momentum) for the matrices inside the network, and AdamW for "
        "the first and last layer and whatever is no matrix.",
    )
    lr: float = knob(
        1e-3,
        "Peak learning rate: small is slow and steady, large is fast and may swing or diverge.",
        above=0.0,
    )
    min_lr: float = knob(0.0, "Learning rate at the end of the decay.", at_least=0.0)
    schedule: Literal["constant", "linear", "cosine"] = knob(
        "cosine", "How the rate falls from lr to min_lr after the warm-up."
    )
    warmup_epochs: float = knob(
        0.0,
        "Epochs over which the rate rises from 0 to lr, at most half of them; a ViT starts badly without.",
        at_least=0.0,
    )
    weight_decay: float = knob(
        0.05,
        "Pull of all weights towards zero against over-fitting, as torch means it: each step multiplies by "
        "1 - lr x weight_decay. TensorFlow Addons does not multiply by lr: its 1e-4 at lr 1e-3 is 0.1 here.",
        at_least=0.0,
    )
    muon_lr: float = knob(0.02, "Peak learning rate of Muon's matrices; it follows the same schedule.", above=0.0)
    muon_momentum: float = knob(0.95, "Memory of Muon's mean of gradients.", at_least=0.0, below=1.0)
    muon_weight_decay: float = knob(0.05, "Weight decay of Muon's matrices, times muon_lr a step.", at_least=0.0)
    decay_all: bool = knob(
        False, "Decay biases, norms and positions too, as TensorFlow Addons does; usual is matrices only."
    )
    beta1: float = knob(
        0.9, "Memory of Adam's mean of gradients: 0.9 averages about ten steps.", at_least=0.0, below=1.0
    )
    beta2: float = knob(
        0.999,
        "Memory of Adam's mean of squared gradients; shorter suits short runs.",
        at_least=0.0,
        below=1.0,
    )
    adam_eps: float = knob(1e-8, "Small number that keeps Adam's division finite; Keras uses 1e-7.", above=0.0)
    grad_clip: float | None = knob(
        None, "Largest length of the gradient over all parameters; none does not clip.", above=0.0
    )
    label_smoothing: float = knob(
        0.0, "Share of the target spread over all classes, against over-confidence.", at_least=0.0, below=1.0
    )
    ema_decay: float = knob(
        0.0,
        "Memory of the weights' running average, which is then what is evaluated and saved; 0 turns it off.",
        at_least=0.0,
        below=1.0,
    )


@dataclass(frozen=True)
class TrainConfig:
    """Length, batches, randomness and what is kept."""

    epochs: float = knob(
        10.0,
        "Passes over the training images; start with 1 to keep the waiting short. The last may be a part of one.",
        above=0.0,
        at_most=1_000_000.0,
    )
    batch_size: int = knob(
        128,
        "Images per step: larger is faster and steadier, needs more memory and makes fewer steps.",
        at_least=1,
        at_most=10_000_000,
    )
    eval_batch_size: int = knob(
        1000, "Images per step when evaluating; changes memory and speed, not results.", at_least=1, at_most=10_000_000
    )
    seed: int = knob(
        0, "Number that all randomness comes from; the same seed repeats a run bit for bit.", at_least=0, at_most=2**53
    )
    select: Literal["best", "last"] = knob(
        "best", "Which weights are kept: those of the epoch with the best validation accuracy, or the last."
    )
    checkpoint_seconds: float = knob(
        30.0,
        "Longest time between two resumable states on disk: what a crash can cost, in seconds.",
        at_least=0.0,
    )


@dataclass(frozen=True)
class MachineConfig:
    """How the work is carried out; none of it changes what is computed, only speed and rounding."""

    device: Literal["auto", "cpu", "cuda"] = knob("auto", "Where to compute: auto takes a CUDA GPU if there is one.")
    precision: Literal["auto", "fp32", "bf16"] = knob(
        "auto", "Number format of matrix products; auto is bf16 where a short test finds it faster, else fp32."
    )
    threads: int | None = knob(
        None, "CPU threads; none takes all cores that this process may use.", at_least=1, at_most=1024
    )
    attention: Literal["auto", "explicit", "fused"] = knob(
        "auto",
        "Attention as plain matrix products or torch's fused kernel; "
        "auto takes the plain one for short sequences on a CPU.",
    )
    kernels: Literal["auto", "plain", "native"] = knob(
        "auto",
        "Patch embedding, blocks, head and Muon by torch's operations, or by vitlab's own C kernels; auto takes the "
        "kernels in bf16 on a CPU where a C compiler is found. What they do not know, such as drop_path, is torch's.",
    )
    compile: bool = knob(
        False, "Let torch.compile make kernels of the network; takes up to half a minute before the first step."
    )
    allocator: Literal["keep", "system"] = knob(
        "keep",
        "What happens to freed memory on Linux: keep it for the next step, or leave it to the system's allocator, "
        "which gives large pieces back to the kernel and must fetch them again.",
    )
    flush_denormals: bool = knob(
        True, "Take numbers below 1e-38 as 0: on many processors they are a hundred times slower."
    )

    @property
    def wants_gpu(self) -> bool:
        """Whether a GPU was asked for by name."""
        return self.device == "cuda"
