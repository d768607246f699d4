"""Who may do what, and what everybody else is told: one table, which `test_authorisation` carries out.

`outside` is whoever is not in the room: an outsider, somebody who was removed, and a member of another room.
`member` is an ordinary one, a person or a guest. In a direct room there are only the two, who are members.
Everybody else is told, whatever they ask: `NOBODY` without a token, `ENDED` with that of an ended session.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

NOBODY = "token_missing"
ENDED = "token_invalid"

SIGNS = {
    "yes": "ok",
    "no": "not_allowed",
    "hidden": "room_not_found",
    "join first": "not_a_member",
    "read only": "read_only_room",
    "not yours": "not_your_message",
}
HIDDEN = ("private", "read-only", "direct")
"""Rooms that only their members see; the read-only one is private too."""

IN_ROOMS = """
operation                  | rooms             | outside    | reader    | member    | moderator | owner

room.see                   | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
room.open                  | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
room.join                  | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
room.leave                 | public            | yes        | yes       | yes       | yes       | no
                           | private read-only | hidden     | yes       | yes       | yes       | no
                           | direct            | hidden     |           | no        |           |
room.change                | public            | no         | no        | no        | no        | yes
                           | private read-only | hidden     | no        | no        | no        | yes
                           | direct            | hidden     |           | no        |           |
room.close                 | public            | no         | no        | no        | no        | yes
                           | private read-only | hidden     | no        | no        | no        | yes
                           | direct            | hidden     |           | no        |           |

member.list                | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
member.add                 | public            | no         | no        | no        | yes       | yes
                           | private read-only | hidden     | no        | no        | yes       | yes
                           | direct            | hidden     |           | no        |           |
member.add as a reader     | public            | no         | no        | no        | yes       | yes
                           | private read-only | hidden     | no        | no        | yes       | yes
                           | direct            | hidden     |           | no        |           |
member.add as a moderator  | public            | no         | no        | no        | no        | yes
                           | private read-only | hidden     | no        | no        | no        | yes
                           | direct            | hidden     |           | no        |           |
member.add as an owner     | public            | no         | no        | no        | no        | yes
                           | private read-only | hidden     | no        | no        | no        | yes
                           | direct            | hidden     |           | no        |           |
member.add oneself         | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
member.remove a member     | public            | no         | no        | no        | yes       | yes
                           | private read-only | hidden     | no        | no        | yes       | yes
                           | direct            | hidden     |           | no        |           |
member.remove a moderator  | public            | no         | no        | no        | no        | yes
                           | private read-only | hidden     | no        | no        | no        | yes
member.remove an owner     | public            | no         | no        | no        | no        | no
                           | private read-only | hidden     | no        | no        | no        | no
member.remove a stranger   | public            | no         | no        | no        | yes       | yes
                           | private read-only | hidden     | no        | no        | yes       | yes
                           | direct            | hidden     |           | no        |           |
member.change              | public            | no         | no        | no        | no        | yes
                           | private read-only | hidden     | no        | no        | no        | yes
                           | direct            | hidden     |           | no        |           |
member.change oneself      | public            | no         | no        | no        | no        | yes
                           | private read-only | hidden     | no        | no        | no        | yes
                           | direct            | hidden     |           | no        |           |

message.page               | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
message.changes            | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
message.search in the room | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
message.unread             | public            | join first | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
message.unread and mark    | public            | join first | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
read.mark                  | public            | join first | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
typing.start               | public            | join first | read only | yes       | yes       | yes
                           | private direct    | hidden     | read only | yes       | yes       | yes
                           | read-only         | hidden     | read only | read only | yes       | yes
typing.stop                | public            | yes        | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes

message.send               | public            | join first | read only | yes       | yes       | yes
                           | private direct    | hidden     | read only | yes       | yes       | yes
                           | read-only         | hidden     | read only | read only | yes       | yes
message.send an answer     | public            | join first | read only | yes       | yes       | yes
                           | private direct    | hidden     | read only | yes       | yes       | yes
                           | read-only         | hidden     | read only | read only | yes       | yes
message.edit my own        | public            | join first | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
message.edit another's     | public            | join first | not yours | not yours | not yours | not yours
                           | all others        | hidden     | not yours | not yours | not yours | not yours
message.delete my own      | public            | join first | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
message.delete another's   | public            | join first | not yours | not yours | yes       | yes
                           | all others        | hidden     | not yours | not yours | yes       | yes
message.react              | public            | join first | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
message.unreact            | public            | join first | yes       | yes       | yes       | yes
                           | all others        | hidden     | yes       | yes       | yes       | yes
"""

ELSEWHERE = """
operation                      | nobody         | ended            | guest             | person

