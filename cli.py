"""The command line: every command parses, builds, calls one library function, and prints. Results go to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import InputError, TextlensError
from .plugins import load, registered
from .progress import progress_bar

if TYPE_CHECKING:
    from .agent.reader.answers import Answer, Upsampling

app = typer.Typer(
    name="textlens",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

_AT_ONCE = 16  # prompts that a language model gets together

Encoders = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        "-e",
        help="Encoder spec, such as coca, coca:FOLDER, hf:ID or scenes:coca; may be given several times.",
    ),
]
LanguageModelSpec = Annotated[
    str | None,
    typer.Option(
        "--llm",
        help="Language model: gemma, tiny, http://HOST:PORT/v1\\[#MODEL], vllm:MODEL or hf:MODEL; by default gemma "
        "where it is installed, else tiny.",
    ),
]
Images = Annotated[
    list[str], typer.Argument(help="Image files, folders, globs, data URLs; http(s) with --allow-network; - for stdin.")
]
NumFewshot = Annotated[
    int | None, typer.Option(min=0, help="How many of the shots, drawn by the seed; by default all of them.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of sampling: of shots, and of words.")]
Network = Annotated[bool, typer.Option("--allow-network", help="Fetch http(s) addresses.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")]


Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="The pictures of subfolders too.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"textlens {version('textlens')}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See images through text: turn images into words that any language model can use."""


def _print_json(record: dict[str, Any]) -> None:
    # A file name may hold bytes that are not text; ASCII escapes keep every line valid.
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


@app.command()
def describe(
    images: Images,
    encoder: Encoders = None,
    recursive: Recursive = False,
    as_json: AsJson = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse images with more pixels than this.")] = 64_000_000,
    allow_network: Network = False,
    video: Annotated[
        bool, typer.Option("--video", help="Each argument is one video: an animated image, or a folder of frames.")
    ] = False,
) -> None:
    """Turn images into words: one line per image and encoder."""
    from .encoders.images import ImageLimits
    from .encoders.pipeline import describe_stream, describe_videos
    from .encoders.registry import DEFAULT_ENCODERS, load_encoder

    limits = ImageLimits(max_pixels=max_pixels)
    names = _bytes_of_stdin(images) if video else _bytes_of_stdin(_expanded(images, recursive))
    encoders = {spec: load_encoder(spec) for spec in encoder or DEFAULT_ENCODERS}
    rows = (
        describe_videos(names, encoders, limits=limits)
        if video
        else describe_stream(names, encoders, batch_size=batch_size, limits=limits, allow_network=allow_network)
    )
    failed = total = 0
    notes: list[str | None] = []
    with progress_bar("descriptions") as bar:
        task = bar.add_task("describing", total=len(names) * len(encoders), note="")
        for row in rows:
            total += 1
            failed += row.error is not None
            bar.advance(task)
            if as_json:
                _print_json(row.as_json())
            elif row.description is None:
                typer.echo(f"error: {row.error}", err=True)
            else:
                typer.echo(_line(row.image, row.encoder, row.description.text, len(names), len(encoders)))
                if row.description.note:
                    notes.append(_line(row.image, row.encoder, row.description.note, len(names), len(encoders)))
    _notes(notes)
    _exit_for(failed, total)


def _expanded(images: list[str], recursive: bool) -> list[str]:
    """Names of single images; says which subfolders are left out."""
    from .encoders.images import expand_images, folders_inside

    for folder in [] if recursive else folders_inside(images):
        typer.echo(f"note: the pictures in {folder} are left out; --recursive takes them", err=True)
    return expand_images(images, recursive=recursive)


def _bytes_of_stdin(names: list[str]) -> list[Any]:
    """The names; where one is "-", the file on stdin in its place."""
    return [sys.stdin.buffer.read() if name == "-" else name for name in names]


def _line(image: str, encoder: str, text: str, num_images: int, num_encoders: int) -> str:
    """The text alone where it can only mean one thing, else with the names of image and encoder in front."""
    label = [image] * (num_images > 1) + [f"[{encoder}]"] * (num_encoders > 1)
    return f"{' '.join(label)}: {text}" if label else text


