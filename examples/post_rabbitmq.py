"""Post a message through RabbitMQ and print the answer: `python post_rabbitmq.py "It will rain"`."""

import asyncio
import json
import os
import sys
from uuid import uuid4

import aio_pika


async def main(text: str) -> None:
    async with await aio_pika.connect(
        os.environ.get("BROKER", "amqp://guest:guest@localhost/")
    ) as connection:
        channel = await connection.channel(on_return_raises=True)
        answers = await channel.declare_queue(exclusive=True)
        post = {"user": "weather", "room": "default", "text": text, "id": str(uuid4())}
        message = aio_pika.Message(
            json.dumps(post).encode(),
            reply_to=answers.name,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        # Returned, and raised here, where there is no such queue: no Parley has been started there yet.
        await channel.default_exchange.publish(message, "parley.messages", mandatory=True)
        async with answers.iterator(timeout=10) as arriving:
            async for answer in arriving:
                print(answer.body.decode())
                return


asyncio.run(main(sys.argv[1]))
