"""A LangGraph agent that is sent an image in a message, offline: `python examples/langgraph_agent.py`.

The graph has three nodes of its own making: `name_images` gives ids to images in messages, so that a chat model that
reads only text can talk about them; `think` calls the chat model; `act` runs the tools that it asks for. Events of
nodes and tools are printed as they come. The chat model is scripted, the tools and their answers are real; for a real
one, put any chat model of LangChain that calls tools in its place, with `.bind_tools(tools)`.
"""

from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from PIL import Image
from textlens.agent.tools.message_images import MessageImages
from textlens.agent.tools.toolkit import TextlensToolkit
from textlens.scenes import render, scene_at


def call(name: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": name}])


SCRIPT = [
    call("describe_image", image="image-1"),
    call("ask_image", image="image-1", question="What color is the background?"),
    AIMessage("That is what the words say; I have not seen the image."),
]


def build(toolkit: TextlensToolkit, model: Any) -> Any:
    """The graph: name_images -> think -> act -> think -> …, until the model calls no more tools."""
    images = MessageImages(toolkit.access)

    def name_images(state: MessagesState) -> dict[str, Any]:
        return {"messages": images.named(state["messages"])}  # same ids of messages, so they replace the old ones

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("name_images", name_images)
    graph.add_node("think", think)
    graph.add_node("act", ToolNode(toolkit.get_tools()))
    graph.add_edge(START, "name_images")
    graph.add_edge("name_images", "think")
    graph.add_conditional_edges("think", tools_condition, {"tools": "act", "__end__": "__end__"})
    graph.add_edge("act", "think")
    return graph.compile(checkpointer=InMemorySaver())


def question(image: Image.Image) -> HumanMessage:
    data = io.BytesIO()
    image.save(data, "PNG")
    block = {"type": "image", "base64": base64.b64encode(data.getvalue()).decode(), "mime_type": "image/png"}
    return HumanMessage([{"type": "text", "text": "What do you see?"}, block])


async def main() -> None:
    toolkit = TextlensToolkit.from_settings({"encoders": ["scenes:coca"], "language_model": "tiny"})
    agent = build(toolkit, FakeMessagesListChatModel(responses=list(SCRIPT)))
    asked = {"messages": [question(Image.fromarray(render(scene_at(3, "test"))))]}
    conversation = {"configurable": {"thread_id": "1"}}
    async for event in agent.astream_events(asked, conversation, version="v2"):
        if event["event"] == "on_tool_start":
            print(f"the model calls {event['name']}({event['data']['input']})")
        elif event["event"] == "on_tool_end":
            print(f"  {event['name']} says: {event['data']['output'].text}")
    state = await agent.aget_state(conversation)
    first, *_, last = state.values["messages"]
    print(f"the model was asked: {first.text!r}\nand says: {last.text}")


if __name__ == "__main__":
    asyncio.run(main())
