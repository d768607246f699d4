"""Answers: encoded by the same encoder as the socket's frames, documented from the same models."""

from typing import Any

from fastapi import Response

from parley import events


def reply(model: Any, status: int = 200) -> Response:
    """A model as JSON."""
    return Response(events.encode(model), status, media_type="application/json")
