-- Applies a batch of changes to any rooms, in order, and says for each what became of it:
-- 'fresh', 'stored' (nothing was left to do), or the code of the refusal. The rules are those of
-- `parley.stores.base`; the contract tests hold both to them.
--
-- The rooms are locked before anything is read, and always in the order of their ids: every statement
-- that follows sees what other nodes committed before, and two nodes cannot wait for each other. Rooms
-- know nothing of one another, so that each is gone through by itself and its row is written once.
CREATE FUNCTION parley_append(
    ops text[], room_ids text[], ids text[], user_ids text[], names text[], kinds text[], texts text[],
    replies text[], ats bigint[], max_reactions integer
)
RETURNS TABLE (place bigint, outcome text, given_seq bigint, given_revision bigint, stored text)
LANGUAGE plpgsql
-- Plans are kept, and are made while the tables may still be empty, where one index seems as good as
-- another: what looks a message up is therefore planned each time (EXECUTE).
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    change record;
    room rooms;
    done rooms[] := '{}';
    here text;
    message messages;
    find constant text := 'SELECT * FROM messages WHERE room_id = $1 AND id = $2';
    who text;
    role_here text;
    refusal text;
    reacted boolean;
    cut bigint;
    sent bigint := 0;
    trimmed bigint := 0;