def _exit_for(failed: int, total: int) -> None:
    if failed:
        raise typer.Exit(2 if failed == total else 1)


@app.command()
def recreate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE|TEXT", help="An image file or data URL to describe and redraw, or words to draw."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write, such as out.png: image, words, redrawn.")],
    encoder: Annotated[str | None, typer.Option("--encoder", "-e", help="Encoder spec, for an image.")] = None,
    decoder: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of a diffusers StableDiffusionPipeline; by default the small one."),
    ] = None,
    guidance: Annotated[float, typer.Option(min=1, help="Guidance scale; 1 is none.")] = 3.0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws another image.")] = 0,
    allow_network: Network = False,
    as_json: AsJson = False,
) -> None:
    """Redraw an image from its words alone, and show image, words and redrawn image in one picture."""
    from .encoders.images import display_name
    from .encoders.redraw.recreate import check_output, image_or_text
    from .encoders.redraw.recreate import recreate as redraw
    from .encoders.registry import REDRAW_ENCODER, load_encoder

    check_output(out, source)
    given = image_or_text(source, allow_network=allow_network)
    from .encoders.redraw.redrawer import DEFAULT_DECODER, Redrawer  # takes seconds, so after what can go wrong at once

    is_text = isinstance(given, str)
    typer.echo(f"taken as {'a text' if is_text else 'an image'}: {display_name(source)}", err=True)
    spec = None if is_text else encoder or REDRAW_ENCODER
    describer = load_encoder(spec) if spec else None
    redrawer = Redrawer.from_pretrained(decoder or DEFAULT_DECODER)
    settings: dict[str, Any] = {"guidance_scale": guidance, "num_inference_steps": steps, "seed": seed}
    made = redraw(given, redrawer, describer, **settings)
    made.picture.save(out)
    if as_json:
        names = {"image": None if is_text else display_name(source), "encoder": spec}
        _print_json({**names, "text": made.text, "decoder": redrawer.name, "out": str(out), **settings})
    else:
        typer.echo(str(out))


def _arguments(given: list[str]) -> list[str]:
    """The arguments; where one is "-", the lines of stdin in its place."""
    found: list[str] = []
    for argument in given:
        found += _lines_of_stdin() if argument == "-" else [argument]
    return found


def _lines_of_stdin() -> list[str]:
    try:
        return [line.strip() for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"stdin is no text ({error}); expected one line for each, in {sys.stdin.encoding}") from None


def _notes(notes: list[str | None]) -> None:
    for note in dict.fromkeys(note for note in notes if note):
        typer.echo(f"note: {note}", err=True)


def _print_answers(answers: Sequence[Answer], names: Sequence[str], records: Sequence[dict[str, Any]] | None) -> None:
    """Each answer as its record, or as text, named where there are several; then the notes and the exit code."""
    for record in records or ():
        _print_json(record)
    for answer, name in zip(answers, names, strict=True) if records is None else ():
        if answer.answer is None:
            typer.echo(f"error: {name}: {answer.error}", err=True)
        else:
            typer.echo(f"{name}: {answer.answer}" if len(answers) > 1 else answer.answer)
    _notes([answer.note for answer in answers])
    _exit_for(sum(answer.error is not None for answer in answers), len(answers))


@app.command()
def ask(
    image: Annotated[str, typer.Argument(help="Image file or data URL; http(s) with --allow-network.")],
    questions: Annotated[list[str], typer.Argument(help="Questions about it; - reads them from stdin, one a line.")],
    encoder: Encoders = None,
    llm: LanguageModelSpec = None,
    shots: Annotated[
        Path | None, typer.Option(help="JSON Lines: context or image, question, answer. Without: pseudo samples.")
    ] = None,
    num_fewshot: NumFewshot = None,
    seed: Seed = 0,
    allow_network: Network = False,
    as_json: AsJson = False,
) -> None:
    """Answer questions about an image, by a language model that sees it as words only."""
    from .agent.reader.reader import ImageReader
    from .agent.reader.shot_sources import question_shots

    demonstrations = question_shots(shots, num_fewshot, seed=seed)
    asked = _arguments(questions)
    if not asked:
        raise InputError("no question was given; expected one as an argument, or on stdin with -")
    reader = ImageReader.from_specs(encoder, llm, allow_network=allow_network)
    answers = reader.ask([image] * len(asked), asked, shots=demonstrations, seed=seed)
    records = [answer.as_json() for answer in answers] if as_json else None
    _print_answers(answers, [answer.question for answer in answers], records)


