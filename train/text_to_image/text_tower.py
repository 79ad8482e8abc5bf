"""open_clip's text tower as transformers' `CLIPTextModel`, the text encoder of every Stable Diffusion pipeline.

The two are the same network under other names, so the hidden states are equal wherever the ids are.
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
    model.load_state_dict(renamed_weights(model, tower.state_dict()), strict=True)
    return model.to(clip.device, clip.dtype).eval(), tokenizer


def renamed_weights(model: CLIPTextModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state of open_clip's text tower under `CLIPTextModel`'s names, as diffusers converts Stable Diffusion 2's."""
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    renamed = convert_open_clip_checkpoint(model, weights, prefix="")
    renamed.pop("text_projection.weight", None)  # beyond the hidden states
    return {name.removeprefix("text_model."): weight for name, weight in renamed.items()}


def _checked_tower(clip: Clip) -> Any:
    """The text tower, once it is clear that `CLIPTextModel` computes the same."""
    tower: Any = getattr(clip.model, "text", None)
    if not isinstance(tower, TextTower):
        found = type(clip.model if tower is None else tower).__name__
        raise InputError(
            f"{clip.name} has a text tower of {found}; expected open_clip's own TextTransformer, of a CoCa"
        )
    unlike = {
        "a class token (embed_cls)": tower.cls_emb is not None,
        "no causal mask (no_causal_mask)": tower.attn_mask is None,
        "blocks that are custom, scaled or of an activation other than (Quick)GELU": not all(
            map(_is_plain, tower.transformer.resblocks)
        ),
    }
    if any(unlike.values()):
        found = " and ".join(what for what, present in unlike.items() if present)
        raise InputError(f"{clip.name} has a text tower with {found}, which CLIPTextModel cannot be")
    return tower


def _is_plain(block: Any) -> bool:
    if type(block) is not ResidualAttentionBlock or not isinstance(block.ls_1, nn.Identity):
        return False
    return type(block.mlp.gelu) in _ACTIVATIONS and getattr(block.mlp.gelu, "approximate", "none") == "none"


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
