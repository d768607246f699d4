"""Connections that live: one session per client, one hub per node."""
