"""The chat in Redis, or in a Redis Cluster.

What is acknowledged is as durable as Redis makes it: with `appendonly yes` and `appendfsync always` it
survives a power cut, with `everysec` the last second may be lost, and without AOF everything since the last
snapshot. A failover to a replica may lose what the replica had not heard of.

All that belongs to a room lies in one slot of a cluster, by the tag in braces, and changes in one script:

    parley:{room:ID}                  hash: its settings and counters, a field each; fields that are None
                                      are missing. `first_seq` is that of its oldest message. A closed one
                                      has `closed_at`, and stays until it is purged
    parley:{room:ID}:messages         hash: seq -> "REVISION ID [author_id, author_name, kind, text, …]"
    parley:{room:ID}:ids              hash: message id -> seq
    parley:{room:ID}:revisions        sorted set: seq, by the revision of its last change
    parley:{room:ID}:members          hash: user id -> "REVISION {name, display_name, role, …}", also of
                                      those who have left
    parley:{room:ID}:member-revisions sorted set: user id, by revision, of those whose membership was stamped
    parley:{room:ID}:roles            hash: user id -> role, of those who are in
    parley:{room:ID}:present          sorted set of the same user ids, all with score 0: in their order
    parley:{room:ID}:marks            hash: user id -> read mark

So does what must agree when a user is removed:

    parley:{user:ID}                  JSON of a user; "TIME JSON" of one who was removed then, or "TIME NAME
                                      JSON" of one who wanted it, until the name was given back
    parley:{user:ID}:password         the hash of their password
    parley:{user:ID}:rooms            sorted set: rooms that the user may be in, by the second of joining
    parley:{user:ID}:left             set: rooms where a tombstone of the user may be
    parley:{user:ID}:created          sorted set: rooms that the user may have created, by the second
    parley:{user:ID}:sessions         sorted set: their sessions, by the millisecond in which they end

and the lists of people, which are counted together:

    parley:{people}                   sorted set of all user ids, all with score 0, also of those removed
    parley:{people}:guests            sorted set: guests, by the millisecond in which they were last seen
    parley:{people}:removed           sorted set: those removed, by the millisecond; without end where a
                                      tombstone names them

who is connected:

    parley:{nodes}                    sorted set: nodes, by the millisecond until when what they said holds
    parley:{nodes}:ID                 set: users connected to that node, and an empty one; expires then

The rest is single keys, any of which may lie in another slot:

    parley:user-name:NAME             "ID SECONDS": who has the name, claimed when
    parley:room-name:NAME             "ID SECONDS"
    parley:rooms                      sorted set: open rooms, all with score 0
    parley:public-rooms               sorted set: those of them that are or were public, all with score 0
    parley:expiring-rooms             sorted set: open rooms, by the millisecond of `expires_at`
    parley:due-rooms                  sorted set: rooms that may be empty and to close, or whose closing or
                                      change was begun, by the second; looked at whatever the list above says
    parley:closed-rooms               sorted set: closed rooms, by the millisecond of `closed_at`
    parley:coming                     sorted set: "user ID" or "room ID" of whose coming or whose removal was
                                      begun, by the second
    parley:moved                      sorted set: users, by the millisecond in which they came into a room or
                                      left one last
    parley:session:ID                 hash: a session
    parley:sessions                   sorted set: "ID USER" of all sessions and whose they are, by the
                                      millisecond in which they end
    parley:sent:MINUTE                messages that came in that minute since the epoch; goes after two hours
    parley:kept:NAME                  what was kept

All sorted sets and sets outside a room but those of nodes are only lists of where to look; the record has the
say. A list may name what is not there, but never lacks what is. The list of guests may place somebody too
early, those of sessions may say too late, and who looks there finds out. Only the lists of public and of
expiring rooms may lack one whose settings just change: that is in the list of due ones; and that of a user's
sessions one that is just made: that is in the list of all.

Who may do what in a room is asked of `parley.permissions`, about what was read of the room; the script that
then does it compares that with the room, and where it has changed, the rule is asked again (`standing.py`).

A step over several slots does first what is harmless alone. What begins takes its place in the lists before
it is there; what ends is marked as ended in one script, for one caller, and leaves last the list by which
it was found. So who finds something there that has ended already does the rest again, which changes nothing
where it was done: `close_due_rooms` for rooms, `expire_guests` for guests, for those who wanted to go
`remove_user` and a minute later `purge`, `purge` for sessions and for what is left of rooms. A crash in the
midst of a step leaves one of these:

- a name that leads nowhere; whoever wants it a minute later gets it (`claim.lua`);
- an account that nobody has a token for, perhaps not yet in its rooms; its name stays taken;
- an id in the lists of users or rooms that never came; `purge` takes it out a minute later by `coming`, and
  until then such a user is counted, and both are for `PARLEY_MAX_USERS` and `PARLEY_MAX_ROOMS`;
- an id in a user's lists of rooms that the user is not in or that does not exist; `rooms_of` and
  `expire_guests` clean up what they find (`forget.lua`);
- a room that is closed, or a user who is removed, and that no step finds any more, but whose name is taken
  until the next call has finished it; nobody is told of it then, if the caller is gone. Until then the
  removed user is a member of rooms, there still under the old name;
- a room in the list of due ones that is not due; `close_due_rooms` takes it out a minute later, and gives it
  its places in the other lists;
- a session in the lists without its record, or one that nobody has a token for and that its user's list
  lacks, until `purge` comes upon it;
- up to a second's worth of messages that were stored but not counted in `sent`.
"""

from parley.stores.redis.store import RedisStore as RedisStore
