"""Training data: numbered samples of any source, held-out samples, and evaluators of what models write about them.

A source answers for sample numbers, not for batches, so that what a sample is does not depend on how a run is split
over workers and processes, or where it was resumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import PlainValidator

from ...errors import InputError
from ...plugins import load, registered
from ..engine.randomness import sample_seed
from ..engine.settings import parse

if TYPE_CHECKING:
    from PIL.Image import Image

_REPLACEMENT = 101  # stream of random numbers
_ATTEMPTS = 100  # unreadable items in a row before it is an error


@dataclass(frozen=True)
class Sample:
    """One item of a source as one sample shows it."""

    key: str  # names the item: "shards/00012.tar: 000123", "photos/005.png", "row 17"
    row: int  # number of the item in its source
    image: Image | None  # 8-bit RGB of any size; None where it was not asked for, or the source has none
    text: str = ""  # the caption drawn for this sample; "" of a source of images alone
    texts: tuple[str, ...] = ()  # all captions of the item
    style: str = ""  # kind of the text ("descriptive", ...); "" where a source has no styles


class UnreadableItemError(Exception):
    """An item cannot be read: its key and the reason."""


class Evaluator(Protocol):
    """Scores what a model wrote about held-out samples; a source may bring evaluators that know more about its data."""

    def score_texts(self, texts: Sequence[str], samples: Sequence[Sample]) -> dict[str, float]:
        """Figures of one text for each sample, by name."""
        ...


class DataSource(ABC):
    """Numbered samples without end.

    An unreadable item is left out, another takes its place, and its name is kept for the loop to count.
    """

    size: int | None = None  # training items; None for no end
    identity: str = ""  # says which items these are, for caches of what is computed from them
    image_size: int = 0  # side in pixels that images will have, set once a recipe knows it; 0: not known
    max_bad: float = 0.01  # share of the items that may be unreadable
    crop_scale: tuple[float, float] | None = None  # area of the random crops that training should see; None for none
    evaluators: Sequence[Evaluator] = ()
    notes: Sequence[str] = ()  # about the data, for the user to read before training

    def __init__(self) -> None:
        self._skipped: list[str] = []  # "key: reason", since `take_skipped`
        self.unreadable: dict[int, str] = {}  # row -> "key: reason" of items that a cache found unreadable

    @abstractmethod
    def row(self, index: int, seed: int) -> int:
        """The item that sample number `index` of the run with this seed shows: each once in an epoch."""

    @abstractmethod
    def read(self, row: int, index: int, seed: int, *, image: bool = True) -> Sample:
        """Item number `row`, with the text drawn for sample `index`. Raises `UnreadableItemError`."""

    @abstractmethod
    def held_out(self, number: int) -> list[Sample]:
        """The first `number` samples that training never sees, always the same; fewer where there are fewer."""

    def captions(self) -> Iterator[str]:
        """Every caption of every training item, in order; images are not read."""
        raise InputError(f"{type(self).__name__} has no list of captions; expected a source of texts")

    def sample(self, index: int, seed: int, *, image: bool = True) -> Sample:
        """Sample number `index`, which may exceed the size of the data, of the run with this seed: always the same."""
        for attempt in range(_ATTEMPTS):
            other = sample_seed(seed, index, _REPLACEMENT + attempt) % (self.size or 2**40) if attempt else index
            row = self.row(other, seed)
            try:
                if row in self.unreadable:
                    raise UnreadableItemError(self.unreadable[row])
                return self.read(row, index, seed, image=image)
            except UnreadableItemError as error:
                self._skipped.append(str(error))
        raise InputError(f"{_ATTEMPTS} items in a row cannot be read; the last: {self._skipped[-1]}")

    def samples(self, indices: Sequence[int], seed: int, *, image: bool = True) -> list[Sample]:
        """`sample` of each index."""
        return [self.sample(index, seed, image=image) for index in indices]

    def check_unreadable(self, number: int, reasons: Sequence[str]) -> None:
        """Raises `InputError` if `number` items are more than `max_bad` allows; it names the first `reasons`."""
        if self.size is not None and number > self.max_bad * self.size:
            shown = "; ".join(reasons[:5]) or "see other processes"
            raise InputError(
                f"{number} of {self.size} items cannot be read, more than max_bad={self.max_bad:g} of them: {shown}. "
                "Mend or remove them, or raise data.max_bad."
            )

    def take_skipped(self) -> list[str]:
        """The unreadable items met since the last call, "key: reason" each."""
        skipped, self._skipped = self._skipped, []
        return skipped


class DataSettings(Protocol):
    """The `data:` of a settings file: `source` and what that source takes."""

    source: str

    def open(self, *, image_size: int = 0, texts: bool = True) -> DataSource:
        """The source, checked: a file that is missing or a column that is not there is an `InputError`.

        image_size: as `DataSource.image_size`; sources that draw or decode may use it, photographs stay larger.
        texts: False for recipes of images alone, which need no text column.
        """
        ...


def data_settings(values: Any) -> Any:
    """The settings of the source that `values` names: a plug-in's, or those of files and data sets."""
    if not isinstance(values, dict):
        if hasattr(values, "open"):
            return values
        raise InputError(
            f"data is {values!r}; expected a mapping with a source, such as {{source: imagefolder:photos}}"
        )
    own = registered("SOURCES")
    target = own.get(str(values.get("source")), "textlens.train.data.files:FileData")
    return parse(load(target), values)


Data = Annotated[DataSettings, PlainValidator(data_settings)]
