"""How many tokens a prompt takes in the tokenizer of the image generator that will read it."""

from __future__ import annotations

from ...errors import InputError
from ...prompting.rewrites import TokenCounter

CLIP = "clip"


def token_counter(tokenizer: str = CLIP) -> TokenCounter:
    """Counts tokens with the begin and end token, so that 77 is the whole of a CLIP text encoder's context.

    tokenizer: "clip" (the vocabulary of OpenAI's CLIP, which Stable Diffusion reads by; needs no network), or the hub
    id or folder of a transformers tokenizer. Raises `InputError` where that does not load.
    """
    if tokenizer == CLIP:
        from open_clip.tokenizer import SimpleTokenizer

        clip = SimpleTokenizer()
        return lambda text: len(clip.encode(text)) + 2
    from transformers import AutoTokenizer

    try:
        own = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        message = " ".join(str(error).split())[:400]
        raise InputError(
            f"{tokenizer!r} does not load as a tokenizer: {message}; expected clip, or a folder"
        ) from error
    return lambda text: len(own(text, truncation=False, verbose=False)["input_ids"])
