"""A LangChain agent with textlens tools, offline: `python examples/langchain_agent.py`.

The chat model here is scripted, so that the example needs no server; the tools and their answers are real. For a real
one, put any chat model of LangChain that calls tools in its place, such as

    ChatOpenAI(base_url="http://localhost:8000/v1", api_key="EMPTY", model="MODEL", use_responses_api=False)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from PIL import Image
from textlens.agent.tools.toolkit import TextlensToolkit
from textlens.scenes import render, scene_at


class ScriptedModel(FakeMessagesListChatModel):
    """Says what the script says, whatever the tools answer."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:
        return self


def call(name: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": name}])


SCRIPT = [
    call("describe_image", image="scene"),
    call("describe_image", image="/etc/passwd"),  # refused: the model is told, and goes on
    call("recreate_image", image="scene"),
    call("describe_image", image="drawn-1"),
    AIMessage("Compare the two descriptions: the second is of a picture that was drawn from the words of the first."),
]


def main() -> None:
    scene = Image.fromarray(render(scene_at(3, "test"), 64))
    toolkit = TextlensToolkit.from_specs(images={"scene": scene}, encoders=["scenes:coca"])
    agent = create_agent(ScriptedModel(responses=list(SCRIPT)), toolkit.get_tools())
    question = HumanMessage("Does the scene survive being put into words?")
    for update in agent.stream({"messages": [question]}, stream_mode="updates"):
        for step in update.values():
            for message in step["messages"]:
                if isinstance(message, ToolMessage):
                    print(f"  {message.name} says: {message.text}")
                    print(f"    evidence: {', '.join(message.artifact or ['none: it failed'])}")
                for asked in getattr(message, "tool_calls", []):
                    print(f"the model calls {asked['name']}({asked['args']})")
    print(message.text)


if __name__ == "__main__":
    main()
