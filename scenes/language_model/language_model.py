"""Training of the small language model: a Llama that reads few-shot prompts of the made world and writes the answers.

The loss counts answers and their stop marks, and as much of the rest of the prompt as wanted, which teaches the model
to look words up in what came before. A batch is sorted by length and split into parts of nearly equal lengths, padded
on the right: attention is then plainly causal, needs no mask, and little time goes to padding. All else in the model
runs over the tokens of all parts at once.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...train.engine.attention import Parts, causal_attention_in_parts
from ...train.engine.loop import LoopConfig, TrainResult, train
from ...train.engine.settings import current_commit, write_training_record
from .conventions import FAMILIES
from .encoder_texts import read_encoder_texts
from .lookup_layers import add_lookup_layers
from .pieces import BOS_ID, EOS_ID, load_sentencepiece, save_tokenizer, train_sentencepiece
from .prompts import BLANK, Example, LanguagePrompts, PromptSettings

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaForCausalLM

IGNORED = -100
_ATTENTION = "textlens_parts"
_PROMPT_STRIDE = 4  # the logits of every token of a prompt would take a third of a step
_FILLED = 0.75  # how short a prompt may be beside the longest of its part
_EMBEDDING = 0.5  # standard deviation of new ones
_TOKENIZER_SEED = 1_000_003  # the prompts that the tokenizer learns from are not those of the run's seed
_COUNTED_PROMPTS = 2000  # whose tokens are counted
_PART_TOKENS = 16_384  # of a part in evaluation

Part = dict[str, Tensor]
"""ids, labels, weights, answers: (B, T). labels hold the next id where it is counted, else `IGNORED`; answers: whether
it is one of an answer that is counted."""


@dataclass(frozen=True)
class LanguageModelConfig:
    """Settings of the recipe.

    loop: of `LoopConfig`. prompts: of `PromptSettings`. llama: of `LlamaConfig`, sizes of the model.
    start: folder of a trained model to go on from, for a second stage; sizes and tokenizer are then that one's.
    lookup_layers: put two layers before the model's own that look tokens up (`add_lookup_layers`).
    frozen_layers: how many of the first layers stay as they are, and with them the embeddings; 0 for none of either.
    encoder_texts: file of `encoder_texts`, for contexts that encoders wrote; None for captions alone.
    vocab_size, tokenizer_prompts: of the tokenizer, and how many prompts it learns from.
    first_prompts, first: settings in which the first so many prompts of the run differ from `prompts`: easier ones.
    max_tokens: of a prompt with its answer; shots that do not fit are left out. shot_answers: count them in the loss.
    prompt_weight: of tokens that are part of no answer, one in `_PROMPT_STRIDE`; an answer of one token counts 1.
    validation: prompts of each kind of evaluation.
    compile_layers: by torch.compile, which on a CPU needs a C++ compiler; it makes a step half as fast again.
    """

    loop: Mapping[str, Any]
    prompts: Mapping[str, Any] = field(default_factory=dict)
    llama: Mapping[str, Any] = field(
        default_factory=lambda: {
            **{"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 6},
            **{"num_attention_heads": 8, "num_key_value_heads": 8},
        }
    )
    start: str | None = None
    lookup_layers: bool = False
    frozen_layers: int = 0
    encoder_texts: str | None = None
    vocab_size: int = 2048
    tokenizer_prompts: int = 4000
    first_prompts: int = 0
    first: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 1024
    shot_answers: bool = True
    prompt_weight: float = 0.0
    validation: int = 200
    compile_layers: bool = False

    def __post_init__(self) -> None:
        for name in ("tokenizer_prompts", "max_tokens", "validation"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("first_prompts", "prompt_weight", "frozen_layers"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 0")
        width, heads = self.llama.get("hidden_size", 0), self.llama.get("num_attention_heads", 1)
        if self.llama.get("head_dim", width / heads) not in (32, 64):
            raise InputError(
                f"{heads} heads over a width of {width}: vLLM serves heads of 32 or 64 on a CPU; change hidden_size or "
                "num_attention_heads"
            )


class AnswerModel(nn.Module):
    """The Llama, asked for nothing but the logits of counted positions."""

    def __init__(self, llama: LlamaForCausalLM, *, compile_layers: bool = False) -> None:
        from transformers import AttentionInterface

        super().__init__()
        self.llama = llama
        AttentionInterface.register(_ATTENTION, causal_attention_in_parts)
        llama.set_attn_implementation(_ATTENTION)
        if compile_layers:
            for layer in llama.model.layers:
                layer.compile(dynamic=True)

    def forward(self, parts: Sequence[Part]) -> Tensor:
        """(K, V), K the counted positions of all parts in order. One call for the whole batch, as DDP wants it."""
        ids, labels = (torch.cat([part[name].flatten() for part in parts]) for name in ("ids", "labels"))
        shapes = [(rows, tokens) for rows, tokens in (part["ids"].shape for part in parts)]
        places = [torch.arange(tokens, device=ids.device).repeat(rows) for rows, tokens in shapes]
        embedded = self.llama.model.embed_tokens(ids)
        if torch.is_autocast_enabled(ids.device.type):  # or all that is added to it stays in float32
            embedded = embedded.to(torch.get_autocast_dtype(ids.device.type))
        found = self.llama.model(
            inputs_embeds=embedded[None], position_ids=torch.cat(places)[None], use_cache=False, parts=Parts(shapes)
        )
        return self.llama.lm_head(found.last_hidden_state[0, labels != IGNORED])


class LanguageModelRecipe:
    """The recipe for `loop.train`: rendered prompts, a tokenizer learnt from them, and the model."""

    def __init__(self, config: LanguageModelConfig, prompts: LanguagePrompts, pieces: SentencePieceProcessor) -> None:
        self.config = config
        self.prompts, self.pieces = prompts, pieces
        self.first_prompts = replace(prompts, settings=replace(prompts.settings, **config.first))
        self.llama = load_start(config.start) if config.start else new_llama(config)
        if config.lookup_layers:
            self.llama = add_lookup_layers(self.llama, self._token_counts(), config.loop.get("seed", 0))
        if config.frozen_layers:
            self.llama.model.embed_tokens.requires_grad_(False)
            self.llama.model.layers[: config.frozen_layers].requires_grad_(False)
        self.model: nn.Module = AnswerModel(self.llama, compile_layers=config.compile_layers)
        self.validation = validation_examples(config, prompts.settings, self.count)

    def batch(self, indices: Sequence[int], seed: int) -> list[Part]:
        """The prompts in parts, the longest first."""
        limit = self.config.max_tokens - 2  # <s> and </s>
        examples = []
        for i in indices:
            prompts = self.first_prompts if i < self.config.first_prompts else self.prompts
            examples.append(prompts.example(i, seed, length=self.count, max_length=limit))
        shots, weight = self.config.shot_answers, self.config.prompt_weight
        return split_by_length([self.encode(example, shots=shots, prompt_weight=weight) for example in examples])

    def loss(self, model: nn.Module, batch: list[Part], *, step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        """Cross-entropy, each token weighted by one over the square root of its answer's length, so that captions do
        not drown short answers; that of the answers alone, and the share of their tokens that are predicted right."""
        logits = model(batch).float()
        labels, weights = _counted(batch, "labels"), _counted(batch, "weights")
        each, answers = F.cross_entropy(logits, labels, reduction="none"), _counted(batch, "answers")
        right = (logits.argmax(-1) == labels)[answers].float().mean()
        own = weights * answers
        return {
            "loss": (each * weights).sum() / weights.sum(),
            "answer_loss": (each * own).sum() / own.sum(),
            "token_accuracy": right,
        }

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Share of answers written word for word, by kind of prompt; the queries of one kind are the same each time.

        Greedy writing yields the true answer exactly where, after the prompt and each beginning of that answer, the
        next true token is the likeliest: one pass over prompt and answer tells.
        """
        figures = {}
        for name, examples in self.validation.items():
            right = self._written_right(model, examples)
            figures[f"exact_match_{name}"] = sum(right) / len(right)
            if name == "mixed":
                by_task: dict[str, list[bool]] = defaultdict(list)
                for example, one in zip(examples, right, strict=True):
                    by_task[example.kind.partition("/")[0]].append(one)
                figures |= {f"exact_match_{task}": sum(ones) / len(ones) for task, ones in sorted(by_task.items())}
        return figures

    def _written_right(self, model: nn.Module, examples: Sequence[Example]) -> list[bool]:
        device = next(model.parameters()).device
        rows = [self.encode(example, shots=False) for example in examples]
        right = [False] * len(rows)
        for numbers in _by_length(rows, max_tokens=_PART_TOKENS):
            part = {name: tensor.to(device) for name, tensor in _padded([rows[i] for i in numbers]).items()}
            counted = part["labels"] != IGNORED
            wrong = torch.zeros_like(counted)
            wrong[counted] = model([part]).argmax(-1) != part["labels"][counted]
            for i, one in zip(numbers, (~wrong.any(1)).tolist(), strict=True):
                right[i] = one
        return right

    def count(self, text: str) -> int:
        return len(self.pieces.encode(text))

    def _token_counts(self) -> Tensor:
        """(V,) how often each token occurs in some prompts."""
        examples = (self.prompts.example(i, _TOKENIZER_SEED) for i in range(_COUNTED_PROMPTS))
        ids = [id_ for example in examples for id_ in self.pieces.encode(example.prompt + example.target)]
        return torch.bincount(torch.tensor(ids), minlength=self.pieces.get_piece_size()).float()

    def encode(self, example: Example, *, shots: bool, prompt_weight: float = 0.0) -> Part:
        """One prompt with its answer and </s>: ids, labels, weights, answers, all (T,). The pieces of the prompt are
        encoded one by one, which gives the ids of the whole text: each ends where a token does."""
        ids, weights, answers = [BOS_ID], [0.0], [False]
        first = len(example.query) % _PROMPT_STRIDE  # not the same places in all prompts
        for text, counted in example.segments(shots=shots):
            found = self.pieces.encode(text)
            ids += found
            answers += [counted] * len(found)
            for place in range(len(weights), len(ids)):
                rest = prompt_weight if place % _PROMPT_STRIDE == first else 0.0
                weights.append(len(found) ** -0.5 if counted else rest)
        ids, weights, answers = [*ids, EOS_ID], [*weights, weights[-1]], [*answers, True]
        each = torch.tensor(weights[1:])
        labels = torch.tensor(ids[1:]).masked_fill(each == 0, IGNORED)
        return {"ids": torch.tensor(ids[:-1]), "labels": labels, "weights": each, "answers": torch.tensor(answers[1:])}

    def save(self, folder: Path) -> None:
        """Write the model (bf16) and its tokenizer: a folder for transformers and vLLM alike."""
        llama = copy.deepcopy(self.llama).bfloat16().cpu()
        llama.save_pretrained(folder)
        save_tokenizer(self.pieces, folder, self.config.max_tokens)


