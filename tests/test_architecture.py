"""The rules of the code that a machine can check: who imports whom, what is public, what never occurs."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import vitlab

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "vitlab").rglob("*.py"))
OUTSIDE_MODEL = [path for path in SOURCES if path.parent.name != "model"]


def calls(path: Path) -> Iterator[str]:
    """The dotted names of everything that is called in a source file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def imports(path: Path) -> Iterator[str]:
    """The modules that a source file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_modules_import_downwards_only() -> None:
    """The layers stand in pyproject.toml."""
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None) == 0


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_nothing_is_pickled_or_evaluated(path: Path) -> None:
    modules = {name.split(".")[0] for name in imports(path)}
    assert not modules & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml"}
    assert not set(calls(path)) & {"eval", "exec", "torch.load", "torch.save"}
    assert "allow_pickle=True" not in path.read_text()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_a_file_begins_by_saying_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", OUTSIDE_MODEL, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_nobody_outside_model_asks_which_network_it_is(path: Path) -> None:
    """`describe()` says what the others need; the configuration's arch is only passed on."""
    asked = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if compares_arch(node)]
    assert not asked, f"{path} compares arch ({asked[0]}): ask model.describe() instead"


def compares_arch(node: ast.AST) -> bool:
    """Whether a node compares or matches something that is called arch."""
    operands = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
    operands += [node.subject] if isinstance(node, ast.Match) else []
    return any(ast.unparse(one).split(".")[-1] == "arch" for one in operands)


def test_the_check_above_sees_every_form() -> None:
    for text in (
        'config.arch == "cnn"',
        '"cnn" != arch',
        'config.model.arch in ("vit", "cnn")',
        "match x.arch:\n case 1: 2",
    ):
        assert any(map(compares_arch, ast.walk(ast.parse(text)))), text
    assert not any(map(compares_arch, ast.walk(ast.parse('d = {"arch": config.arch}; TABLE[config.arch]'))))


# Names of other libraries that are private, or undocumented; pyproject.toml bounds those libraries above.
PRIVATE = (
    "torch.optim.adamw.adamw",
    "torch._foreach_lerp",
    "torch._foreach_lerp_",
    "torch._foreach_mul_",
    "torch._foreach_copy_",
)


@pytest.mark.parametrize("name", PRIVATE)
def test_private_names_of_other_libraries_are_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute), f"{name} is gone: lower the bound in pyproject.toml"


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(vitlab.__all__) == [
        "Attention", "CATALOGUE", "CNN", "Classifier", "Dataset", "Label", "PRESETS", "Predictions", "Preprocess",
        "Reporter", "Result", "Run", "RunConfig", "RunFolder", "Split", "StudyResult", "ViT", "ViTClassifier",
        "VitlabError", "build_model", "compare", "evaluate_run", "load", "load_dataset", "load_model", "preset_config",
        "resume_run", "study", "train", "train_run",
    ]  # fmt: skip
    for name in vitlab.__all__:
        assert getattr(vitlab, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = vitlab.nonsense


def test_importing_vitlab_or_asking_for_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'sklearn', 'rich', 'requests', 'PIL', 'safetensors'}"
    script = (
        "import sys, vitlab\nfrom vitlab.cli import main\n"
        "for words in ([], ['train', '--help'], ['presets']):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        f"print('heavy:', sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_training_opens_no_network_and_reads_no_pickle(tmp_path: Path) -> None:
    """A whole run with sockets and unpickling replaced by an alarm."""
    script = f"""
import pickle, socket
from pathlib import Path
from tests.tiny import tiny_config, write_npz
from vitlab import evaluate_run, resume_run, train_run
def alarm(*arguments, **options): raise SystemExit("alarm")
socket.socket.connect = pickle.loads = pickle.load = alarm
folder = Path({str(tmp_path)!r})
train_run(tiny_config(write_npz(folder / "glyphs.npz"), epochs=2), folder / "run")
(folder / "run" / "result.json").unlink()
resume_run(folder / "run")
print(evaluate_run(folder / "run")["images"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() == "31", done.stderr


def test_the_networks_of_the_page_import_nothing_of_what_shows_them() -> None:
    page = ROOT / "src" / "vitlab" / "page"
    found = [
        (path, (path.parent / name).resolve())
        for path in (page / "net").rglob("*.js")
        for name in re.findall(r'from "(\.[^"]+)"', path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 20
    outside = [(path.name, target.name) for path, target in found if not target.is_relative_to(page / "net")]
    assert outside == []
