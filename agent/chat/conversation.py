"""A conversation with a LangChain agent, shown on a terminal as it streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import TextlensError
from ..models.server import ServiceError, api_key, service_errors
from .terminal import Terminal

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.messages import BaseMessage

MAX_STEPS = 40  # of the agent per question: model calls and tool calls
_TOOL_CALL_HINT = "; does the server take tool calls? (vLLM: --enable-auto-tool-choice --tool-call-parser PARSER)"
_MALFORMED = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)  # what langchain-openai raises for malformed responses


class Conversation:
    """Questions and answers in turn.

    A context manager, because all questions share one event loop. (A synchronous agent would not notice Ctrl-C until
    its server answered.)
    """

    def __init__(self, agent: Any, terminal: Terminal) -> None:
        self._agent, self._terminal, self._runner = agent, terminal, asyncio.Runner()
        self._messages: list[BaseMessage] = []
        self.failed = self.total = 0  # questions

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.close()

    def hold(self, questions: Iterable[str]) -> tuple[int, int]:
        """Answer each question; a failed one is shown as an error and forgotten. Returns (failed, total)."""
        for question in questions:
            self.total += 1
            try:
                self.ask(question)
            except TextlensError as error:
                self.failed += 1
                self._terminal.error(str(error))
        return self.failed, self.total

    def ask(self, question: str) -> str:
        """The answer, which is shown as it streams, as are tool calls and their results.

        Raises `ServiceError` if the chat model gives no answer, `InputError` for a tool with a wrong set-up; the
        question is then not part of the conversation.
        """
        return self._runner.run(self._ask(question))

    async def _ask(self, question: str) -> str:
        from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

        messages: list[BaseMessage] = [*self._messages, HumanMessage(question)]
        async for mode, part in self._stream(messages):
            if mode == "messages" and isinstance(part[0], AIMessage):
                self._terminal.words(str(part[0].text))
            for message in _new_messages(part) if mode == "updates" else ():
                messages.append(message)
                if isinstance(message, AIMessage):
                    self._show_tool_calls(message)
                elif isinstance(message, ToolMessage):
                    self._terminal.tool_result(str(message.text), failed=message.status == "error")
        answer = str(messages[-1].text)
        if not answer.strip():
            raise ServiceError("the chat model ended without an answer; ask in other words, or take another model")
        self._messages = messages
        return answer

    async def _stream(self, messages: list[BaseMessage]) -> AsyncIterator[tuple[str, Any]]:
        from langgraph.errors import GraphRecursionError

        state, config = {"messages": list(messages)}, {"recursion_limit": MAX_STEPS}
        try:
            async for mode, part in self._agent.astream(state, config, stream_mode=["messages", "updates"]):
                yield mode, part
        except GraphRecursionError:
            raise ServiceError(f"no answer after {MAX_STEPS} steps; ask a narrower question") from None

    def _show_tool_calls(self, message: Any) -> None:
        self._terminal.end_line()
        for call in message.tool_calls:
            self._terminal.tool_call(call["name"], call["args"])
        for call in message.invalid_tool_calls:
            self._terminal.error(f"the model's call of {call['name']} is not readable: {call['error']}")


def _new_messages(update: Mapping[str, Any]) -> Iterator[BaseMessage]:
    for node in update.values():
        yield from (node or {}).get("messages", [])


def error_middleware() -> AgentMiddleware[Any, Any]:
    """Middleware around the chat model alone, not the tools: its errors become `ServiceError`s. Asynchronous."""
    from langchain.agents.middleware import wrap_model_call

    @wrap_model_call
    async def raise_service_errors(request: Any, handler: Any) -> Any:
        failure = "gave no answer, or it broke off"
        with service_errors("the chat model", failure, api_key(), hint=_TOOL_CALL_HINT, malformed=_MALFORMED):
            return await handler(request)

    return raise_service_errors