def new_llama(config: LanguageModelConfig) -> LlamaForCausalLM:
    """A model of random weights, the same for the same settings; it writes greedily unless told otherwise.

    What layers add is small beside the embeddings at first, so that tokens stay themselves all the way up and copying
    them is soon found. The last norm makes up for the large embeddings, which are the head as well.
    """
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    ids = {"bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID}
    sizes = {"vocab_size": config.vocab_size, "max_position_embeddings": config.max_tokens, "tie_word_embeddings": True}
    with torch.random.fork_rng():
        torch.manual_seed(config.loop.get("seed", 0))
        llama = LlamaForCausalLM(LlamaConfig(**{**sizes, **ids, **config.llama}))
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


def validation_examples(
    config: LanguageModelConfig, settings: PromptSettings, count: Callable[[str], int]
) -> dict[str, list[Example]]:
    """mixed: as in training, on validation scenes. true_context: questions with a descriptive caption. blank_context:
    without any. mapped_4_shots, mapped_0_shots: conventions that training never shows."""
    plain = replace(settings, tasks={"vqa": 1}, conventions={"plain": 1}, several=0.0, pseudo=0.0, max_shots=4)
    true, blank = replace(plain, contexts={"descriptive": 1}), replace(plain, contexts={BLANK: 1})
    seed, numbers, limit = config.loop.get("seed", 0), range(config.validation), config.max_tokens - 2

    def drawn(chosen: PromptSettings) -> list[Example]:
        prompts = LanguagePrompts(chosen, split="val")
        return [prompts.example(i, seed, length=count, max_length=limit) for i in numbers]

    mapping = LanguagePrompts(true, split="val")
    mapped = [mapping.mapped(i, seed, FAMILIES[i % len(FAMILIES)]) for i in numbers]
    return {
        "mixed": drawn(settings),
        "true_context": drawn(true),
        "blank_context": drawn(blank),
        "mapped_4_shots": [with_shots for with_shots, _ in mapped],
        "mapped_0_shots": [without for _, without in mapped],
    }


def train_language_model(
    config: LanguageModelConfig, out: Path, *, resume: bool = False, max_minutes: float | None = None
) -> TrainResult:
    """Run the recipe in `out`; once all steps are done, write model and tokenizer to `out/model` with training.json."""
    commit = current_commit()  # of the code that trains, not of what is there hours later
    recipe = prepare_recipe(config)
    result = train(recipe, LoopConfig(**config.loop), out, resume=resume, max_minutes=max_minutes)
    if result.finished:
        recipe.save(out / "model")
        facts = {"parameters": sum(parameter.numel() for parameter in recipe.llama.parameters())}
        write_training_record(out / "model", "language-model", {**asdict(config), **facts}, commit, result)
    return result


def prepare_recipe(config: LanguageModelConfig) -> LanguageModelRecipe:
    """Read the encoder texts and learn the tokenizer, the same each time; with `start`, take its tokenizer."""
    texts = read_encoder_texts(Path(config.encoder_texts)) if config.encoder_texts else {}
    prompts = LanguagePrompts(PromptSettings(**config.prompts), texts)
    if config.start:
        return LanguageModelRecipe(config, prompts, load_sentencepiece(Path(config.start)))
    examples = (prompts.example(i, _TOKENIZER_SEED) for i in range(config.tokenizer_prompts))
    pieces = train_sentencepiece((example.prompt + example.target for example in examples), config.vocab_size)
    return LanguageModelRecipe(config, prompts, pieces)


def split_by_length(rows: Sequence[Part]) -> list[Part]:
    """Rows (T,) of a batch, padded into parts (B, T); within a part none is much shorter than the longest."""
    return [_padded([rows[i] for i in numbers]) for numbers in _by_length(rows)]


def _by_length(rows: Sequence[Part], max_tokens: int | None = None) -> Iterable[list[int]]:
    """The numbers of the rows, sorted into parts, the longest first. max_tokens: of a part, padding included."""
    lengths = [len(row["ids"]) for row in rows]
    part: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: -lengths[i]):
        longest = lengths[part[0]] if part else 0
        if part and (lengths[i] < _FILLED * longest or (max_tokens and longest * (len(part) + 1) > max_tokens)):
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def _padded(rows: Sequence[Part]) -> Part:
    fill = {"ids": EOS_ID, "labels": IGNORED, "weights": 0, "answers": False}
    pad = nn.utils.rnn.pad_sequence
    return {name: pad([row[name] for row in rows], batch_first=True, padding_value=fill[name]) for name in fill}


def _counted(parts: Sequence[Part], name: str) -> Tensor:
    """(K,) in the order of `AnswerModel`."""
    return torch.cat([part[name][part["labels"] != IGNORED] for part in parts])
