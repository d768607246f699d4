"""What can go wrong for a client.

    ChatError
    ├── Refused           the server understood and will not do it
    ├── ConnectionLost    no answer came; it may or may not have been done
    ├── NotParley         what answers at that address is no Parley server
    ├── EventsUnread      nobody takes the events that came before the answer
    └── ChatEnded         this chat is over and will not come back by itself

A deadline that passes is Python's own `TimeoutError`.
"""

from parley.realtime.protocol import ErrorBody


class ChatError(Exception):
    """The base of all of them."""


class Refused(ChatError):
    """Raised when the server refuses a command. `code` is stable, `detail` is a sentence for people."""

    def __init__(self, error: ErrorBody) -> None:
        super().__init__(error.detail)
        self.code = error.code
        self.kind = error.kind
        self.detail = error.detail
        self.retry_after = error.retry_after
        self.may_help_later = error.retryable or error.kind == "unavailable"


class ConnectionLost(ChatError):
    """Raised when the connection broke before the answer came."""


class NotParley(ChatError):
    """Raised when the answer is not one that Parley gives."""


class EventsUnread(ChatError):
    """Raised when the answer lies behind more events than may wait: take them from `events()` meanwhile.

    A message that was being sent is still sent.
    """


class ChatEnded(ChatError):
    """Raised when the chat is over: closed here, or ended by the server for good.

    `code` is the close code, 0 where there was none; `refusal` is the error that ended it, if it was one.
    """

    def __init__(self, reason: str, code: int = 0, refusal: Refused | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.refusal = refusal
