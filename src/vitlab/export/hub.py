"""A folder that transformers or timm loads: weights under the library's names, its configuration, a model card.

A table for each library says which values of each field of `ModelConfig` its Vision Transformer can express; any other
value is refused with the flag to train with. tests/test_export_hub.py compares the tables with the fields of
`ModelConfig`, so that a new field cannot be forgotten.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import fields
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from vitlab import files
from vitlab.config import ModelConfig
from vitlab.data.drawn import DARK
from vitlab.export import tensors
from vitlab.export.check import sums
from vitlab.export.whole import BATCHES, ExportError, Whole, check_new, compare, for_browsers, one_line, silence
from vitlab.look.report import markdown, templates
from vitlab.model import ViT
from vitlab.model.block import NORM_EPS
from vitlab.predict import Classifier
from vitlab.runs.folder import SUMS
from vitlab.text import listed
from vitlab.text import value as shown

Content = dict[str, bytes]
Answers = Callable[[Tensor], Tensor]  # uint8 images [B, S, S, C] -> logits [B, K]

CONFIG, WEIGHTS, PROCESSOR, CARD = "config.json", "model.safetensors", "preprocessor_config.json", "README.md"
START = "textbook"  # the preset that every library can express
BILINEAR = 2  # Pillow's number


class Limit(NamedTuple):
    """Whether a library's Vision Transformer can express a field of the configuration, and the flag for a value that
    it can."""

    fits: Callable[[ModelConfig], bool]
    flag: str = ""


ANY = Limit(lambda config: True)
# Fields that change only training, that are written as they are, or that only other networks have (which are refused).
# Missing biases and positions are written as zeros, fixed positions as learned ones, merged attention as qkv.
FREE = (
    "arch", "image_size", "crop", "patch_size", "embed_dim", "depth", "num_heads", "linear_bias", "mlp_ratio",
    "pos_embed", "dropout", "attn_dropout", "head_dropout", "drop_path", "init", "locality",
    "attn_bias_shared", "patch_init", "cnn_channels", "token_mlp_ratio",
)  # fmt: skip
COMMON: dict[str, Limit] = {
    **dict.fromkeys(FREE, ANY),
    "patch_overlap": Limit(lambda config: config.patch_overlap == 0, "--patch-overlap 0"),
    "head_dim": Limit(
        lambda config: config.attn_form == "merged" or config.num_heads * config.width_per_head == config.embed_dim,
        "--head-dim none",
    ),
    "attn_form": Limit(lambda config: config.attn_form != "none", "--attn-form qkv"),
    "attn_bias": Limit(lambda config: not config.attn_bias, "--no-attn-bias"),
    "mlp_last_gelu": Limit(lambda config: not config.mlp_last_gelu, "--no-mlp-last-gelu"),
    "head_hidden": Limit(lambda config: config.head_hidden == (), "--head-hidden none"),
}
TABLES: dict[str, Mapping[str, Limit]] = {
    "transformers": COMMON
    | {
        "norm": Limit(lambda config: config.norm == "layer", "--norm layer"),
        "act": ANY,
        "pool": Limit(lambda config: config.pool == "cls", "--pool cls"),
    },
    "timm": COMMON
    | {
        "crop": Limit(lambda config: torchvision_crops_alike(config), "--crop none"),
        "norm": ANY,
        "act": Limit(lambda config: config.act == "gelu", "--act gelu"),
        "pool": Limit(lambda config: config.pool != "flatten", "--pool cls"),
    },
}


def torchvision_crops_alike(config: ModelConfig) -> bool:
    """Whether its centre crop, which timm uses, begins at our pixel: where an odd number of pixels is cut off, it
    rounds the half to an even number, and we round it down."""
    cut = config.image_size - config.inner_side
    return round(cut / 2) == cut // 2


def refuse(classifier: Classifier, to: str) -> None:
    """ExportError, with all reasons in one line, for a network that the library ``to`` cannot express."""
    config, network = classifier.config.model, f"{to}' ViT" if to.endswith("s") else f"{to}'s ViT"
    start = f"start from --preset {START}"
    if why_not := for_browsers(classifier):
        raise ExportError(f"{classifier.path}: {why_not}; use --to onnx or torch")
    if not isinstance(classifier.model, ViT):
        kind = classifier.model.describe().kind
        raise ExportError(f"{classifier.path}: {network} cannot express a {kind}; {start}")
    names = [field.name for field in fields(config)]
    wrong = {name: TABLES[to].get(name) for name in names if not TABLES[to].get(name, UNKNOWN).fits(config)}
    if wrong:
        have = listed([f"{name} {shown(getattr(config, name))}" for name in wrong])
        flags = ", ".join(limit.flag for limit in wrong.values() if limit)
        raise ExportError(f"{classifier.path}: {network} cannot express {have}; train with {flags}, or {start}")


UNKNOWN = Limit(lambda config: False)


def export_hub(classifier: Classifier, out: Path, to: str) -> dict[str, Any]:
    """Write the network to the new folder ``out`` as ``to`` ("transformers" or "timm") loads it; return facts about it.

        AutoModelForImageClassification.from_pretrained(out), AutoImageProcessor.from_pretrained(out)
        timm.create_model(f"local-dir:{out}", pretrained=True)

    Before the folder is kept, its answers for 1, 2 and 7 images are compared with torch's: by the library itself where
    it is installed (the processor prepares the images, too), else by `tensors.compute` from the files' bytes.
    ConfigError if ``out`` is neither empty nor what a killed export of the same run left; ExportError if the library
    cannot express the network, or if the answers differ.
    """
    if (out / CONFIG).exists() or not out.is_dir():
        check_new(out, folder=True)
    refuse(classifier, to)
    content = WRITERS[to](classifier)
    reader, difference = checked(classifier, content, out, to)
    content[CARD] = card(classifier, to, reader, max(difference.values()))
    content[SUMS] = sums(content)
    if not files.is_half_made(out, content, CONFIG):
        check_new(out, folder=True)
    files.write_folder(out, content, CONFIG)  # both libraries look for it first
    side = classifier.config.model.input_side
    return {
        "to": to,
        "path": str(out),
        "bytes": sum(map(len, content.values())),
        "files": len(content),
        "input": ["B", 3, side, side],
        "outputs": {"logits": ["B", len(classifier.classes)]},
        "max_difference": difference,
        "reader": reader,
        "drawing": classifier.drawing,
        "model_sha256": classifier.digest,
    }


# --- the files


def shared(classifier: Classifier) -> tensors.Tensors:
    """The weights as `tensors.shared_form` gives them."""
    assert isinstance(classifier.model, ViT)
    return tensors.shared_form(classifier.model)


def rgb(values: tuple[float, ...]) -> list[float]:
    """A number for each of three channels: a grey network reads the same grey three times."""
    return list(values) if len(values) == 3 else list(values) * 3


def for_transformers(classifier: Classifier) -> Content:
    """The weights under transformers' names, its ViTConfig and its image processor's settings."""
    config, preprocess = classifier.config.model, classifier.preprocess
    names = dict(enumerate(classifier.classes))
    network = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "image_size": config.input_side,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_hidden,
        "hidden_act": config.act,
        "layer_norm_eps": NORM_EPS,
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "id2label": {str(index): name for index, name in names.items()},
        "label2id": {name: index for index, name in names.items()},
        "dtype": "float32",
    }
    side = preprocess.image_size
    processor = {
        "image_processor_type": "BitImageProcessor",  # in every version it converts to RGB and crops; ViT's does not
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": BILINEAR,
        "do_center_crop": config.input_side < side,
        "crop_size": {"height": config.input_side, "width": config.input_side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": rgb(preprocess.mean),
        "image_std": rgb(preprocess.std),
    }
    return {
        WEIGHTS: safetensors.torch.save(tensors.to_hub(shared(classifier)), {"format": "pt"}),
        CONFIG: files.json_bytes(network),
        PROCESSOR: files.json_bytes(processor),
    }


def for_timm(classifier: Classifier) -> Content:
    """The weights under timm's names, and what `timm.create_model` builds and `create_transform` prepares."""
    config, preprocess = classifier.config.model, classifier.preprocess
    side, has_class_token = config.input_side, config.pool == "cls"
    pool = "token" if has_class_token else "avg"
    built: dict[str, Any] = {
        "img_size": side,
        "patch_size": config.patch_size,
        "embed_dim": config.embed_dim,
        "depth": config.depth,
        "num_heads": config.num_heads,
        "mlp_ratio": (config.mlp_hidden + 0.5) / config.embed_dim,  # timm rounds down the product
        "class_token": has_class_token,
        "global_pool": pool,
        "fc_norm": False,
    }
    if config.norm == "rms":
        built["norm_layer"] = "rmsnorm"
    resize = 1.0 if side == preprocess.image_size else side / (preprocess.image_size + 0.5)  # as above
    about = {
        "architecture": "vit_tiny_patch16_224",  # any plain ViT: model_args replace its sizes
        "num_classes": len(classifier.classes),
        "num_features": config.embed_dim,
        "global_pool": pool,
        "label_names": list(classifier.classes),
        "model_args": built,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, side, side],
            "fixed_input_size": True,
            "interpolation": "bilinear",
            "crop_pct": resize,
            "crop_mode": "squash",  # both sides by themselves, as vitlab resizes
            "mean": rgb(preprocess.mean),
            "std": rgb(preprocess.std),
            "num_classes": len(classifier.classes),
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    weights = safetensors.torch.save(shared(classifier), {"format": "pt"})
    return {WEIGHTS: weights, CONFIG: files.json_bytes(about)}


