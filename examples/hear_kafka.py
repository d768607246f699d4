"""Print what is said in all rooms. The group's offset remembers how far this program has read."""

import asyncio
import json
import os

from aiokafka import AIOKafkaConsumer


async def main() -> None:
    known: dict[str, int] = {}  # a real service keeps this where it keeps what it makes of the events
    servers = os.environ.get("BROKER", "localhost:9092")
    async with AIOKafkaConsumer(
        "parley.events", bootstrap_servers=servers, group_id="my-service", auto_offset_reset="earliest"
    ) as consumer:
        async for record in consumer:
            event = json.loads(record.value)
            room, revision = event["room_id"], event.get("revision", 0)
            before = event.get("since", revision - 1)
            if revision <= known.get(room, 0):
                continue  # a repeat, or `room.closed`
            if before > known.get(room, before):
                print(f"hole: GET /api/v1/rooms/{room}/changes?since={known[room]}", flush=True)
            known[room] = revision
            if event["event"] == "message.sent":
                print(event["message"]["author_name"], event["message"]["text"], flush=True)


asyncio.run(main())
