"""The chat in Redis, or in a Redis Cluster.

What is acknowledged is as durable as Redis makes it: with `appendonly yes` and `appendfsync always` it
survives a power cut, with `everysec` the last second may be lost, and without AOF everything since the last
snapshot. A failover to a replica may lose what the replica had not heard of.

All that belongs to a room lies in one slot of a cluster, by the tag in braces, and changes in one script:

    parley:{room:ID}                  hash: its settings and counters, a field each; fields that are None
                                      are missing. `first_seq` is that of its oldest message
    parley:{room:ID}:messages         hash: seq -> "REVISION ID [author_id, author_name, kind, text, …]"
    parley:{room:ID}:ids              hash: message id -> seq
    parley:{room:ID}:revisions        sorted set: seq, by the revision of its last change
    parley:{room:ID}:members          hash: user id -> "REVISION {name, display_name, role, …}", also of
                                      those who have left
    parley:{room:ID}:member-revisions sorted set: user id, by revision; empty in a public room
    parley:{room:ID}:roles            hash: user id -> role, of those who are in
    parley:{room:ID}:present          sorted set of the same user ids, all with score 0: in their order
    parley:{room:ID}:marks            hash: user id -> read mark

The rest is single keys, any of which may lie in another slot:

    parley:user:ID                    JSON of a user
    parley:user-name:NAME             "ID SECONDS": who has the name, claimed when
    parley:user-rooms:ID              sorted set: rooms that the user may be in, by the time of joining
    parley:room-name:NAME             "ID SECONDS"
    parley:public-rooms               sorted set of room ids, all with score 0
    parley:session:HASH               hash: a session
    parley:session-hash:ID            the session's token hash
    parley:kept:NAME                  what was kept

A step over several slots does first what is harmless alone. A crash in the midst of it leaves one of these:

- a name that leads nowhere; whoever wants it a minute later gets it (`claim.lua`);
- an account that nobody has a token for, perhaps not yet in its rooms; its name stays taken;
- an id in `user-rooms` or `public-rooms` of a room that the user is not in, or that does not exist; both are
  only lists of where to look, the room has the say, and `rooms_of` cleans up what it finds (`forget.lua`);
- a token hash without session, a few dozen bytes that stay.
"""

from parley.stores.redis.store import RedisStore as RedisStore
