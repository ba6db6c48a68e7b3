"""What Keras, torch, timm and scikit-learn call our knobs and their values, for the hint in an error message.

The names are hints, not aliases: a run has one name for each thing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Another name -> our knob, or a knob and its value.
RENAMED = {
    **dict.fromkeys(("learning_rate", "base_lr", "lr_max", "max_lr", "alpha"), "lr"),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs", "num_train_epochs", "max_iter"), "epochs"),
    **dict.fromkeys(("bs", "batch", "train_batch_size", "per_device_train_batch_size"), "batch_size"),
    **dict.fromkeys(("projection_dim", "hidden_dim", "hidden_size", "d_model", "dim", "width"), "embed_dim"),
    **dict.fromkeys(
        ("transformer_layers", "num_layers", "n_layers", "num_hidden_layers", "num_blocks", "layers", "n_layer"),
        "depth",
    ),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "nhead", "heads", "num_head"), "num_heads"),
    **dict.fromkeys(("key_dim", "dim_head"), "head_dim"),
    **dict.fromkeys(
        ("transformer_units", "mlp_dim", "mlp_units", "intermediate_size", "dim_feedforward", "ffn_dim"), "mlp_ratio"
    ),
    "mlp_head_units": "head_hidden",
    **dict.fromkeys(("img_size", "input_size", "input_shape", "resolution", "img"), "image_size"),
    **dict.fromkeys(("patch", "patches", "kernel_size"), "patch_size"),
    **dict.fromkeys(("drop_rate", "dropout_rate", "hidden_dropout_prob", "proj_drop_rate"), "dropout"),
    **dict.fromkeys(("attention_dropout", "attn_drop_rate", "attention_probs_dropout_prob"), "attn_dropout"),
    **dict.fromkeys(("stochastic_depth", "drop_path_rate"), "drop_path"),
    **dict.fromkeys(("wd", "decay", "l2", "weight_decay_rate"), "weight_decay"),
    **dict.fromkeys(("opt", "optim"), "optimizer"),
    **dict.fromkeys(("sched", "scheduler", "lr_scheduler", "lr_schedule"), "schedule"),
    **dict.fromkeys(("warmup", "warmup_steps", "warmup_ratio"), "warmup_epochs"),
    **dict.fromkeys(("eps", "epsilon"), "adam_eps"),
    **dict.fromkeys(("clip_grad", "clipnorm", "max_grad_norm", "gradient_clip_val", "grad_clip_norm"), "grad_clip"),
    **dict.fromkeys(("smoothing", "label_smooth"), "label_smoothing"),
    **dict.fromkeys(("ema", "model_ema", "model_ema_decay"), "ema_decay"),
    **dict.fromkeys(("random_state", "random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("dataset", "data_dir", "data_path", "datasets", "train_data"), "data"),
    **dict.fromkeys(("validation_split", "val_size", "validation_fraction", "val"), "val_fraction"),
    **dict.fromkeys(("rotation", "random_rotation", "degrees"), "rotate"),
    **dict.fromkeys(("horizontal_flip", "hflip", "random_flip", "mirror"), "flip"),
    **dict.fromkeys(("reprob", "random_erasing", "cutout"), "erase"),
    "mixup_alpha": "mixup",
    "cutmix_alpha": "cutmix",
    **dict.fromkeys(("num_threads", "n_jobs", "jobs"), "threads"),
    **dict.fromkeys(("gpu", "cuda", "gpus", "use_gpu", "use_cuda"), "device=cuda"),
    **dict.fromkeys(("no_cuda", "no_gpu", "use_cpu", "cpu"), "device=cpu"),
    "accelerator": "device",
    **dict.fromkeys(("amp", "fp16", "half", "mixed_precision", "bf16", "dtype"), "precision=bf16"),
    "fp32": "precision=fp32",
    **dict.fromkeys(("torch_compile", "jit", "jit_compile"), "compile"),
    **dict.fromkeys(("save_best_only", "restore_best_weights", "load_best_model_at_end"), "select=best"),
    **dict.fromkeys(("pretrained", "weights", "finetune", "fine_tune", "initial_checkpoint"), "init_from"),
    **dict.fromkeys(("early_stopping", "early_stopping_patience", "es_patience"), "patience"),
    **dict.fromkeys(("metric_for_best_model", "monitor_metric", "eval_metric"), "monitor"),
    **dict.fromkeys(("class_weights", "cls_weights", "pos_weight"), "class_weight"),
    **dict.fromkeys(("oversample", "oversampling", "balanced_sampling", "weighted_sampler"), "sampling=balanced"),
    "activation": "act",
    **dict.fromkeys(("pooling", "global_pool"), "pool"),
    **dict.fromkeys(("positional_embedding", "position_embedding"), "pos_embed"),
}
# Another name -> why there is no such knob.
ABSENT = {
    **dict.fromkeys(
        ("workers", "num_workers"), "no workers load images: all of them are in memory; threads sets the CPU threads"
    ),
    **dict.fromkeys(("momentum", "betas"), "AdamW has beta1 and beta2, Muon has muon_momentum"),
    "num_patches": "it follows from image_size and patch_size",
    **dict.fromkeys(("num_classes", "classes", "in_channels", "in_chans"), "it follows from the data"),
    **dict.fromkeys(("color_jitter", "jitter"), "there are brightness, contrast and saturation"),
    "shuffle": "the training images are always shuffled, anew for each epoch",
    **dict.fromkeys(("loss", "criterion"), "the loss is always cross-entropy; label_smoothing changes its targets"),
    **dict.fromkeys(("metric", "metrics"), "result.json holds all metrics"),
    **dict.fromkeys(
        ("augment", "augmentation", "aug", "transforms"), "there is a knob for each change: rotate, zoom, shift, shear"
    ),
    **dict.fromkeys(("steps", "num_steps", "max_steps"), "epochs sets the length, and may be a fraction, such as 0.25"),
}
# (knob, another program's value) -> what to use, or why there is no such value.
VALUES = {
    **{("device", word): "use cuda, for an NVIDIA GPU" for word in ("gpu", "cuda:0", "nvidia", "rocm", "hip")},
    ("device", "metal"): "use mps, for Apple's GPU",
    **{("device", word): "TPUs are not supported; use cpu" for word in ("tpu", "xla")},
    **{
        ("precision", word): "use bf16, which needs no loss scaling"
        for word in ("fp16", "float16", "half", "16", "amp")
    },
    **{("precision", word): "use fp32" for word in ("float32", "32", "full", "float", "fp64", "float64")},
    ("precision", "bfloat16"): "use bf16",
    **{("optimizer", word): "use adamw; weight_decay 0 makes it Adam" for word in ("adam", "nadam", "lion", "lamb")},
    **{("optimizer", word): "use adamw or muon: a ViT trains badly with plain SGD" for word in ("sgd", "rmsprop")},
    **{("pool", word): "use cls" for word in ("token", "class", "cls_token")},
    **{("pool", word): "use mean" for word in ("avg", "average", "gap")},
    **{("act", word): "use gelu or relu2" for word in ("relu", "silu", "swish")},
    **{("pos_embed", word): "use sincos" for word in ("sin", "sine", "sinusoidal", "fixed")},
    **{("norm", word): "use layer" for word in ("layernorm", "ln")},
    **{("norm", word): "use rms" for word in ("rmsnorm",)},
}


def knob_hint(word: str, known: Iterable[str]) -> str:
    """The end of a message about ``word``, which is none of the knobs ``known``; empty if nothing is close."""
    names, name = list(known), plain(word)
    meant = name if name in names else RENAMED.get(name, "")
    if meant.split("=")[0] in names:
        return f" (use {meant})"
    return f" ({ABSENT[name]})" if name in ABSENT else did_you_mean(name, names)


def value_hint(name: str, value: str, words: Iterable[str]) -> str:
    """The same for a ``value`` that is none of the ``words`` which the knob ``name`` allows."""
    hint = VALUES.get((name, value.lower()))
    return f" ({hint})" if hint else did_you_mean(value, words)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' if a known word is close, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def plain(word: str) -> str:
    """A name without dashes in front, in small letters, with _ between its words."""
    return word.lstrip("-").replace("-", "_").lower()