hello                          | token_missing  | token_invalid    | ok                | ok
server.limits                  | ok             | ok               | ok                | ok
server.stats                   | token_missing  | token_invalid    | ok                | ok
account.register               | ok             | ok               | ok                | ok
session.guest                  | ok             | ok               | ok                | ok
session.create                 | wrong_password | ok               | wrong_password    | ok
session.refresh                | token_invalid  | token_invalid    | token_invalid     | ok
session.list                   | token_missing  | token_invalid    | ok                | ok
session.end                    | token_missing  | token_invalid    | ok                | ok
session.end everywhere         | token_missing  | token_invalid    | ok                | ok
session.end another of mine    | token_missing  | token_invalid    | ok                | ok
session.end somebody else's    | token_missing  | token_invalid    | session_not_found | session_not_found
account.export                 | token_missing  | token_invalid    | ok                | ok
account.delete                 | token_missing  | token_invalid    | ok                | ok
profile.see                    | token_missing  | token_invalid    | ok                | ok
profile.change                 | token_missing  | token_invalid    | ok                | ok
password.change                | token_missing  | token_invalid    | not_allowed       | ok
password.change by guessing    | token_missing  | token_invalid    | not_allowed       | wrong_password
user.see                       | token_missing  | token_invalid    | ok                | ok
user.find                      | token_missing  | token_invalid    | ok                | ok
user.find those online         | token_missing  | token_invalid    | ok                | ok
room.create                    | token_missing  | token_invalid    | ok                | ok
room.create a private one      | token_missing  | token_invalid    | ok                | ok
room.list                      | token_missing  | token_invalid    | ok                | ok
room.list mine                 | token_missing  | token_invalid    | ok                | ok
room.direct                    | token_missing  | token_invalid    | ok                | ok
message.send to somebody       | token_missing  | token_invalid    | ok                | ok
message.search everywhere      | token_missing  | token_invalid    | ok                | ok
"""


@dataclass(frozen=True)
class Form:
    """How an operation is asked for: its op, its route, and the fields that both take.

    `{…}` stands for something of the world that it is asked in, such as `{room}` or the caller's `{mine}`.
    """

    op: str
    http: str | None
    fields: dict[str, Any]


def _form(http: str | None, **fields: Any) -> tuple[str | None, dict[str, Any]]:
    return http, fields


_ROOM = "/rooms/{room}"
_MEMBER = _ROOM + "/members/{user}"
_MESSAGE = _ROOM + "/messages/{message}"
_REACTION = _MESSAGE + "/reactions/{emoji}"

_FORMS = {
    "room.see": _form(f"GET {_ROOM}"),
    "room.open": _form(None),
    "room.join": _form(f"PUT {_ROOM}/members/me"),
    "room.leave": _form(f"DELETE {_ROOM}/members/me"),
    "room.change": _form(f"PATCH {_ROOM}", title="Another"),
    "room.close": _form(f"DELETE {_ROOM}"),
    "member.list": _form(f"GET {_ROOM}/members"),
    "member.add": _form(f"PUT {_MEMBER}", user="{newcomer}"),
    "member.add as a reader": _form(f"PUT {_MEMBER}", user="{newcomer}", role="reader"),
    "member.add as a moderator": _form(f"PUT {_MEMBER}", user="{newcomer}", role="moderator"),
    "member.add as an owner": _form(f"PUT {_MEMBER}", user="{newcomer}", role="owner"),
    "member.add oneself": _form(f"PUT {_MEMBER}", user="{me}", role="owner"),
    "member.remove a member": _form(f"DELETE {_MEMBER}", user="{other}"),
    "member.remove a moderator": _form(f"DELETE {_MEMBER}", user="{helper}"),
    "member.remove an owner": _form(f"DELETE {_MEMBER}", user="{owner}"),
    "member.remove a stranger": _form(f"DELETE {_MEMBER}", user="{newcomer}"),
    "member.change": _form(f"PATCH {_MEMBER}", user="{other}", role="moderator"),
    "member.change oneself": _form(f"PATCH {_MEMBER}", user="{me}", role="owner"),
    "message.page": _form(f"GET {_ROOM}/messages"),
    "message.changes": _form(f"GET {_ROOM}/changes", since=0),
    "message.search in the room": _form("GET /search", room="{room}", query="said"),
    "message.search everywhere": _form("GET /search", query="said"),
    "message.unread": _form(f"GET {_ROOM}/unread"),
    "message.unread and mark": _form(f"GET {_ROOM}/unread", mark=True),
    "read.mark": _form(f"PUT {_ROOM}/read", seq=1),
    "typing.start": _form(f"PUT {_ROOM}/typing"),
    "typing.stop": _form(f"DELETE {_ROOM}/typing"),
    "message.send": _form(f"POST {_ROOM}/messages", text="hello"),
    "message.send an answer": _form(f"POST {_ROOM}/messages", text="hello", reply_to="{others}"),
    "message.send to somebody": _form("POST /direct/{user}/messages", user="{newcomer}", text="hello"),
    "message.edit my own": _form(f"PATCH {_MESSAGE}", message="{mine}", text="so to speak"),
    "message.edit another's": _form(f"PATCH {_MESSAGE}", message="{others}", text="so to speak"),
    "message.delete my own": _form(f"DELETE {_MESSAGE}", message="{mine}"),
    "message.delete another's": _form(f"DELETE {_MESSAGE}", message="{others}"),
    "message.react": _form(f"PUT {_REACTION}", message="{others}", emoji="👍"),
    "message.unreact": _form(f"DELETE {_REACTION}", message="{others}", emoji="👍"),
    "hello": _form(None),
    "server.limits": _form("GET /limits"),
    "server.stats": _form("GET /stats"),
    "account.register": _form("POST /accounts", name="{new_name}", password="correct horse"),
    "session.guest": _form("POST /sessions/guest", display_name="Dora"),
    "session.create": _form("POST /sessions", name="{my_name}", password="{password}"),
    "session.refresh": _form("POST /sessions/refresh", refresh_token="{my_refresh_token}"),
    "session.list": _form("GET /sessions"),
    "session.end": _form("DELETE /sessions/current"),
    "session.end everywhere": _form("DELETE /sessions", everywhere=True),
    "session.end another of mine": _form("DELETE /sessions/{session}", session="{my_other_session}"),
    "session.end somebody else's": _form("DELETE /sessions/{session}", session="{others_session}"),
    "account.export": _form("GET /me/export"),
    "account.delete": _form("DELETE /me"),
    "profile.see": _form("GET /me"),
    "profile.change": _form("PATCH /me", display_name="Somebody"),
    "password.change": _form("PUT /me/password", password="{password}", new_password="battery staple"),
    "password.change by guessing": _form("PUT /me/password", password="a guess", new_password="new staple"),
    "user.see": _form("GET /users/{user}", user="{newcomer}"),
    "user.find": _form("GET /users", query="an"),
    "user.find those online": _form("GET /users"),
    "room.create": _form("POST /rooms", title="A room"),
    "room.create a private one": _form("POST /rooms", title="A room", kind="private"),
    "room.list": _form("GET /rooms"),
    "room.list mine": _form("GET /rooms", scope="mine"),
    "room.direct": _form("PUT /direct/{user}", user="{newcomer}"),
}


def _read(table: str) -> list[list[str]]:
    """The cells of a table without its head; an empty first cell repeats the one above."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines() if line][1:]
    for above, row in pairwise(rows):
        row[0] = row[0] or above[0]
    return rows