WRITERS: dict[str, Callable[[Classifier], Content]] = {"transformers": for_transformers, "timm": for_timm}


def card(classifier: Classifier, to: str, reader: str, difference: float) -> bytes:
    """README.md: how to load the folder, what happens to a picture, and what is left out."""
    from markupsafe import Markup

    preprocess, side = classifier.preprocess, classifier.preprocess.image_size
    crop = classifier.config.model.input_side
    made = templates(False, lambda value: value if isinstance(value, Markup) else markdown(value), "vitlab.export")
    mean, std = (", ".join(f"{value:.5g}" for value in rgb(values)) for values in (preprocess.mean, preprocess.std))
    text = made.get_template("hub.md.j2").render(
        one=classifier, to=to, result=classifier.result, side=side, crop=crop if crop < side else None,
        stored=classifier.stored_size, resizes=classifier.stored_size != (side, side), mean=mean, std=std, dark=DARK,
        vitlab=version("vitlab"), reader=reader, difference=difference, batches=listed([str(size) for size in BATCHES]),
    )  # fmt: skip
    return text.encode()


# --- the check before the folder is kept


def checked(classifier: Classifier, content: Content, out: Path, to: str) -> tuple[str, dict[str, float]]:
    """Who read the files, and the largest difference of their answers for each batch size; ExportError above 1e-4.

    The images have the size that they would be resized to: the libraries resize in another way than we do.
    """
    whole = Whole(classifier).eval()
    whole.shape = (classifier.preprocess.image_size, classifier.preprocess.image_size, classifier.channels)
    with quiet(), tempfile.TemporaryDirectory(prefix="vitlab-export-") as folder:
        for name, data in content.items():
            files.write_bytes(Path(folder) / name, data)
        with one_line(f"{out} is not kept: {to} cannot read it"):
            answers, reader = reading(classifier, content, Path(folder), to)
        return reader, compare(whole, lambda images: {"logits": answers(images).detach()}, str(out))


