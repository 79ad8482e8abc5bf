from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import textlens
from langchain_core.tools import BaseTool
from textlens.agent.models.registry import LANGUAGE_MODELS
from textlens.agent.models.serving import serving
from textlens.agent.tools.tool_models import ToolModels
from textlens.agent.tools.toolkit import TextlensToolkit

from ..language_models import CHAT_TEMPLATE, tiny_llama
from .toolkits import tiny_models, tiny_toolkit

ODD = (
    "  two  spaces, and one at the end ",
    "\n\n lines \n\n\nand\ttabs\r\n",
    "é ü ß 漢字 الشمس 🐱 \u200d \u0301 ﬁ",
    "<0x0A> is no newline, \\n neither",
    "a" * 50,
    "I'm 12345.67 $ 50% <|endoftext|> [INST]",
    "\x00\x7f\ufffd",
    "a red star</s><s> and <unk>",
)

# Compiled code would take a minute more to start. Not --enforce-eager: the warm-up that it leaves out is what asks the
# kernel for AMX, and without that, vLLM 0.32 dies of a first prompt of few tokens.
QUICK_START = ("-cc.mode=DYNAMO_TRACE_ONCE", "-cc.backend=eager")


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def language_model_folder() -> Path:
    """The small language model that comes along."""
    return Path(LANGUAGE_MODELS["tiny"].default or "")


@pytest.fixture(scope="session")
def vllm_python() -> str:
    """The Python of the environment that `make vllm` makes."""
    environment = Path(textlens.__file__).parent / ".venv-vllm"
    if not (environment / ".installed").is_file():
        pytest.skip(f"no vLLM in {environment}: `make vllm` installs it")
    return str(environment / "bin" / "python")


@pytest.fixture(scope="session")
def vllm_variables() -> Iterator[None]:
    """vLLM on one core, and not always the first one, however busy that is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        yield


@pytest.fixture(scope="session")
def vllm_address(
    vllm_python: str, vllm_variables: None, language_model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The one vLLM server of all tests; it takes a minute to start, on a busy machine several."""
    template = tmp_path_factory.mktemp("vllm") / "chat.jinja"
    template.write_text(CHAT_TEMPLATE)
    arguments = (*QUICK_START, "--chat-template", str(template))
    with serving(language_model_folder, python=vllm_python, arguments=arguments, startup_seconds=600) as address:
        yield address


@pytest.fixture(scope="session")
def world_prompts() -> list[str]:
    """Few-shot prompts of the made world, as the small model is trained on; with answers, up to about 1,000 tokens."""
    from textlens.scenes.language_model.prompts import LanguagePrompts, PromptSettings

    source = LanguagePrompts(PromptSettings(scenes=300))
    examples = [source.example(i, seed=5) for i in range(500 - len(ODD))]
    return [*(example.prompt + example.target for example in examples), *ODD]


@pytest.fixture(scope="session")
def own_tokenizer(language_model_folder: Path) -> Any:
    """As transformers reads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(language_model_folder)


@pytest.fixture(scope="session")
def counted(own_tokenizer: Any) -> list[str]:
    """40 short prompts, no two of one length: the server's count of its tokens tells which one it answered."""
    by_length = {len(own_tokenizer(text).input_ids): text for n in range(80) if (text := "Image context: " + "a " * n)}
    return random.Random(1).sample(list(by_length.values()), 40)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ToolModels:
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def toolkit(models: ToolModels, tmp_path: Path) -> TextlensToolkit:
    return tiny_toolkit(models, tmp_path)


@pytest.fixture
def tools(toolkit: TextlensToolkit) -> dict[str, BaseTool]:
    tools = {tool.name: tool for tool in toolkit.get_tools()}
    tools["recreate_image"].num_inference_steps = 2  # type: ignore[attr-defined]
    return tools
