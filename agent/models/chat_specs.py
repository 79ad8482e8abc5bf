"""What stands before a spec to say how a model is asked: "chat+" as a chat, "text+" as text to write on."""

from __future__ import annotations

CHAT, TEXT = "chat+", "text+"


def asked_chat(spec: str) -> bool | None:
    """Whether the spec asks for a chat; None where it leaves that to the model."""
    return True if spec.startswith(CHAT) else False if spec.startswith(TEXT) else None
