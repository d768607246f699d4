"""Print what is said in all rooms. The queue keeps it while this program is away."""

import asyncio
import os
from typing import Any

from faststream import FastStream
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

broker = RabbitBroker(os.environ.get("BROKER", "amqp://guest:guest@localhost/"))
events = RabbitExchange("parley.events", type=ExchangeType.TOPIC, durable=True)
mine = RabbitQueue("my-service", durable=True, routing_key="#")
known: dict[str, int] = {}  # a real service keeps this where it keeps what it makes of the events


@broker.subscriber(mine, events)
async def hear(event: dict[str, Any]) -> None:
    room, revision = event["room_id"], event.get("revision", 0)
    before = event.get("since", revision - 1)
    if revision <= known.get(room, 0):
        return  # a repeat, or `room.closed`
    if before > known.get(room, before):
        print(f"hole: GET /api/v1/rooms/{room}/changes?since={known[room]}", flush=True)
    known[room] = revision
    if event["event"] == "message.sent":
        print(event["message"]["author_name"], event["message"]["text"], flush=True)


asyncio.run(FastStream(broker).run())