@app.command()
def classify(
    images: Images,
    labels: Annotated[str, typer.Option(help="The classes, with commas between them: a,b,c.")],
    encoder: Encoders = None,
    llm: LanguageModelSpec = None,
    recursive: Recursive = False,
    shots: Annotated[Path | None, typer.Option(help="Folder with a folder of example images for each class.")] = None,
    num_fewshot: NumFewshot = None,
    unconstrained: Annotated[
        bool, typer.Option("--unconstrained", help="Let the model write freely; what is no label is an error.")
    ] = False,
    seed: Seed = 0,
    allow_network: Network = False,
    as_json: AsJson = False,
) -> None:
    """Sort images into classes of your own, by a language model that sees them as words only."""
    from .agent.reader.reader import ImageReader
    from .agent.reader.shot_sources import folder_shots
    from .prompting.classification import ClassificationTemplate

    template = ClassificationTemplate(labels=tuple(label.strip() for label in labels.split(",")))
    if shots is None and num_fewshot:
        raise InputError(f"{num_fewshot} shots asked for, but no folder to draw them from; name one by --shots")
    demonstrations = folder_shots(shots, template.labels, num_fewshot, seed=seed) if shots else []
    names = _expanded(images, recursive)
    reader = ImageReader.from_specs(encoder, llm, allow_network=allow_network)
    answers = reader.classify(
        names, template.labels, template=template, shots=demonstrations, constrained=not unconstrained, seed=seed
    )
    records = [answer.as_label_json() for answer in answers] if as_json else None
    _print_answers(answers, [answer.image for answer in answers], records)


@app.command()
def upsample(
    prompts: Annotated[list[str], typer.Argument(help="Short prompts; - reads them from stdin, one a line.")],
    llm: LanguageModelSpec = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="How long a prompt the image generator reads, such as 77 for CLIP.")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="What counts them: clip, or the hub id or folder of the generator's tokenizer.")
    ] = "clip",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Turn short prompts for an image generator into detailed ones that keep every word's meaning."""
    from .agent.models.registry import load_language_model
    from .agent.reader.upsampler import token_counter
    from .agent.reader.upsampler import upsample as rewrite

    given = _arguments(prompts)
    if not given:
        raise InputError("no prompt was given; expected one as an argument, or on stdin with -")
    counter = token_counter(tokenizer) if max_tokens else None
    model, failed = load_language_model(llm), 0
    notes: list[str | None] = []
    with progress_bar("prompts") as bar:
        task = bar.add_task("rewriting", total=len(given), note="")
        for start in range(0, len(given), _AT_ONCE):  # printed as soon as they are there, so that Ctrl-C keeps them
            part = given[start : start + _AT_ONCE]
            for one in rewrite(model, part, count_tokens=counter, token_limit=max_tokens, seed=seed):
                _print_upsampling(one, as_json)
                failed += one.upsampled.error is not None
                notes.append(one.note)
            bar.advance(task, len(part))
    _notes(notes)
    _exit_for(failed, len(given))


def _print_upsampling(one: Upsampling, as_json: bool) -> None:
    from .prompting.rewrites import FLAGS

    if as_json:
        _print_json(one.as_json())
        return
    made = one.upsampled
    typer.echo(made.prompt)
    _notes([f"{made.original}: {FLAGS[flag]}" for flag in made.flags])
    if made.error:
        typer.echo(f"error: {made.original}: {made.error}", err=True)


