"""What connections hear of rooms that are not open to everybody, and of those who come and go there."""

from typing import Any

import pytest

from parley.ids import new_id, now
from parley.models import Role
from parley.node import Node
from parley.services import own_data
from tests.realtime.conftest import Client, guest, turn
from tests.servers import until


async def study_of(owner: Client, *members: Client) -> str:
    """A private room with these members in it; its id."""
    made = await owner.ask(op="room.create", title="The study", kind="private")
    room_id = str(made["ok"]["room"]["id"])
    for member in members:
        await owner.ask(op="member.add", room=room_id, user=member.session.user.id)
    return room_id


async def heard(client: Client, kind: str, count: int = 1) -> list[dict[str, Any]]:
    """The events of a kind, once there are so many."""
    await until(lambda: len(client.events(kind)) >= count, what=f"{count} {kind}")
    return client.events(kind)


async def code_of(client: Client, **command: Any) -> str:
    return str((await client.ask(**command))["error"]["code"])


async def test_who_is_brought_in_hears_of_it_and_the_others_too(node: Node, ann: Client, bob: Client) -> None:
    room_id = await study_of(ann, bob)
    [added] = await heard(bob, "room.added")
    assert (added["room_id"], added["room"]["role"], added["room"]["revision"]) == (room_id, "member", 2)
    [joined] = await heard(ann, "member.joined")
    assert joined["revision"] == joined["member"]["revision"] == 2
    assert (joined["member"]["user_id"], joined["member"]["role"]) == (bob.session.user.id, "member")
    await ann.ask(op="message.send", room=room_id, text="welcome")
    [sent] = await heard(bob, "message.sent")
    assert sent["revision"] == 3


async def test_who_is_shown_the_door_hears_that_and_nothing_more(
    node: Node, ann: Client, bob: Client
) -> None:
    room_id = await study_of(ann, bob)
    await heard(bob, "room.added")
    assert (await ann.ask(op="member.remove", room=room_id, user=bob.session.user.id))["ok"] == {}
    await ann.ask(op="message.send", room=room_id, text="he is gone")
    [left] = await heard(ann, "member.left")
    assert (left["user_id"], left["revision"], left["member"]["left_at"] is None) == (
        bob.session.user.id,
        3,
        False,
    )
    await heard(ann, "message.sent")
    [mine] = await heard(bob, "member.left")
    assert (mine["revision"], mine["member"]) == (0, None)
    assert bob.events("message.sent") == []
    for op in ("room.see", "message.page", "room.open", "member.list"):
        assert await code_of(bob, op=op, room=room_id) == "room_not_found"
    back = Client(node, bob.token)
    welcome = await back.hello(since={room_id: 1})
    assert room_id not in [room["id"] for room in welcome["rooms"]]
    assert back.events() == []


async def test_what_was_said_after_somebody_left_is_not_told_even_out_of_order(
    node: Node, ann: Client, bob: Client
) -> None:
    """The message overtakes the news of the removal, as it may between two nodes."""
    room_id = await study_of(ann, bob)
    await heard(bob, "room.added")
    ann_id, bob_id = ann.session.user.id, bob.session.user.id
    removed = await node.store.leave(room_id, bob_id, now())
    assert removed is not None
    assert removed.revision == 3
    await ann.ask(op="message.send", room=room_id, text="a secret")
    assert bob.events("message.sent") == []
    await node.core.rooms.left(removed)
    [sent] = await heard(ann, "message.sent")
    assert sent["revision"] == 4
    await turn()
    assert bob.events("message.sent") == []
    assert [event["user_id"] for event in bob.events("member.left")] == [bob_id] != [ann_id]


async def test_a_removal_that_only_the_store_knows_of_is_heeded_too(
    node: Node, ann: Client, bob: Client
) -> None:
    """Another node removed somebody, and its hint was lost."""
    room_id = await study_of(ann, bob)
    await heard(bob, "room.added")
    gone = await node.store.leave(room_id, bob.session.user.id, now())
    assert gone is not None
    await ann.ask(op="message.send", room=room_id, text="a secret")
    await heard(ann, "room.changes")
    await heard(bob, "member.left")
    assert "a secret" not in str(bob.lines())


