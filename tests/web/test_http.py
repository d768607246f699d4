"""What a program does over HTTP."""

from typing import Any
from uuid import uuid4

import httpx2

from tests.servers import ServerProcess
from tests.web.conftest import Person, socket


def say(person: Person, text: str, room: str = "lobby", **more: Any) -> dict[str, Any]:
    answer = person.post(f"/rooms/{room}/messages", json={"text": text, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_everybody_is_in_the_lobby_and_sees_its_last_fifty(ann: Person, bob: Person) -> None:
    for number in range(60):
        say(ann, f"number {number}")
    page = bob.get("/rooms/lobby/messages").json()
    assert [message["text"] for message in page["items"]] == [f"number {number}" for number in range(10, 60)]
    assert page["next"] is None
    lobby = bob.get("/rooms/lobby").json()
    assert lobby["role"] == "member"
    assert lobby["message_count"] == 50
    assert lobby["history_limit"] == 50


async def test_the_socket_goes_on_where_the_page_ends(ann: Person, bob: Person) -> None:
    say(ann, "before")
    room = bob.get("/rooms/lobby").json()
    page = bob.get("/rooms/lobby/messages").json()
    say(ann, "between")
    async with socket(bob, since={room["id"]: room["revision"]}) as bobs:
        say(ann, "after")
        changes = await bobs.next()
        event = await bobs.next()
    told = [*page["items"], *changes["messages"], event["message"]]
    assert [message["text"] for message in told][-3:] == ["before", "between", "after"]
    assert [message["seq"] for message in told] == sorted({message["seq"] for message in told})


def test_pages_lead_through_the_whole_history_both_ways(ann: Person) -> None:
    room = ann.post("/rooms", json={"name": f"kitchen-{uuid4()}"}).json()
    for number in range(25):
        say(ann, str(number), room["id"])
    back: list[int] = []
    before: dict[str, str] = {}
    while True:
        page = ann.get(f"/rooms/{room['name']}/messages", params={"limit": 10, **before}).json()
        back = [message["seq"] for message in page["items"]] + back
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    forth: list[int] = []
    after = {"after": "0"}
    while True:
        page = ann.get(f"/rooms/{room['id']}/messages", params={"limit": 10, **after}).json()
        forth += [message["seq"] for message in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert back == forth == list(range(1, 26))


def test_a_message_is_edited_answered_reacted_to_and_taken_back(ann: Person, bob: Person) -> None:
    message = say(ann, "helo")
    at = f"/rooms/lobby/messages/{message['id']}"
    assert bob.patch(at, json={"text": "hacked"}).json()["code"] == "not_your_message"
    edited = ann.patch(at, json={"text": "hello"}).json()
    assert (edited["text"], edited["seq"]) == ("hello", message["seq"])
    assert edited["edited_at"] is not None
    assert bob.put(f"{at}/reactions/👍").json()["reactions"] == {"👍": [bob.id]}
    assert ann.put(f"{at}/reactions/👍").json()["reactions"] == {"👍": [bob.id, ann.id]}
    assert bob.delete(f"{at}/reactions/👍").json()["reactions"] == {"👍": [ann.id]}
    assert say(bob, "hi", reply_to=message["id"])["reply_to"] == message["id"]
    assert bob.delete(at).json()["code"] == "not_your_message"
    gone = ann.delete(at).json()
    assert (gone["text"], gone["seq"], gone["reactions"]) == ("", message["seq"], {})
    assert gone["deleted_at"] is not None
    assert ann.patch(at, json={"text": "back"}).json()["code"] == "message_not_found"


def test_an_id_sent_twice_is_stored_once(ann: Person, bob: Person) -> None:
    body = {"text": "once", "id": str(uuid4())}
    first = ann.post("/rooms/lobby/messages", json=body)
    second = ann.post("/rooms/lobby/messages", json=body)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert ann.post("/rooms/lobby/messages", json=body | {"text": "twice"}).status_code == 409
    assert bob.post("/rooms/lobby/messages", json=body).json()["code"] == "id_taken"


def test_unread_counts_from_the_read_mark(ann: Person, bob: Person) -> None:
    room = ann.post("/rooms", json={"title": "The kitchen"}).json()
    bob.put(f"/rooms/{room['id']}/members/me")
    for number in range(3):
        say(ann, str(number), room["id"])
    [mine] = [
        each
        for each in bob.get("/rooms", params={"scope": "mine"}).json()["items"]
        if each["id"] == room["id"]
    ]
    assert (mine["unread"], mine["read_seq"]) == (3, 0)
    assert bob.put(f"/rooms/{room['id']}/read", json={"seq": 1}).json() == {"seq": 1}
    unread = bob.get(f"/rooms/{room['id']}/unread", params={"mark": "true"}).json()
    assert [message["seq"] for message in unread["items"]] == [2, 3]
    assert bob.get(f"/rooms/{room['id']}").json()["unread"] == 0
    assert bob.put(f"/rooms/{room['id']}/read", json={"seq": 1}).json() == {"seq": 3}
    assert ann.get(f"/rooms/{room['id']}").json()["unread"] == 3


def test_changes_since_a_revision_are_what_is_stamped_later(ann: Person) -> None:
    room = ann.post("/rooms", json={"title": "The kitchen"}).json()
    messages = [say(ann, str(number), room["id"]) for number in range(3)]
    ann.patch(f"/rooms/{room['id']}/messages/{messages[0]['id']}", json={"text": "zero"})
    changes = ann.get(f"/rooms/{room['id']}/changes", params={"since": 2}).json()
    assert [(message["seq"], message["revision"]) for message in changes["messages"]] == [(3, 3), (1, 4)]
    assert (changes["revision"], changes["reset"]) == (4, False)
    assert ann.get(f"/rooms/{room['id']}/changes", params={"since": 5}).json()["reset"] is True


def test_members_join_and_leave(ann: Person, bob: Person) -> None:
    room = ann.post("/rooms", json={"name": f"kitchen-{uuid4()}"}).json()
    at = f"/rooms/{room['name']}/members"
    assert ann.get(at).json()["items"][0]["role"] == "owner"
    assert bob.post(f"/rooms/{room['id']}/messages", json={"text": "hi"}).json()["code"] == "not_a_member"
    assert bob.put(f"{at}/me").json()["role"] == "member"
    assert {each["display_name"] for each in bob.get(at).json()["items"]} == {"Ann", "Bob"}
    assert bob.delete(f"{at}/me").status_code == 204
    assert len(bob.get(at).json()["items"]) == 1
    assert ann.post("/rooms", json={"name": room["name"]}).json()["code"] == "name_taken"
    assert bob.delete("/rooms/lobby/members/me").json()["code"] == "not_allowed"


def test_a_signed_out_token_is_worth_nothing(server: ServerProcess) -> None:
    cleo = Person(server, "Cleo")
    assert cleo.get("/me").json()["display_name"] == "Cleo"
    assert cleo.delete("/sessions/current").status_code == 204
    answer = cleo.get("/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    cleo.http.close()


def test_one_liners_need_no_account(server: ServerProcess, ann: Person) -> None:
    line = {"user": "john", "room": f"default-{uuid4()}", "text": "hello"}
    first = httpx2.post(f"{server.url}/messages", json=line).json()
    second = httpx2.post(f"{server.url}/messages", json=line).json()
    assert (first["author_name"], first["seq"], second["seq"]) == ("john", 1, 2)
    assert first["author_id"] == second["author_id"]
    assert len(ann.get(f"/rooms/{line['room']}/messages").json()["items"]) == 2


def test_the_api_page_loads_nothing_from_elsewhere(server: ServerProcess) -> None:
    page = httpx2.get(f"{server.url}/api/openapi").text
    assert "http://" not in page
    assert "https://" not in page
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        asset = httpx2.get(f"{server.url}/api/assets/{name}")
        assert asset.status_code == 200
        assert len(asset.content) > 10_000


def test_a_one_liner_that_is_refused_makes_nothing(ann: Person, server: ServerProcess) -> None:
    room, speaker = f"room-{uuid4().hex[:8]}", f"john-{uuid4().hex[:8]}"
    news = ann.post("/rooms", json={"name": f"news-{room}", "read_only": True}).json()
    for body, code in (
        ({"user": speaker, "room": room, "text": ""}, "empty_message"),
        ({"user": speaker, "room": room, "text": "hi", "id": "7"}, "invalid_field"),
        ({"user": speaker, "room": news["name"], "text": "hi"}, "read_only_room"),
    ):
        assert httpx2.post(f"{server.url}/messages", json=body).json()["code"] == code
    assert ann.get(f"/rooms/{room}").status_code == 404
    assert len(ann.get(f"/rooms/{news['id']}/members").json()["items"]) == 1
