"""From run folders to what is served: classifiers by id, and every file by its address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vitlab.errors import ConfigError, RunError
from vitlab.export.web import gather
from vitlab.predict import Classifier
from vitlab.serve.pages import File, page_files

STUDY = "study.json"


def load(
    folders: Sequence[Path], runs: Path, note: Callable[[str], None]
) -> tuple[dict[str, Classifier], dict[str, File]]:
    """The classifiers of run folders, the first one first, and the page's files with theirs.

    One of ``folders`` may be a study's: its models come last, and its table becomes the page's menu. RunError for a
    folder that is neither or is damaged, ConfigError for two studies.
    """
    studies = [folder for folder in folders if (folder / STUDY).is_file()]
    if len(studies) > 1:
        raise ConfigError("a page shows one study; name one, and single runs beside it")
    classifiers = [Classifier.load(folder) for folder in folders if folder not in studies]
    study = studies[0] if studies else None
    models, content = gather(classifiers, study, runs, lambda line: None if study is None else note(line))
    if not models:
        raise RunError(f"{study} has no model to serve: no run of it lies in {runs}; name its --runs folder")
    return models, page_files() | {f"/{name}": File.of(name, data) for name, data in content.items()}