async def test_a_role_and_a_setting_are_told_as_changes(node: Node, ann: Client, bob: Client) -> None:
    room_id = await study_of(ann, bob)
    await heard(bob, "room.added")
    changed = await ann.ask(op="member.change", room=room_id, user=bob.session.user.id, role="reader")
    assert changed["ok"]["member"]["role"] == "reader"
    again = await ann.ask(op="member.change", room=room_id, user=bob.session.user.id, role="reader")
    assert again["ok"]["member"]["revision"] == 3
    [event] = await heard(bob, "member.changed")
    assert (event["revision"], event["member"]["role"]) == (3, "reader")
    assert await code_of(bob, op="message.send", room=room_id, text="hi") == "read_only_room"
    assert await code_of(bob, op="typing.start", room=room_id) == "read_only_room"
    settings = {"title": "The den", "capacity": 2, "read_only": True, "history_limit": 5}
    answer = await ann.ask(op="room.change", room=room_id, **settings)
    [event] = await heard(bob, "room.changed")
    for room in (answer["ok"]["room"], event["room"]):
        assert {name: room[name] for name in settings} == settings
    assert event["revision"] == 4
    answer = await ann.ask(op="room.change", room=room_id, capacity=None)
    assert answer["ok"]["room"]["capacity"] is None
    await ann.ask(op="room.change", room=room_id, capacity=None)
    assert len(await heard(bob, "room.changed", 2)) == 2


async def test_a_room_that_becomes_private_parts_with_its_visitors(
    node: Node, ann: Client, bob: Client
) -> None:
    cleo = await guest(node, "Cleo")
    await cleo.hello()
    room_id = (await ann.ask(op="room.create", name="hall"))["ok"]["room"]["id"]
    await bob.ask(op="room.join", room="hall")
    await cleo.ask(op="room.open", room="hall")
    await ann.ask(op="room.change", room="hall", kind="private")
    await ann.ask(op="message.send", room=room_id, text="among us")
    [closed] = await heard(cleo, "room.closed")
    assert closed["room_id"] == room_id
    await heard(bob, "message.sent")
    assert "among us" not in str(cleo.lines())
    [told] = await heard(bob, "room.changes")
    assert told["room"]["kind"] == "private"
    assert {member["user_id"] for member in told["members"]} == {ann.session.user.id, bob.session.user.id}
    assert await code_of(cleo, op="room.join", room=room_id) == "room_not_found"


async def test_two_people_have_one_room(node: Node, ann: Client, bob: Client) -> None:
    bobs, anns = bob.session.user.id, ann.session.user.id
    first = await ann.ask(op="message.send", user=bobs, text="hello bob")
    room_id = first["ok"]["message"]["room_id"]
    [added] = await heard(bob, "room.added")
    assert (added["room_id"], added["room"]["kind"], added["room"]["title"]) == (room_id, "direct", "Ann")
    assert (added["room"]["peer"]["id"], added["room"]["peer"]["online"]) == (anns, True)
    [missed] = await heard(bob, "room.changes")  # it was said before he could be in
    assert [message["text"] for message in missed["messages"]] == ["hello bob"]
    back = await bob.ask(op="message.send", user=anns, text="hello ann")
    assert back["ok"]["message"]["room_id"] == room_id
    opened = await ann.ask(op="room.direct", user=bobs)
    assert (opened["ok"]["room"]["id"], opened["ok"]["room"]["title"]) == (room_id, "Bob")
    refs = [ann.send(op="message.send", user=bobs, text=str(number)) for number in range(20)]
    await until(lambda: all(ann.answer(ref) for ref in refs))
    page = await bob.ask(op="message.page", room=room_id)
    texts = [message["text"] for message in page["ok"]["items"]]
    assert texts == ["hello bob", "hello ann", *map(str, range(20))]


