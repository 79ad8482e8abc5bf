"""Questions and answers in turn, by a LangChain agent, shown on a terminal as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import TextlensError
from ..models.server import ServiceError, api_key, line_without
from .terminal import Terminal

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.messages import BaseMessage

MAX_STEPS = 40  # of the agent per question: each turn of the model is one, and so are the tool calls it asks for
_TOOL_CALL_HINT = "; does the server take tool calls? (vLLM: --enable-auto-tool-choice --tool-call-parser PARSER)"
_NO_ANSWER = (ValueError, KeyError, TypeError, AttributeError)  # what langchain-openai raises for one it cannot read


class Conversation:
    """Questions and answers in turn. agent: as of `build_agent`. failed, total: questions so far.

    A context manager, because it keeps one event loop from question to question. (Run synchronously, an agent would
    not hear Ctrl-C before its server answered.)
    """

    def __init__(self, agent: Any, terminal: Terminal) -> None:
        self._agent, self._terminal, self._runner = agent, terminal, asyncio.Runner()
        self._messages: list[BaseMessage] = []
        self.failed = self.total = 0

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.close()

    def hold(self, questions: Iterable[str]) -> tuple[int, int]:
        """Answer each question; one that fails is told as an error and forgotten. Returns (failed, total)."""
        for question in questions:
            self.total += 1
            try:
                self.ask(question)
            except TextlensError as error:
                self.failed += 1
                self._terminal.error(str(error))
        return self.failed, self.total

    def ask(self, question: str) -> str:
        """The answer, after it was shown piece by piece, and each tool call with its result.

        Raises `ServiceError` where the chat model gives no answer, `InputError` where a tool is set up wrongly; the
        question is then no part of the conversation.
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
                    self._show_calls(message)
                elif isinstance(message, ToolMessage):
                    self._terminal.tool_result(str(message.text), failed=message.status == "error")
        answer = str(messages[-1].text)
        if not answer.strip():
            raise ServiceError("the chat model ended without an answer; ask in other words, or take another model")
        self._messages = messages
        return answer

    async def _stream(self, messages: list[BaseMessage]) -> AsyncIterator[tuple[str, Any]]:
        from langgraph.errors import GraphRecursionError

        given, limit = {"messages": list(messages)}, {"recursion_limit": MAX_STEPS}
        try:
            async for mode, part in self._agent.astream(given, limit, stream_mode=["messages", "updates"]):
                yield mode, part
        except GraphRecursionError:
            raise ServiceError(f"no answer after {MAX_STEPS} steps; ask a narrower question") from None

    def _show_calls(self, message: Any) -> None:
        self._terminal.end_line()
        for call in message.tool_calls:
            self._terminal.tool_call(call["name"], call["args"])
        for call in message.invalid_tool_calls:
            self._terminal.error(f"the model's call of {call['name']} is not readable: {call['error']}")


def _new_messages(update: Mapping[str, Any]) -> Iterator[BaseMessage]:
    for node in update.values():
        yield from (node or {}).get("messages", [])


def service_errors() -> AgentMiddleware[Any, Any]:
    """Middleware around the chat model alone: all that its server can do wrong becomes a `ServiceError` of one line.

    Errors of the tools are not touched. For agents that run asynchronously.
    """
    import httpx
    import openai
    from langchain.agents.middleware import wrap_model_call

    @wrap_model_call
    async def told_as_service_errors(request: Any, handler: Any) -> Any:
        try:
            return await handler(request)
        except openai.APIStatusError as error:
            hint = _TOOL_CALL_HINT if error.status_code == 400 else ""
            raise ServiceError(_said(f"the server answered {error.status_code}: {error.message}") + hint) from None
        except (openai.OpenAIError, httpx.HTTPError) as error:
            cause = _first_cause(error)
            reason = f"{cause} ({type(cause).__name__})"
            raise ServiceError(_said(f"the chat model is out of reach, or its answer broke off: {reason}")) from None
        except _NO_ANSWER as error:
            raise ServiceError(_said(f"the server sent what is no answer ({type(error).__name__}: {error})")) from None

    return told_as_service_errors


def _first_cause(error: BaseException) -> BaseException:
    """The innermost: the outer ones say "Connection error." alone."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _said(message: str) -> str:
    return line_without(api_key(), message)
