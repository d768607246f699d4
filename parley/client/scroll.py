"""Lines that scroll by above the line in which a person writes."""

import asyncio

from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.output import Output
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import Style

Fragments = list[tuple[str, str]]
"""Styles and texts."""


class Scroll:
    """Draws what is added, in order.

    Each drawing takes the prompt away and asks the terminal where it stands, which is slow over a long line:
    what is added meanwhile is drawn together.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._undrawn: Fragments = []
        self._drawing: asyncio.Task[None] | None = None

    def add(self, fragments: Fragments) -> None:
        """Draw a line soon."""
        self._undrawn += [*fragments, ("", "\n")]
        if self._drawing is None or self._drawing.done():
            self._drawing = asyncio.create_task(self._draw(), name="scroll")

    async def drawn(self) -> None:
        """Wait until everything is drawn."""
        if self._drawing is not None:
            await self._drawing

    async def _draw(self) -> None:
        while self._undrawn:
            await run_in_terminal(self._draw_now)

    def _draw_now(self) -> None:
        fragments, self._undrawn = self._undrawn, []
        print_formatted_text(self._output, FormattedText(fragments), Style([]))
