"""open_clip's text tower as transformers' `CLIPTextModel`, the text encoder of every Stable Diffusion pipeline.

The two are the same network under other names: each weight is carried over by name, so the hidden states are equal
wherever the ids are.
"""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from open_clip.transformer import TextTransformer as TextTower
from torch import Tensor, nn

from ...encoders.clip.clip import Clip
from ...errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.GELU: "gelu", QuickGELU: "quick_gelu"}
# open_clip's module in a block -> transformers'
_BLOCK_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
# Beyond the hidden states, and so without a place in `CLIPTextModel`.
_LEFT_OUT = ("text_projection", "text_projection.weight", "text_projection.bias")


def export_text_encoder(clip: Clip) -> tuple[CLIPTextModel, CLIPTokenizer]:
    """The text tower with copies of its weights, in eval mode, on its device and in its dtype; and its tokenizer, which
    pads as `clip.tokenize` does under `padding="max_length"`.

    `last_hidden_state` is the tower's after its final layer norm; `pooler_output` that of the end token, not projected.
    Raises `InputError` for a tower that `CLIPTextModel` cannot be: a transformers one, one with a class token, without
    a causal mask, of custom blocks or another activation, or with a tokenizer that is no `CLIPTokenizer`.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    tower, tokenizer = _checked_tower(clip), _checked_tokenizer(clip)
    block = tower.transformer.resblocks[0]
    config = CLIPTextConfig(
        vocab_size=tower.vocab_size,
        hidden_size=tower.width,
        intermediate_size=block.mlp.c_fc.out_features,
        projection_dim=clip.embed_dim,
        num_hidden_layers=len(tower.transformer.resblocks),
        num_attention_heads=tower.heads,
        max_position_embeddings=tower.context_length,
        hidden_act=_ACTIVATIONS[type(block.mlp.gelu)],
        layer_norm_eps=tower.ln_final.eps,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: Any = CLIPTextModel(config)
    model.load_state_dict(renamed_weights(tower.state_dict()), strict=True)
    return model.to(clip.device, clip.dtype).eval(), tokenizer


def renamed_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of open_clip's text tower under `CLIPTextModel`'s names. Raises `InputError` for names without one."""
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name not in _LEFT_OUT:
            renamed.update(_renamed(name, weight))
    return renamed


def _renamed(name: str, weight: Tensor) -> dict[str, Tensor]:
    top = {
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_final.weight": "final_layer_norm.weight",
        "ln_final.bias": "final_layer_norm.bias",
    }
    if name in top:
        return {top[name]: weight}
    if name.startswith("transformer.resblocks."):
        number, _, inside = name.removeprefix("transformer.resblocks.").partition(".")
        layer = f"encoder.layers.{number}"
        if inside in ("attn.in_proj_weight", "attn.in_proj_bias"):  # query, key and value in one
            kind = inside.rpartition("_")[2]
            parts = zip("qkv", weight.chunk(3), strict=True)
            return {f"{layer}.self_attn.{letter}_proj.{kind}": part for letter, part in parts}
        part, _, kind = inside.rpartition(".")
        if part in _BLOCK_PARTS:
            return {f"{layer}.{_BLOCK_PARTS[part]}.{kind}": weight}
    raise InputError(f"the text tower has a weight {name!r}, for which CLIPTextModel has no place; take a plain tower")


def _checked_tower(clip: Clip) -> Any:
    """The text tower, once it is clear that `CLIPTextModel` computes the same."""
    tower: Any = getattr(clip.model, "text", None)
    if not isinstance(tower, TextTower):
        found = type(clip.model if tower is None else tower).__name__
        raise InputError(
            f"{clip.name} has a text tower of {found}; expected open_clip's own TextTransformer, of a CoCa"
        )
    if tower.cls_emb is not None:
        raise InputError(f"{clip.name} appends a class token to its texts (embed_cls); CLIPTextModel has none")
    if tower.attn_mask is None:
        raise InputError(f"{clip.name} reads its texts both ways (no_causal_mask); CLIPTextModel is causal")
    for block in tower.transformer.resblocks:
        if type(block) is not ResidualAttentionBlock or not isinstance(block.ls_1, nn.Identity):
            raise InputError(f"{clip.name} has text blocks with scales of their own; expected open_clip's plain blocks")
        activation = block.mlp.gelu
        if type(activation) not in _ACTIVATIONS or getattr(activation, "approximate", "none") != "none":
            raise InputError(f"{clip.name} has the activation {activation}; expected GELU or QuickGELU")
    return tower


def _checked_tokenizer(clip: Clip) -> CLIPTokenizer:
    """A copy of the tokenizer that says itself how long a text may be, since the pipeline asks it."""
    from transformers import CLIPTokenizer

    tokenizer = getattr(clip.tokenizer, "tokenizer", clip.tokenizer)
    if not isinstance(tokenizer, CLIPTokenizer):
        raise InputError(
            f"{clip.name} has a {type(tokenizer).__name__}; expected transformers' CLIPTokenizer, beside the weights "
            "and named in text_cfg.hf_tokenizer_name"
        )
    with TemporaryDirectory() as folder:  # `deepcopy` yields one that no longer decodes
        tokenizer.save_pretrained(folder)
        return CLIPTokenizer.from_pretrained(folder, model_max_length=clip.context_length, padding_side="right")
