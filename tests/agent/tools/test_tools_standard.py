"""langchain-tests' standard suites, unit and integration, for each tool with real models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from textlens.agent.tools.tool_models import ToolModels
from textlens.agent.tools.toolkit import TextlensToolkit
from textlens.agent.tools.tools import AskImage, ClassifyImage, DescribeImage, RecreateImage, UpsamplePrompt

from ..toolkits import tiny_toolkit


class Suite:
    """kind: the tool. parts: of the toolkit, that it takes. example: a call's arguments."""

    kind: ClassVar[type[BaseTool]]
    parts: ClassVar[tuple[str, ...]] = ("models", "access")
    settings: ClassVar[dict[str, Any]] = {}
    example: ClassVar[dict[str, Any]]

    @pytest.fixture(autouse=True)
    def _toolkit(self, models: ToolModels, tmp_path: Path) -> None:
        self.toolkit: TextlensToolkit = tiny_toolkit(models, tmp_path)

    @property
    def tool_constructor(self) -> type[BaseTool]:
        return self.kind

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        return {part: getattr(self.toolkit, part) for part in self.parts} | self.settings

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return dict(self.example)


class Describe(Suite):
    kind = DescribeImage
    example: ClassVar = {"image": "image-1"}


class Ask(Suite):
    kind = AskImage
    example: ClassVar = {"image": "scene.png", "question": "is it day?", "choices": ["yes", "no"]}


class Classify(Suite):
    kind = ClassifyImage
    example: ClassVar = {"image": "image-1", "labels": ["day", "night"]}


class Upsample(Suite):
    kind, parts = UpsamplePrompt, ("models",)
    example: ClassVar = {"prompt": "two red kites", "seed": 2}


class Recreate(Suite):
    kind, parts = RecreateImage, ("models", "access", "output")
    settings: ClassVar = {"num_inference_steps": 2}
    example: ClassVar = {"image": "image-1", "file_name": "again.png"}


class TestDescribeUnit(Describe, ToolsUnitTests): ...


class TestDescribe(Describe, ToolsIntegrationTests): ...


class TestAskUnit(Ask, ToolsUnitTests): ...


class TestAsk(Ask, ToolsIntegrationTests): ...


class TestClassifyUnit(Classify, ToolsUnitTests): ...


class TestClassify(Classify, ToolsIntegrationTests): ...


class TestUpsampleUnit(Upsample, ToolsUnitTests): ...


class TestUpsample(Upsample, ToolsIntegrationTests): ...


class TestRecreateUnit(Recreate, ToolsUnitTests): ...


class TestRecreate(Recreate, ToolsIntegrationTests): ...
