"""The composition root: settings in, a server out. The only place that chooses a store and a bus."""

from fastapi import FastAPI

from parley.buses.base import Bus
from parley.config import Settings
from parley.integration.outside import Outside
from parley.node import Node
from parley.stores.base import Store
from parley.web import app as web


def node_from(settings: Settings) -> Node:
    """A node on the store and bus that the settings name."""
    return Node(settings, store_from(settings), bus_from(settings), _outside(settings))


def app_from(settings: Settings) -> FastAPI:
    """An ASGI application that starts and stops its node by itself. For any server, and for mounting."""
    return web.create(node_from(settings))


def store_from(settings: Settings) -> Store:
    """The store that the settings name. Raises `StartError` for a URL that makes no sense."""
    if settings.store.startswith("memory://"):
        from parley.stores.memory import MemoryStore

        return MemoryStore()
    if settings.store.startswith(("redis://", "rediss://")):
        from parley.stores.redis import RedisStore

        return RedisStore(settings.store)
    from parley.stores.sql import SqlStore

    return SqlStore(settings.store, synchronous=settings.sqlite_synchronous)


def bus_from(settings: Settings) -> Bus:
    """The bus that the settings name. Raises `StartError` for a URL that makes no sense."""
    url = settings.bus
    if url.startswith(("redis://", "rediss://")):
        from parley.buses.redis import RedisBus

        return RedisBus(url)
    if url.startswith(("amqp://", "amqps://")):
        from parley.buses.rabbitmq import RabbitBus

        return RabbitBus(url)
    if url.startswith("kafka://"):
        from parley.buses.kafka import KafkaBus

        return KafkaBus(url)
    if url.startswith("postgresql://"):
        from parley.buses.postgres import PostgresBus

        return PostgresBus(url)
    from parley.buses.memory import MemoryBus

    return MemoryBus()


def _outside(settings: Settings) -> Outside | None:
    """How other services are reached: over the broker of the bus, where it can keep what they are told."""
    url = settings.bus
    if url.startswith(("amqp://", "amqps://")):
        from parley.integration import rabbitmq

        return Outside(lambda: rabbitmq.RabbitEvents(url), lambda: rabbitmq.RabbitPosts(url), rabbitmq.reason)
    if url.startswith("kafka://"):
        from parley.integration import kafka

        servers = kafka.servers_of(url)
        return Outside(lambda: kafka.KafkaEvents(servers), lambda: kafka.KafkaPosts(servers), kafka.reason)
    return None
