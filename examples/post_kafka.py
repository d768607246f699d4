"""Post a message through Kafka: `python post_kafka.py "It will rain"`."""

import asyncio
import json
import os
import sys
from uuid import uuid4

from aiokafka import AIOKafkaProducer


async def main(text: str) -> None:
    post = {"user": "weather", "room": "default", "text": text, "id": str(uuid4())}
    servers = os.environ.get("BROKER", "localhost:9092")
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        # Those with one key are in one partition, and so stay in their order.
        await producer.send_and_wait("parley.messages", json.dumps(post).encode(), key=b"weather")


asyncio.run(main(sys.argv[1]))