async def test_a_message_goes_to_a_room_or_to_somebody(ann: Client, bob: Client) -> None:
    both = {"room": "lobby", "user": bob.session.user.id}
    assert await code_of(ann, op="message.send", text="hi", **both) == "invalid_field"
    assert await code_of(ann, op="message.send", text="hi") == "invalid_field"
    assert await code_of(ann, op="message.send", text="hi", user=new_id()) == "user_not_found"
    assert await code_of(ann, op="message.send", text="hi", user=ann.session.user.id) == "invalid_field"
    assert await code_of(ann, op="message.send", text=" ", user=bob.session.user.id) == "empty_message"


async def test_closing_is_told_to_everybody_and_frees_the_name(ann: Client, bob: Client) -> None:
    room_id = (await ann.ask(op="room.create", name="attic"))["ok"]["room"]["id"]
    await bob.ask(op="room.join", room="attic")
    assert await code_of(bob, op="room.close", room="attic") == "not_allowed"
    assert (await ann.ask(op="room.close", room="attic"))["ok"] == {}
    for client in (ann, bob):
        [closed] = await heard(client, "room.closed")
        assert closed["room_id"] == room_id
    assert await code_of(bob, op="message.send", room=room_id, text="hi") == "room_not_found"
    again = await bob.ask(op="room.create", name="attic")
    assert again["ok"]["room"]["id"] != room_id
    sent = await bob.ask(op="message.send", room="attic", text="mine now")
    assert sent["ok"]["message"]["room_id"] == again["ok"]["room"]["id"]


async def test_a_room_closes_with_its_last_member_if_it_is_to(ann: Client) -> None:
    made = await ann.ask(op="room.create", name="tent", close_when_empty=True)
    await ann.ask(op="room.leave", room="tent")
    assert await code_of(ann, op="room.see", room=made["ok"]["room"]["id"]) == "room_not_found"


async def test_the_lobby_is_nobodys(ann: Client, bob: Client) -> None:
    for command in (
        {"op": "room.change", "title": "Mine"},
        {"op": "room.close"},
        {"op": "room.leave"},
        {"op": "member.remove", "user": bob.session.user.id},
        {"op": "member.change", "user": bob.session.user.id, "role": "reader"},
    ):
        assert await code_of(ann, room="lobby", **command) == "not_allowed"


async def test_coming_in_over_the_socket(node: Node) -> None:
    client = Client(node)
    assert (await client.ask(op="server.limits"))["ok"]["guests"] is True
    wrong = await client.ask(op="session.create", name="ann", password="not the password")
    assert wrong["error"]["code"] == "wrong_password"
    made = (await client.ask(op="account.register", name="ann", password="correct horse battery"))["ok"]
    assert made["user"]["name"] == "ann"
    again = (await client.ask(op="session.create", name="ann", password="correct horse battery"))["ok"]
    assert (await client.ask(op="session.refresh", refresh_token=again["refresh_token"]))["ok"]["token"]
    assert (await client.ask(op="session.guest", display_name="Gast"))["ok"]["user"]["kind"] == "guest"
    client.token = made["token"]
    assert (await client.hello())["user"]["id"] == made["user"]["id"]
    assert client.closed_with is None
    nobody = Client(node)
    assert await code_of(nobody, op="room.list") == "token_missing"
    assert nobody.closed_with == 4500


async def test_another_name_is_used_at_once(node: Node, ann: Client, bob: Client) -> None:
    other_device = Client(node, ann.token)
    await other_device.hello()
    await ann.ask(op="profile.change", display_name="Ann of Green Gables")
    for client in (ann, other_device):
        sent = await client.ask(op="message.send", room="lobby", text="hi")
        assert sent["ok"]["message"]["author_name"] == "Ann of Green Gables"
    [changed] = [each for each in await heard(bob, "presence.changed") if "Green" in each["display_name"]]
    assert (changed["user_id"], changed["online"]) == (ann.session.user.id, True)


