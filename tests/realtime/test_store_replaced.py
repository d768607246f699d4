"""A store that is emptied under a running server: it does not go on as if nothing had happened."""

from typing import Any

import pytest

from parley import node as node_module
from parley.ids import new_id
from parley.stores.memory import MemoryStore
from tests.realtime.conftest import make_node
from tests.servers import until


async def test_a_server_whose_store_was_replaced_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_module, "WATCH_SECONDS", 0.02)

    class Replaced(MemoryStore):
        now_another: str | None = None

        async def kept(self, name: str) -> str | None:
            return self.now_another or await super().kept(name)

    store = Replaced()
    node = await make_node(store)
    deaths: list[Any] = []
    node.on_death = deaths.append
    try:
        await until(lambda: node.state == "ready")
        store.now_another = new_id()
        await until(lambda: bool(deaths))
        assert deaths == ["store"]
        assert node.state == "broken"
    finally:
        await node.stop()
