"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

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
Chat = Annotated[
    bool | None,
    typer.Option(
        "--chat/--no-chat",
        help="Prompts as messages of a chat, or as text to write on; by default as the model of hf:, vllm: or the "
        "server takes them.",
    ),
]
Images = Annotated[
    list[str], typer.Argument(help="Image files, folders, globs, data URLs; http(s) with --allow-network; - for stdin.")
]
NumFewshot = Annotated[
    int | None, typer.Option(min=0, help="How many of the shots, drawn by the seed; by default all of them.")
]
Seed = Annotated[
    int, typer.Option(min=0, help="Another seed draws other shots, and other words where they are sampled.")
]
Network = Annotated[bool, typer.Option("--allow-network", help="Fetch http(s) addresses of public hosts.")]
PrivateNetwork = Annotated[
    bool,
    typer.Option("--allow-private-network", help="Fetch http(s) addresses of this machine and private networks too."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout.")]


Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="The pictures of subfolders too.")]