async def test_who_removes_themselves_leaves_only_words(node: Node, ann: Client, bob: Client) -> None:
    await heard(ann, "presence.changed")
    room_id = await study_of(ann, bob)
    await heard(bob, "room.added")
    await bob.ask(op="message.send", room=room_id, text="mine")
    exported = (await bob.ask(op="account.export"))["ok"]
    words = [message["text"] for message in exported["messages"]]
    while exported["next"]:
        exported = (await bob.ask(op="account.export", cursor=exported["next"]))["ok"]
        words += [message["text"] for message in exported["messages"]]
    assert words == ["mine"]
    assert (await bob.ask(op="account.delete"))["ok"] == {}
    assert bob.closed_with == 4502
    assert bob.events("session.ended")[0]["reason"] == "account deleted"
    [left] = await heard(ann, "member.left")
    assert left["user_id"] == bob.session.user.id
    page = await ann.ask(op="message.page", room=room_id)
    [message] = page["ok"]["items"]
    assert (message["text"], message["author_name"]) == ("mine", "deleted user")
    assert await code_of(ann, op="user.see", user=bob.session.user.id) == "user_not_found"
    gone = [each for each in await heard(ann, "presence.changed", 2) if not each["online"]]
    assert {each["user_id"] for each in gone} == {bob.session.user.id}  # once per room that they shared


async def test_where_the_last_owner_goes_for_good_another_is_found(
    node: Node, ann: Client, bob: Client
) -> None:
    cleo = await guest(node, "Cleo")
    await cleo.hello()
    room_id = await study_of(ann, cleo, bob)
    await heard(bob, "room.added")
    await ann.ask(op="member.change", room=room_id, user=bob.session.user.id, role="moderator")
    direct = (await ann.ask(op="room.direct", user=cleo.session.user.id))["ok"]["room"]["id"]
    assert await code_of(cleo, op="room.leave", room=direct) == "not_allowed"
    await ann.ask(op="account.delete")
    changed = (await heard(cleo, "member.changed", 2))[-1]
    assert (changed["member"]["user_id"], changed["member"]["role"]) == (bob.session.user.id, "owner")
    assert (await bob.ask(op="room.close", room=room_id))["ok"] == {}
    assert (await cleo.ask(op="room.leave", room=direct))["ok"] == {}
    assert await code_of(cleo, op="room.see", room=direct) == "room_not_found"


async def test_nobody_makes_themselves_an_owner(ann: Client, bob: Client) -> None:
    room_id = (await ann.ask(op="room.create", name="hall"))["ok"]["room"]["id"]
    for key in (bob.session.user.id, bob.session.user.id.upper(), bob.session.user.name, "me"):
        joined = await bob.ask(op="member.add", room=room_id, user=key, role="owner")
        assert joined["ok"]["room"]["role"] == "member"
    assert await code_of(bob, op="member.change", room=room_id, user="me", role="owner") == "not_allowed"


async def test_an_export_goes_on_page_by_page(
    ann: Client, bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_data, "SCANNED", 3)
    said = []
    for name in ("one", "two", "three"):
        room_id = (await ann.ask(op="room.create", name=name))["ok"]["room"]["id"]
        await bob.ask(op="room.join", room=name)
        for number in range(4):
            for client in (ann, bob):
                await client.ask(op="message.send", room=room_id, text=f"{name} {number}")
            said.append(f"{name} {number}")
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = (await ann.ask(op="account.export", cursor=cursor))["ok"]
        found += [message["text"] for message in page["messages"]]
        assert {each["author_id"] for each in page["messages"]} <= {ann.session.user.id}
        cursor, pages = page["next"], pages + 1
    assert sorted(found) == sorted(said)
    assert pages == 9
    assert await code_of(ann, op="account.export", cursor="nonsense") == "invalid_field"


async def test_who_is_back_before_their_leaving_is_told_follows_the_room(
    node: Node, ann: Client, bob: Client
) -> None:
    room_id = await study_of(ann, bob)
    await heard(bob, "room.added")
    bobs = bob.session.user.id
    await node.store.leave(room_id, bobs, now())
    await node.store.join(room_id, bobs, Role.MEMBER, now())
    node.hub.joined(bobs, room_id)
    node.hub.left(bobs, room_id)
    await heard(bob, "room.added", 2)
    await ann.ask(op="message.send", room=room_id, text="welcome back")
    await until(lambda: "welcome back" in str(bob.lines()))
