"""The chat in this process's memory: nothing survives it. For tests, demos and games."""

from parley.stores.memory.store import MemoryStore as MemoryStore