OUTSIDE = ("outsider", "former", "neighbour")
_COLUMNS = (OUTSIDE, ("reader",), ("member", "guest"), ("moderator",), ("owner",))
EVERYBODY = ("nobody", "ended", *(caller for column in _COLUMNS for caller in column))
OF_DIRECT = ("nobody", "ended", "outsider", "neighbour", "member", "guest")
"""Who there is around a direct room: nobody is removed from it and there are no other roles."""


def _in_rooms() -> dict[str, dict[str, dict[str, str]]]:
    """Operation -> kind of room -> caller -> outcome."""
    table: dict[str, dict[str, dict[str, str]]] = {}
    for name, kinds, *outcomes in _read(IN_ROOMS):
        told = {"nobody": NOBODY, "ended": ENDED}
        for callers, outcome in zip(_COLUMNS, outcomes, strict=True):
            told |= dict.fromkeys(callers, SIGNS.get(outcome, ""))
        for kind in HIDDEN if kinds == "all others" else kinds.split():
            callers = OF_DIRECT if kind == "direct" else EVERYBODY
            table.setdefault(name, {})[kind] = {caller: told[caller] for caller in callers}
    return table


def _elsewhere() -> dict[str, dict[str, str]]:
    """Operation -> caller -> outcome."""
    return {
        name: dict.fromkeys(EVERYBODY, person) | {"nobody": nobody, "ended": ended, "guest": guest}
        for name, nobody, ended, guest, person in _read(ELSEWHERE)
    }


def _forms() -> dict[str, Form]:
    forms = {}
    for name, (http, fields) in _FORMS.items():
        op = name.split(" ")[0]
        here = {"room": "{room}"} if name in _in_rooms() else {}
        forms[name] = Form(op, http, here | fields)
    return forms


ROOM_TABLE = _in_rooms()
OTHER_TABLE = _elsewhere()
FORMS = _forms()
