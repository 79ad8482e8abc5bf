"""All textlens tools for a LangChain agent, with the same images, models and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, SkipValidation

from ...encoders.base import Encoder
from ...encoders.images import DEFAULT_LIMITS, ImageLimits, ImageSource
from ..models.base import DEFAULT_LANGUAGE_MODEL, LanguageModel
from .image_access import ImageAccess
from .image_store import ImageStore
from .output_folder import OutputFolder
from .tool_models import ToolModels
from .tools import AskImage, ClassifyImage, DescribeImage, RecreateImage, UpsamplePrompt


class TextlensToolkit(BaseToolkit):
    """access: which images may be opened. models: built at their first use. output: where pictures may be saved.

    toolkit = TextlensToolkit.from_specs(roots=["photos"], encoders=["coca"])
    agent = create_agent(model, toolkit.get_tools())
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    access: SkipValidation[ImageAccess]
    models: SkipValidation[ToolModels]
    output: SkipValidation[OutputFolder | None] = None

    @classmethod
    def from_specs(
        cls,
        roots: Sequence[str | Path] = (),
        *,
        images: Mapping[str, ImageSource] | None = None,
        output_folder: str | Path | None = None,
        encoders: Sequence[str] | Mapping[str, Encoder] | None = None,
        language_model: str | LanguageModel = DEFAULT_LANGUAGE_MODEL,
        decoder: str | None = None,
        data_urls: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> TextlensToolkit:
        """By the names that the command line takes.

        roots: folders whose images the language model may open. images: id -> image, kept in memory.
        output_folder: where `recreate_image` may save new PNG files; without it none are saved.
        encoders, language_model: that describe and answer. decoder: that draws. Raises `InputError` for a folder that
        is none and an image that cannot be read; a wrong spec shows at its first use.
        """
        store = ImageStore(limits=limits)
        for id, image in (images or {}).items():
            store.add(image, id)
        access = ImageAccess(roots, store, data_urls=data_urls, limits=limits)
        models = ToolModels(encoders, language_model, decoder, limits=limits)
        return cls(access=access, models=models, output=OutputFolder(output_folder) if output_folder else None)

    def get_tools(self) -> list[BaseTool]:
        """describe_image, ask_image, classify_image, upsample_prompt and recreate_image."""
        return [
            DescribeImage(models=self.models, access=self.access),
            AskImage(models=self.models, access=self.access),
            ClassifyImage(models=self.models, access=self.access),
            UpsamplePrompt(models=self.models),
            RecreateImage(models=self.models, access=self.access, output=self.output),
        ]
