"""Settings of De-Diffusion's training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ...encoders.dediffusion.dediffusion_model import DediffusionConfig
from ...errors import InputError
from ...input_files import read_text
from ..data.base import Data
from ..engine.recipe import Count, LoopConfig, NonNegative, Positive, Share
from ..engine.settings import settings

_OF_WORDS = ("entropy_weight", "information_weight", "repeat_weight", "clip_weight", "caption_weight")


@settings
class DediffusionTraining:
    """Settings of the recipe: a new encoder, or a trained one to `start` from."""

    # the frozen text-to-image model: folder or hub id of a diffusers `StableDiffusionPipeline`; or the folder of a
    # `FeatureDecoder`
    decoder: str
    clip: str  # the image backbone: folder, or open_clip's "model/tag"
    data: Data  # images; captions are not trained on
    loop: LoopConfig
    captions: bool = False  # the data has captions: report their loss on held-out images, beside that of the words
    encoder: DediffusionConfig = DediffusionConfig()  # sizes of a new encoder
    start: str | None = None  # folder of a trained encoder to go on from, in place of `encoder`
    min_probability: Share | None = None  # in place of the encoder's own; training uses all words
    distinct: bool | None = None  # in place of the encoder's own
    words: str | tuple[str, ...] | None = None  # that may be written: a list, or the path of a text file; None: all
    cache_latents: bool = True  # of finite data: encode every image once, on disk; else in each step, randomly cropped
    cache_patches: bool = False  # keep what a frozen image tower makes of finite data on disk too: then no random crops
    estimator: Literal["gumbel", "policy"] = "gumbel"  # soft words; or drawn texts, each scored exactly (REINFORCE)
    tau_start: Positive = 2.0  # temperature of the Gumbel-softmax, annealed exponentially
    tau_end: Positive = 0.3
    hard: bool = False  # straight-through Gumbel-softmax
    samples_per_image: Count = 1  # texts of one image, at the same noise and timestep; policy: at least 2
    timestep_range: tuple[int, int] | None = None  # the first timestep to train and the one past the last; None: all
    shared_noise: bool = False  # one noise for the whole batch
    min_snr: Positive | None = None  # clamp of min-SNR weights; None: unweighted
    entropy_weight: NonNegative = 0.0  # reward: words that differ between images (`usage_entropy`)
    information_weight: NonNegative = 0.0  # reward: words that tell which image it is (`mutual_information`)
    repeat_weight: NonNegative = 0.0  # cost: words said twice (`expected_repeats`)
    clip_weight: NonNegative = 0.0  # cost: 1 - cosine of image and soft text in the CLIP
    caption_weight: NonNegative = 0.0  # cost: cross-entropy with the words of captions that the CLIP (a CoCa) writes
    continuous: bool = False  # embeddings in place of words: the upper bound of what text can do; leaves no encoder
    random_backbone: bool = False  # train the image tower from random weights; with `encoder.train_backbone`
    frozen_weights: Literal["fp32", "bf16"] = "fp32"  # of a Stable Diffusion decoder, and of a frozen CLIP
    gradient_checkpointing: bool = False  # in decoder and image tower
    validation_images: Count = 256

    def __post_init__(self) -> None:
        if self.estimator == "policy" and self.samples_per_image < 2:
            raise InputError("samples_per_image is 1; expected at least 2 with the estimator policy")
        if self.estimator == "policy" and (self.clip_weight or self.continuous):
            raise InputError("clip_weight and continuous need soft words; expected estimator gumbel with them")
        if self.continuous and (self.start or any(getattr(self, name) for name in _OF_WORDS)):
            raise InputError(
                "continuous embeddings have no words to weigh and no encoder to start from; set "
                f"{', '.join(_OF_WORDS)} to 0, and leave start out"
            )
        if self.cache_patches and not self.cache_latents:
            raise InputError("cache_patches goes with cache_latents: image and latents are of one crop")
        if self.cache_patches and (self.clip_weight or self.caption_weight or self.encoder.train_backbone):
            raise InputError(
                "cache_patches keeps no pixels for clip_weight, caption_weight and encoder.train_backbone; set it to "
                "false, or leave them out"
            )
        if self.random_backbone and (self.start or not self.encoder.train_backbone):
            raise InputError("random_backbone needs encoder.train_backbone, and goes with no start")
        self.allowed_words()  # a missing file is an error before any training

    def allowed_words(self) -> list[str] | None:
        """The words that may be written; None for all. Raises `InputError` for a file that cannot be read."""
        if not isinstance(self.words, str):
            return None if self.words is None else list(self.words)
        try:
            return read_text(Path(self.words)).split()
        except InputError as error:
            raise InputError(f"words is {self.words!r}: {error}") from error
