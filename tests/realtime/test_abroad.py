"""Who is connected to other nodes."""

from parley.realtime.abroad import Abroad


def test_a_user_is_there_as_long_as_any_node_has_them() -> None:
    abroad = Abroad()
    abroad.came("one", "ann", ["lobby", "hall"])
    abroad.came("two", "ann", ["lobby"])
    abroad.came("two", "bob", [])
    assert abroad.users == {"ann", "bob"}
    assert set(abroad.in_room("lobby")) == set(abroad.in_room("hall")) == {"ann"}
    assert abroad.went("one", "ann") == {"lobby", "hall"}
    assert "ann" in abroad
    assert set(abroad.in_room("hall")) == set()
    assert set(abroad.in_room("lobby")) == {"ann"}
    assert abroad.went("two", "ann") == {"lobby"}
    assert "ann" not in abroad
    assert abroad.went("two", "ann") == set()
    assert abroad.went("two", "bob") == set()
    assert abroad._nodes == {} == abroad._rooms


def test_coming_again_tells_where_somebody_is_now() -> None:
    abroad = Abroad()
    abroad.came("one", "ann", ["lobby"])
    abroad.came("one", "ann", ["hall"])
    assert set(abroad.in_room("lobby")) == set()
    assert set(abroad.in_room("hall")) == {"ann"}
    abroad.went("one", "ann")
    assert not abroad.users


def test_what_the_store_says_is_compared() -> None:
    abroad = Abroad()
    abroad.came("one", "ann", [])
    abroad.came("one", "bob", [])
    abroad.came("gone", "cleo", [])
    came, went = abroad.compared({"one": {"ann", "dora"}, "new": {"ann"}})
    assert sorted(came) == [("new", "ann"), ("one", "dora")]
    assert sorted(went) == [("gone", "cleo"), ("one", "bob")]
