"""Training of the small language model: a Llama that reads few-shot prompts of the made world and writes the answers.

The loss counts answers and their stop marks, and as much of the rest of the prompt as wanted, which teaches the model
to look words up in what came before.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...prompting.templates import PAPER_END
from ...train.engine.distributed import sum_over_processes
from ...train.engine.recipe import Count, LoopConfig, NonNegative, Positive, Recipe
from ...train.engine.settings import settings
from .answer_model import IGNORED, AnswerModel, Part, by_length, counted, encode, padded, split_by_length
from .conventions import FAMILIES
from .encoder_texts import read_encoder_texts
from .lookup_layers import add_lookup_layers
from .pieces import BOS_ID, EOS_ID, load_sentencepiece, save_tokenizer, train_sentencepiece
from .prompts import BLANK, Example, LanguagePrompts, PromptSettings

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaForCausalLM

_EMBEDDING = 0.5  # standard deviation of new ones
_TOKENIZER_SEED = 1_000_003  # the prompts that the tokenizer learns from are not those of the run's seed
_COUNTED_PROMPTS = 2000  # whose tokens are counted
_PART_TOKENS = 16_384  # of a part in evaluation


@settings
class LlamaSizes:
    """Of transformers' `LlamaConfig`."""

    hidden_size: Count = 256
    intermediate_size: Count = 640
    num_hidden_layers: Count = 6
    num_attention_heads: Count = 8
    num_key_value_heads: Count = 8
    initializer_range: Positive = 0.02

    def __post_init__(self) -> None:
        if self.hidden_size / self.num_attention_heads not in (32, 64):
            raise InputError(
                f"{self.num_attention_heads} heads over a width of {self.hidden_size}: vLLM serves heads of 32 or 64 "
                "on a CPU; change hidden_size or num_attention_heads"
            )


@settings
class LanguageModelConfig:
    """Settings of the recipe."""

    loop: LoopConfig
    prompts: PromptSettings = field(default_factory=PromptSettings)
    first: PromptSettings | None = None  # of the first prompts of the run: easier ones
    first_prompts: Annotated[int, Field(ge=0)] = 0  # how many
    encoder_texts: str | None = None  # file of `encoder_texts`, for contexts that encoders wrote
    start: str | None = None  # a trained model to go on from; its sizes and tokenizer stay
    llama: LlamaSizes = field(default_factory=LlamaSizes)
    lookup_layers: bool = False  # put two layers before the model's own that look tokens up
    frozen_layers: Annotated[int, Field(ge=0)] = 0  # of the first, and with them the embeddings; 0 for none of either
    vocab_size: Count = 2048
    tokenizer_prompts: Count = 4000  # that the tokenizer learns from
    max_tokens: Count = 1024  # of a prompt with its answer; shots that do not fit are left out
    shot_answers: bool = True  # count them in the loss
    prompt_weight: NonNegative = 0.0  # of other tokens, one in four; an answer of one token counts 1
    validation: Count = 200  # prompts of each kind of evaluation
    compile_layers: bool = False  # half as fast again; on a CPU torch.compile needs a C++ compiler

    def __post_init__(self) -> None:
        if bool(self.first_prompts) != (self.first is not None):
            raise InputError(f"first_prompts is {self.first_prompts}; expected a number above 0 where there is `first`")


