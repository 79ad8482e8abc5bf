"""All textlens tools for a LangChain agent, with shared images, models and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, SkipValidation

from ...encoders.base import Encoder
from ...encoders.image_sources import DEFAULT_LIMITS, ImageLimits, ImageSource, Network
from ...encoders.registry import check_encoder
from ..models.base import LanguageModel
from ..models.registry import check_language_model
from .image_access import ImageAccess
from .image_store import ImageStore
from .message_images import MessageImages, image_middleware
from .output_folder import OutputFolder
from .tool_models import ToolModels
from .toolkit_settings import ToolkitSettings
from .tools import AskImage, ClassifyImage, DescribeImage, RecreateImage, UpsamplePrompt

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware


class TextlensToolkit(BaseToolkit):
    """The tools' images, models and output folder.

    toolkit = TextlensToolkit.from_specs(roots=["photos"], encoders=["coca"])
    agent = create_agent(model, toolkit.get_tools(), middleware=[toolkit.image_middleware()])
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
        language_model: str | LanguageModel | None = None,
        decoder: str | None = None,
        data_urls: bool = True,
        limits: ImageLimits = DEFAULT_LIMITS,
    ) -> TextlensToolkit:
        """By the specs of the command line.

        roots: folders whose images may be opened. images: id -> image, kept in memory.
        output_folder: where `recreate_image` may save PNG files; None for nowhere. decoder: draws them.
        Raises `InputError` for a missing folder and an unreadable image; for a wrong spec at first use.
        """
        store = ImageStore(limits=limits)
        for id, image in (images or {}).items():
            store.add(image, id)
        access = ImageAccess(roots, store, data_urls=data_urls, limits=limits)
        models = ToolModels(encoders, language_model, decoder, limits=limits)
        return cls(access=access, models=models, output=OutputFolder(output_folder) if output_folder else None)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any] | str | Path) -> TextlensToolkit:
        """By a mapping or a YAML file with the keys of `ToolkitSettings`.

        Raises `InputError` for unknown keys, wrong values, unknown encoders and language models, and as `from_specs`.
        """
        read = ToolkitSettings.read(settings)
        for spec in read.encoders or ():
            check_encoder(spec)
        if read.language_model is not None:
            check_language_model(read.language_model)
        limits = ImageLimits(max_pixels=read.max_pixels)
        toolkit = cls.from_specs(
            read.roots,
            output_folder=read.output_folder,
            encoders=read.encoders,
            language_model=read.language_model,
            decoder=read.decoder,
            data_urls=read.data_urls,
            limits=limits,
        )
        for id, image in read.images.items():
            toolkit.access.store.add(image, id, allow_network=read.allow_network)
        return toolkit

    def image_middleware(self, *, allow_network: Network = False) -> AgentMiddleware[Any, Any]:
        """Middleware for `create_agent`, for images in messages: the chat model sees their ids, which the tools open.

        allow_network: fetch those at http(s) addresses of public hosts; "private": of private networks too.
        """
        return image_middleware(MessageImages(self.access, allow_network=allow_network))

    def get_tools(self) -> list[BaseTool]:
        """describe_image, ask_image, classify_image, upsample_prompt and recreate_image."""
        return [
            DescribeImage(models=self.models, access=self.access),
            AskImage(models=self.models, access=self.access),
            ClassifyImage(models=self.models, access=self.access),
            UpsamplePrompt(models=self.models),
            RecreateImage(models=self.models, access=self.access, output=self.output),
        ]