@app.command()
def chat(
    images: Annotated[list[str], typer.Argument(help="Image files, folders, globs, data URLs to talk about.")],
    llm: Annotated[
        str,
        typer.Option(help="A chat model that calls tools, on an OpenAI-compatible server: http://HOST:PORT/v1#MODEL."),
    ],
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", help="Answer this (and the next -q) instead of asking for more."),
    ] = None,
    encoder: Encoders = None,
    reader: Annotated[
        str | None, typer.Option(help="Language model inside the tools, as --llm of ask; by default as there.")
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(help="Folder or hub id of a diffusers StableDiffusionPipeline; by default the small one."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder where drawings may be saved.")] = None,
    allow_network: Network = False,
) -> None:
    """Talk about images with a chat model that sees them through the tools alone. Ctrl-D or Ctrl-C ends it."""
    from .agent.chat.chat import chat as converse

    settings: dict[str, Any] = {"encoders": encoder, "reader": reader, "decoder": decoder, "output_folder": out}
    _exit_for(*converse(images, llm, question or (), allow_network=allow_network, **settings))


@app.command(name="serve-llm")
def serve_llm(
    flags: Annotated[
        list[str] | None, typer.Argument(metavar="[-- VLLM_FLAGS]", help="Further flags for vLLM, after --.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder, hub id or gemma; by default the small model that is included.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8000,
    python: Annotated[
        str | None, typer.Option(help="Python of the environment that holds vLLM; without it, the first that is found.")
    ] = None,
) -> None:
    """Serve a language model with vLLM until Ctrl-C; prints the address to give to --llm."""
    from .agent.models.serving import serve

    notes = partial(typer.echo, err=True)
    serve(typer.echo, model, port=port, python=python, arguments=flags or (), say=notes)


@app.command(name="eval")
def evaluate(
    tasks: Annotated[list[str], typer.Argument(help="Names of tasks, such as daquar, or YAML task files.")],
    encoder: Encoders = None,
    context: Annotated[
        list[str] | None,
        typer.Option("--context", "-c", help="Published texts in a file, FILE:COLUMN[+COLUMN]; repeatable."),
    ] = None,
    llm: LanguageModelSpec = None,
    num_fewshot: Annotated[str, typer.Option(help="Numbers of shots, with commas, such as 0,4,16.")] = "4",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Items of each task, drawn by --seed; by default all.")
    ] = None,
    seed: Seed = 0,
    data_dir: Annotated[Path, typer.Option(help="Folder that the paths of built-in tasks start from.")] = Path("."),
    output_path: Annotated[
        Path | None, typer.Option("--output-path", "-o", help="Folder for results.json, samples and caches.")
    ] = None,
    log_samples: Annotated[
        bool, typer.Option("--log-samples", help="Keep prompts, completions and thumbnails.")
    ] = False,
    floors: Annotated[
        bool, typer.Option(help="Rows without context, with another image's, and with the truth.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Measure words of images on benchmarks: questions, classes, captions; with floors and standard errors."""
    from .evals.harness.evaluate import evaluate as run
    from .evals.harness.results import as_table
    from .evals.harness.runner import EvalSettings

    if log_samples and output_path is None:
        raise InputError("--log-samples needs --output-path, the folder to write them to")
    settings = EvalSettings(_counts(num_fewshot), seed, floors, output_path, log_samples=log_samples)
    results = run(
        tasks, settings, encoders=encoder or (), contexts=context or (), llm=llm, data_dir=data_dir, limit=limit
    )
    if as_json:
        _print_json(results.model_dump())
    else:
        typer.echo(as_table(results.results))
    _notes([f"{name}: {note}" for name, told in results.tasks.items() for note in told.notes])
    if results.failures:
        typer.echo(f"error: {results.failures} prompts have no answer; the same command asks them again", err=True)
        raise typer.Exit(1)


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [-1]
    if min(counts) < 0:
        raise InputError(f"--num-fewshot is {text!r}; expected numbers with commas, such as 0,4,16")
    return counts


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Folder that `textlens eval` wrote.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Say whether two evaluations differ: paired differences on the items that both have."""
    from dataclasses import asdict

    from .evals.harness.run_comparison import compare as difference
    from .evals.harness.run_comparison import comparison_table

    rows = difference(first, second)
    if as_json:
        for row in rows:
            _print_json(asdict(row))
    else:
        typer.echo(comparison_table(rows))


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(help="captioner, coca, decap, dediffusion, autoencoder, text-to-image, …, or a plug-in's.")
    ],
    config: Annotated[Path, typer.Option(help="Settings file, such as configs/coca-small.yaml; FILE#NAME: a variant.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, metrics.jsonl and the finished model.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    max_minutes: Annotated[float | None, typer.Option(help="Pause after this time; go on later with --resume.")] = None,
) -> None:
    """Train a model by its recipe. A paused or killed run goes on exactly where its last checkpoint stands."""
    from .train.registry import run_recipe

    result = run_recipe(recipe, config, out, resume=resume, max_minutes=max_minutes)
    _notes([f"skipped {item}" for item in result.skipped])
    ended = {"finished": result.finished, "step": result.step, "checkpoint": str(result.checkpoint)}
    _print_json({**ended, "skipped": len(result.skipped), **result.evaluation})


@app.command(name="import")
def import_checkpoint(
    layout: Annotated[str, typer.Argument(help="Whose checkpoint it is: decap-official.")],
    file: Annotated[Path, typer.Argument(help="The checkpoint, such as coco_prefix-009.pt.")],
    out: Annotated[Path, typer.Argument(help="Folder for the converted model.")],
    clip: Annotated[str, typer.Option(help="The CLIP it was trained for: open_clip MODEL/TAG or a folder.")] = (
        "ViT-B-32/openai"
    ),
) -> None:
    """Convert a published checkpoint into a folder that textlens reads. Runs no code that the file may hold."""
    from .encoders.decap.decap_checkpoint import import_official

    if layout != "decap-official":
        raise InputError(f"unknown layout {layout!r}: expected decap-official")
    import_official(file, out, clip=clip)
    typer.echo(str(out))


@app.command()
def memory(
    texts: Annotated[Path, typer.Argument(help="A text file with one caption per line; may be gzipped.")],
    clip: Annotated[str, typer.Option(help="The CLIP that embeds them: open_clip MODEL/TAG or a folder.")],
    out: Annotated[Path, typer.Option(help="DeCap folder to put the support memory into.")],
    cut_long: Annotated[bool, typer.Option("--cut-long", help="Shorten captions that the CLIP cannot read whole.")] = (
        False
    ),
) -> None:
    """Build a support memory for DeCap from captions. Run it again after an interruption: it goes on."""
    from .encoders.clip.clip import Clip
    from .encoders.decap.memory_build import build_memory, captions_from_file

    built = build_memory(captions_from_file(texts), Clip.from_pretrained(clip), out, cut_long=cut_long)
    _print_json({"entries": len(built.texts), "memory": str(out)})


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that an evaluation wrote by --output-path.")],
    max_samples: Annotated[
        int, typer.Option(min=0, help="Samples to embed at most, evenly spaced; whole documents only.")
    ] = 2000,
) -> None:
    """Show an evaluation's results and samples as one HTML page, DIR/report.html. It opens without network."""
    from .evals.report.page import write_report

    typer.echo(str(write_report(folder, max_samples)))


_ELSEWHERE = {
    "mcp": "textlens.agent.mcp.mcp_command:mcp",
    "recaption": "textlens.evals.recaption.recaption_command:recaption",
}
for _name, _target in {**_ELSEWHERE, **registered("COMMANDS")}.items():
    app.command(name=_name)(load(_target))


def main() -> None:
    """The entry point: errors that are the caller's to mend are printed without a traceback and exit with 2."""
    if getattr(sys.stdout, "errors", None) == "strict":  # a file name may hold bytes that are not text
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        app()
    except TextlensError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    except BrokenPipeError:  # `textlens describe ... | head`
        sys.stderr.close()
        raise SystemExit(1) from None
