"""What the console says about itself."""

from parley.client.lifeline import Status


def about(status: Status, reason: str, name: str, was_connected: bool) -> str:
    """One line for a change of the connection; nothing where nobody has to know."""
    match status:
        case "away" if was_connected:
            return "the server is away; I keep trying, and what you write will be sent"
        case "away":
            return f"no answer from the server yet ({reason}); I keep trying"
        case "back":
            return "connected again"
        case "renewed":
            return f"the session had ended; signed in again as {name}"
        case "connected":
            return ""