class LanguageModelRecipe(Recipe):
    """Rendered prompts, a tokenizer learnt from them, and the model."""

    name = "language-model"
    config_class = LanguageModelConfig
    config: LanguageModelConfig

    def __init__(self, config: LanguageModelConfig, cache: Path | None = None) -> None:
        self.config = config
        texts = read_encoder_texts(Path(config.encoder_texts)) if config.encoder_texts else {}
        self.prompts = LanguagePrompts(config.prompts, texts)
        self.first_prompts = LanguagePrompts(config.first or config.prompts, texts)
        self.pieces = load_sentencepiece(Path(config.start)) if config.start else self._new_pieces()
        self.llama = load_start(config.start) if config.start else new_llama(config)
        if config.lookup_layers:
            self.llama = add_lookup_layers(self.llama, self._token_counts(), config.loop.seed)
        if config.frozen_layers:
            self.llama.model.embed_tokens.requires_grad_(False)
            self.llama.model.layers[: config.frozen_layers].requires_grad_(False)
        self.model: nn.Module = AnswerModel(self.llama, compile_layers=config.compile_layers)
        self.validation = self._validation()

    def _new_pieces(self) -> SentencePieceProcessor:
        """The same each time."""
        config = self.config
        examples = (self.prompts.example(i, _TOKENIZER_SEED) for i in range(config.tokenizer_prompts))
        return train_sentencepiece((example.prompt + example.target for example in examples), config.vocab_size)

    def _token_counts(self) -> Tensor:
        """(V,) how often each token occurs in some prompts."""
        examples = (self.prompts.example(i, _TOKENIZER_SEED) for i in range(_COUNTED_PROMPTS))
        ids = [id_ for example in examples for id_ in self.pieces.encode(example.prompt + example.target)]
        return torch.bincount(torch.tensor(ids), minlength=self.pieces.get_piece_size()).float()

    def _example(self, prompts: LanguagePrompts, index: int, seed: int) -> Example:
        """With as many shots as fit beside <s> and </s>."""
        limit = self.config.max_tokens - 2
        return prompts.example(index, seed, length=lambda text: len(self.pieces.encode(text)), max_length=limit)

    def _validation(self) -> dict[str, list[Example]]:
        """mixed: as in training, on validation scenes. true_context: questions with a descriptive caption.
        blank_context: without any. mapped_4_shots, mapped_0_shots: conventions that training never shows."""
        mixed, seed, numbers = self.config.prompts, self.config.loop.seed, range(self.config.validation)
        plain = replace(mixed, tasks={"vqa": 1}, conventions={"plain": 1}, several=0.0, pseudo=0.0, max_shots=4)
        true, blank = replace(plain, contexts={"descriptive": 1}), replace(plain, contexts={BLANK: 1})
        kinds = {"mixed": mixed, "true_context": true, "blank_context": blank}
        prompts = {name: LanguagePrompts(chosen, split="val") for name, chosen in kinds.items()}
        mapped = [prompts["true_context"].mapped(i, seed, FAMILIES[i % len(FAMILIES)]) for i in numbers]
        return {
            **{name: [self._example(chosen, i, seed) for i in numbers] for name, chosen in prompts.items()},
            "mapped_4_shots": [with_shots for with_shots, _ in mapped],
            "mapped_0_shots": [without for _, without in mapped],
        }

    def batch(self, indices: Sequence[int], seed: int) -> list[Part]:
        """The prompts in parts, the longest first."""
        config = self.config
        examples = [
            self._example(self.first_prompts if i < config.first_prompts else self.prompts, i, seed) for i in indices
        ]
        options: dict[str, Any] = {"shots": config.shot_answers, "prompt_weight": config.prompt_weight}
        return split_by_length([encode(self.pieces, example, **options) for example in examples])

    def share(self, model: nn.Module, parts: Sequence[list[Part]]) -> Sequence[dict[str, Any]]:
        """weight: `_weight` of the whole batch, on average over its parts; a token weighs the same however the batch is
        split."""
        weight = torch.stack([_weight(part) for part in parts]).mean(0)
        device = next(self.model.parameters()).device
        return [{"weight": sum_over_processes(weight.to(device), mean=True)}] * len(parts)

    def loss(
        self,
        model: nn.Module,
        batch: list[Part],
        *,
        step: int,
        indices: Sequence[int],
        weight: Tensor | None = None,
        **shared: Any,
    ) -> dict[str, Tensor]:
        """Cross-entropy, each token weighted by one over the square root of its answer's length, so that captions do
        not drown short answers; that of the answers alone, and the share of their tokens that are predicted right.
        weight: of `share`; by default that of this batch."""
        logits = model(batch).float()
        labels, weights, answers = (counted(batch, name) for name in ("labels", "weights", "answers"))
        each = F.cross_entropy(logits, labels, reduction="none")
        right = (logits.argmax(-1) == labels)[answers].sum()
        whole, of_answers, answer_tokens = _weight(batch) if weight is None else weight
        return {
            "loss": (each * weights).sum() / whole,
            "answer_loss": (each * weights * answers).sum() / of_answers,
            "token_accuracy": right / answer_tokens,
        }

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of answers written word for word, by kind of prompt; the queries of one kind are the same each time."""
        figures = {}
        for name, examples in self.validation.items():
            right = self.written_right(model, examples)
            figures[f"exact_match_{name}"] = sum(right) / len(right)
            if name == "mixed":
                by_task: dict[str, list[bool]] = defaultdict(list)
                for example, one in zip(examples, right, strict=True):
                    by_task[example.kind.partition("/")[0]].append(one)
                figures |= {f"exact_match_{task}": sum(ones) / len(ones) for task, ones in sorted(by_task.items())}
        return figures

    @torch.no_grad()
    def written_right(self, model: nn.Module, examples: Sequence[Example]) -> list[bool]:
        """Whether greedy writing yields the true answers: it does exactly where, after the prompt and each beginning of
        the answer, the next true token is the likeliest. One pass over prompt and answer tells."""
        device = next(model.parameters()).device
        rows = [encode(self.pieces, example, shots=False) for example in examples]
        right = [False] * len(rows)
        for numbers in by_length(rows, max_tokens=_PART_TOKENS):
            part = {name: tensor.to(device) for name, tensor in padded([rows[i] for i in numbers]).items()}
            asked = part["labels"] != IGNORED
            wrong = torch.zeros_like(asked)
            wrong[asked] = model([part]).argmax(-1) != part["labels"][asked]
            for i, one in zip(numbers, (~wrong.any(1)).tolist(), strict=True):
                right[i] = one
        return right

    def record(self) -> dict[str, Any]:
        """The number of parameters."""
        return {"parameters": sum(parameter.numel() for parameter in self.llama.parameters())}

    def save(self, folder: Path) -> None:
        """Write the model (bf16) and its tokenizer: a folder for transformers and vLLM alike.

        What stands behind the answers of its training prompts is an end token, so that it ends those of others.
        """
        llama = copy.deepcopy(self.llama).bfloat16().cpu()
        llama.generation_config.eos_token_id = [EOS_ID, self.pieces.piece_to_id(PAPER_END)]
        llama.save_pretrained(folder)
        save_tokenizer(self.pieces, folder, self.config.max_tokens)


def _weight(batch: Sequence[Part]) -> Tensor:
    """(3,): the weight of all tokens, the weight of those of answers, and the number of the latter."""
    weights, answers = (counted(batch, name) for name in ("weights", "answers"))
    return torch.stack([weights.sum(), (weights * answers).sum(), answers.sum()])


def new_llama(config: LanguageModelConfig) -> LlamaForCausalLM:
    """A model of random weights, the same for the same settings; it writes greedily unless told otherwise.

    What layers add is small beside the embeddings at first, so that tokens stay themselves all the way up and copying
    them is soon found. The last norm makes up for the large embeddings, which are the head as well.
    """
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    ids = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID}
    sizes = {"vocab_size": config.vocab_size, "max_position_embeddings": config.max_tokens, "tie_word_embeddings": True}
    with torch.random.fork_rng():
        torch.manual_seed(config.loop.seed)
        llama = LlamaForCausalLM(LlamaConfig(**{**sizes, **ids, **asdict(config.llama)}))
    with torch.no_grad():
        embeddings = llama.model.embed_tokens.weight
        embeddings.mul_(_EMBEDDING / embeddings.std())
        llama.model.norm.weight.fill_(1 / (_EMBEDDING * embeddings.shape[1] ** 0.5))  # logits of variance 1
        for layer in llama.model.layers:
            for added in (layer.self_attn.o_proj, layer.mlp.down_proj):
                added.weight.mul_((2 * len(llama.model.layers)) ** -0.5)
    llama.generation_config = GenerationConfig(do_sample=False, **ids)
    return llama


def load_start(folder: str) -> LlamaForCausalLM:
    """The model of a stage before, in float32."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