def reading(classifier: Classifier, content: Content, folder: Path, to: str) -> tuple[Answers, str]:
    """The files as a function, and who reads them: the library, or vitlab where that is missing or cannot be loaded,
    for it is needed only for this check."""
    try:
        read = READERS[to]()
    except Exception as error:  # of many types: RuntimeError, for example, for a torchvision of another torch
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == to
        why = "is not installed" if is_missing else f"cannot be loaded: {str(error).strip().splitlines()[0][:100]}"
        return read_alone(classifier, content, to), f"vitlab, because {to} {why}"
    return read(folder), f"{to} {version(to)}"


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings and progress bars of the libraries."""
    with silence(), redirect_stderr(StringIO()):
        yield


def read_alone(classifier: Classifier, content: Content, to: str) -> Answers:
    """The files as a function of torch alone; vitlab prepares the images, with the numbers of the run."""
    about = files.parse_json(content[CONFIG], CONFIG)
    weights = safetensors.torch.load(content[WEIGHTS])
    if to == "transformers":
        weights = tensors.from_hub(weights, shared(classifier))
        heads, act = about["num_attention_heads"], about["hidden_act"]
    else:
        heads, act = about["model_args"]["num_heads"], "gelu"

    def answers(images: Tensor) -> Tensor:
        inputs = classifier.preprocess(images).expand(-1, 3, -1, -1)
        return tensors.compute(weights, inputs, heads, act)

    return answers


def transformers_reader() -> Callable[[Path], Answers]:
    """A function that reads a folder with transformers: its processor, then its model."""
    library = importlib.import_module("transformers")
    processors, models = library.AutoImageProcessor, library.AutoModelForImageClassification

    def read(folder: Path) -> Answers:
        processor = processors.from_pretrained(folder, local_files_only=True)
        model = models.from_pretrained(folder, local_files_only=True).eval()
        return lambda images: model(**processor(pictures(images), return_tensors="pt")).logits

    return read


def timm_reader() -> Callable[[Path], Answers]:
    """A function that reads a folder with timm: the transform that it describes, then its model."""
    library = importlib.import_module("timm")

    def read(folder: Path) -> Answers:
        model = library.create_model(f"local-dir:{folder}", pretrained=True).eval()
        transform = library.data.create_transform(**library.data.resolve_model_data_config(model))
        return lambda images: model(torch.stack([transform(one.convert("RGB")) for one in pictures(images)]))

    return read


READERS: dict[str, Callable[[], Callable[[Path], Answers]]] = {
    "transformers": transformers_reader,
    "timm": timm_reader,
}


def pictures(images_BHWC: Tensor) -> list[Any]:
    """uint8 images as Pillow has them."""
    from PIL import Image

    return [Image.fromarray(image.squeeze(-1).numpy()) for image in images_BHWC]
