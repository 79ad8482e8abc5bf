"""What a task is: a YAML file that names data, columns, split and metric. `evals/tasks/` holds those built in."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ...errors import InputError
from ...plugins import registered
from ...train.engine.recipe import Count, Share
from ...train.engine.settings import read_settings, settings

Kind = Literal["vqa", "multiple_choice", "captioning", "classification", "retrieval", "reconstruction", "upsampling"]


@settings
class Columns:
    """Names of columns; "json.caption" is a field within a field; "" where the file has none."""

    id: str = "question_id"  # without that column: the number of the row
    image: str = "image"
    question: str = "question"
    answers: str = "answers"
    choices: str = "choices"
    correct: str = "correct_choice_idx"  # index of the right choice
    split: str = "split"
    type: str = ""  # kind of question, for scores by type
    truth: str = ""  # ground-truth text about the image, for the ceiling


@settings
class TaskConfig:
    """One task. Paths are relative to `--data-dir`, or to the folder of the user's own task file."""

    task: str
    kind: Kind
    data: str  # a table file; of captioning and classification also a data source, such as "imagefolder:photos"
    description: str = ""
    annotations: str = ""  # official VQA format: answers in a second file, joined by `columns.id`
    images: str = ""  # folder or tar file; "": contexts come from files alone
    image_name: str = ""  # made of columns: "COCO_val2014_{image_id:012d}.jpg"; "": the image column
    columns: Columns = Columns()
    split: str = "test"  # rows to ask about: value of the split column, "all", or "hash:0/2" (by image)
    fewshot_data: str = ""  # the shots' own files where they are not `data`
    fewshot_annotations: str = ""
    fewshot_images: str = ""
    fewshot_image_name: str = ""
    fewshot_split: str = "train"  # "none": there are no shots
    # "": all questions have the same shots. Else each has those nearest to it in the CLIP's space, see `NearestShots`:
    nearest_shots: str = ""  # "question", "image", "words", or several, such as "question+image"
    val_share: Share = 0.2  # of the shots' images that split "val" means where the file has no such split
    metric: Literal["vqa_accuracy", "exact_match", "set_match"] = "vqa_accuracy"
    instruction: str | None = None  # in place of the template's
    quote: bool = False  # descriptions in quotes
    max_tokens: Count = 16
    text: str = "json:captions"  # of a data source: where its captions are
    dataset: str = "MS COCO"  # whose manner a caption has
    ways: Count = 2  # classification: classes of an episode
    episodes: Count = 500
    names: Literal["real", "nonsense"] = "real"
    induction: bool = True  # the prompt begins with the names of the classes
    # retrieval, reconstruction, nearest shots: folder, included weights (photo-clip), or open_clip's MODEL/TAG
    clip: str = "photo-clip"
    decoder: str = ""  # reconstruction: folder or hub id of a diffusers pipeline; by default the included one
    inception: str = ""  # reconstruction: torch-fidelity's file of Inception's weights, for FID
    guidance_scales: tuple[Annotated[float, Field(ge=1)], ...] = (3.0,)  # each gives its own scores
    num_inference_steps: Count = 50
    constrained: bool = False  # the model chooses among the classes; False: it writes freely, and must match


def built_in() -> dict[str, Path]:
    """Name -> file of the tasks that come along, those of plug-ins too."""
    folders = [Path(str(files("textlens.evals.tasks")))]
    for package, _, name in (target.partition(":") for target in registered("EVAL_TASKS").values()):
        folders.append(Path(str(files(package))) / name)
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_task(name: str, data_dir: Path = Path()) -> tuple[TaskConfig, Path]:
    """A task's settings and the folder of its paths. name: a built-in task, or the path of a YAML file.

    Raises `InputError` for an unknown name, and for a file that does not fit, by file and key.
    """
    known = built_in()
    if name in known:
        return read_settings(TaskConfig, known[name]), data_dir
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise InputError(f"unknown task {name!r}; expected {', '.join(known)}, or the path of a YAML file")
    return read_settings(TaskConfig, path), path.parent