BEGIN
    PERFORM FROM rooms WHERE id = ANY (room_ids) ORDER BY id FOR NO KEY UPDATE;

    FOR change IN
        SELECT * FROM unnest(ops, room_ids, ids, user_ids, names, kinds, texts, replies, ats)
            WITH ORDINALITY AS c (op, room_id, id, user_id, name, kind, words, reply_to, at, place)
        ORDER BY c.room_id, c.place
    LOOP
        place := change.place;
        given_seq := NULL;
        given_revision := NULL;
        stored := NULL;
        IF here IS DISTINCT FROM change.room_id THEN
            IF room.id IS NOT NULL THEN
                done := array_append(done, room);
            END IF;
            here := change.room_id;
            who := NULL;
            -- By its id alone: for open rooms the planner may take the index of their names, all of it.
            SELECT * INTO room FROM rooms WHERE id = here;
        END IF;
        IF room.id IS NULL OR room.closed_at IS NOT NULL THEN
            outcome := 'room_not_found';
            RETURN NEXT;
            CONTINUE;
        END IF;
        IF who IS DISTINCT FROM change.user_id THEN
            who := change.user_id;
            SELECT role INTO role_here FROM members
                WHERE room_id = here AND user_id = who AND left_at IS NULL;
        END IF;
        refusal := NULL;
        IF role_here IS NULL THEN
            refusal := CASE room.kind WHEN 'public' THEN 'not_a_member' ELSE 'room_not_found' END;
        END IF;

        IF change.op = 'send' THEN
            IF refusal IS NULL THEN
                IF role_here NOT IN ('owner', 'moderator') AND (room.read_only OR role_here <> 'member') THEN
                    refusal := 'read_only_room';
                ELSIF change.reply_to IS NOT NULL THEN
                    EXECUTE find INTO message USING here, change.reply_to;
                    IF message.id IS NULL THEN
                        refusal := 'reply_not_found';
                    END IF;
                END IF;
            END IF;
            IF refusal IS NULL THEN
                INSERT INTO messages
                    (room_id, seq, id, revision, author_id, author_name, kind, text, reply_to, sent_at)
                VALUES (
                    here, room.last_seq + 1, change.id, room.revision + 1, who, change.name, change.kind,
                    change.words, change.reply_to, change.at
                ) ON CONFLICT (room_id, id) DO NOTHING;
                IF FOUND THEN
                    room.last_seq := room.last_seq + 1;
                    room.revision := room.revision + 1;
                    room.last_message_at := change.at;
                    sent := sent + 1;
                    outcome := 'fresh';
                    given_seq := room.last_seq;
                    given_revision := room.revision;
                    RETURN NEXT;
                    CONTINUE;
                END IF;
            END IF;
            -- The id may be there already, and then whoever may see the room gets the answer to it.
            EXECUTE find INTO message USING here, change.id;
            IF message.id IS NOT NULL AND refusal IS DISTINCT FROM 'room_not_found' THEN
                refusal := NULL;
            END IF;
            outcome := coalesce(refusal, 'stored');
        ELSIF refusal IS NOT NULL THEN
            outcome := refusal;
        ELSE
            EXECUTE find INTO message USING here, change.id;
            outcome := 'fresh';
            IF message.id IS NULL OR (message.deleted_at IS NOT NULL AND change.op <> 'delete') THEN
                outcome := 'message_not_found';
            ELSIF change.op = 'edit' THEN
                IF message.author_id <> who THEN
                    outcome := 'not_your_message';
                ELSIF message.text = change.words THEN
                    outcome := 'stored';
                ELSE
                    message.text := change.words;
                    message.edited_at := change.at;
                END IF;
            ELSIF change.op = 'delete' THEN
                IF message.author_id <> who AND role_here NOT IN ('owner', 'moderator') THEN
                    outcome := 'not_your_message';
                ELSIF message.deleted_at IS NOT NULL THEN
                    outcome := 'stored';
                ELSE
                    message.text := '';
                    message.deleted_at := change.at;
                    message.reactions := NULL;
                END IF;
            ELSE
                reacted := coalesce((message.reactions::jsonb -> change.words) ? who, false);
                IF reacted = (change.op = 'react') THEN
                    outcome := 'stored';
                ELSIF NOT reacted AND NOT coalesce(message.reactions::jsonb ? change.words, false) AND
                    (SELECT count(*) FROM json_object_keys(message.reactions::json)) >= max_reactions
                THEN
                    outcome := 'limit_reached';
                ELSE
                    message.reactions := parley_reacted(message.reactions, change.words, who, NOT reacted);
                END IF;
            END IF;
            IF outcome = 'fresh' THEN
                room.revision := room.revision + 1;
                message.revision := room.revision;
                EXECUTE 'UPDATE messages SET revision = $3, text = $4, edited_at = $5, deleted_at = $6,
                    reactions = $7 WHERE room_id = $1 AND seq = $2'
                USING here, message.seq, message.revision, message.text, message.edited_at,
                    message.deleted_at, message.reactions;
            END IF;
        END IF;
        IF outcome IN ('fresh', 'stored') THEN
            stored := json_build_array(
                message.room_id, message.seq, message.id, message.revision, message.author_id,
                message.author_name, message.kind, message.text, message.reply_to, message.sent_at,
                message.edited_at, message.deleted_at, message.reactions
            );
        END IF;
        RETURN NEXT;
    END LOOP;

    IF room.id IS NOT NULL THEN
        done := array_append(done, room);
    END IF;
    FOREACH room IN ARRAY done LOOP
        cut := room.last_seq - room.history_limit + 1;
        IF cut > room.first_seq THEN
            EXECUTE 'WITH gone AS (DELETE FROM messages WHERE room_id = $1 AND seq < $2 RETURNING revision)
                SELECT greatest($3, max(revision)) FROM gone'
            INTO room.trimmed_revision USING room.id, cut, room.trimmed_revision;
            trimmed := trimmed + cut - room.first_seq;
            room.first_seq := cut;
        END IF;
        UPDATE rooms SET first_seq = room.first_seq, last_seq = room.last_seq,
            last_message_at = room.last_message_at, revision = room.revision,
            trimmed_revision = room.trimmed_revision
        WHERE id = room.id AND (revision <> room.revision OR first_seq <> room.first_seq);
    END LOOP;

    IF sent > 0 OR trimmed > 0 THEN
        -- As `parley.stores.sql.counters` does it. Last, because these rows are shared by all rooms.
        INSERT INTO counters AS c (name, minute, shard, value) VALUES
            ('messages', 0, pg_backend_pid() % 16, sent - trimmed),
            ('sent', floor(extract(epoch FROM now()) / 60)::bigint, pg_backend_pid() % 16, sent)
        ON CONFLICT (name, minute, shard) DO UPDATE SET value = c.value + excluded.value;
    END IF;
END
$$;
