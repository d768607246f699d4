-- Reactions as their column keeps them, {emoji: [user id, …]}, with one more or one less. The order of
-- the emoji and of the users is that in which they came, which is why this is not simply jsonb.
CREATE FUNCTION parley_reacted(reactions text, emoji text, who text, adding boolean)
RETURNS text
LANGUAGE sql IMMUTABLE
AS $$
    SELECT json_object_agg(each.emoji, each.users ORDER BY each.place)::text
    FROM (
        SELECT old.key AS emoji, old.place,
            CASE WHEN old.key <> $2 THEN old.value::jsonb
                WHEN adding THEN old.value::jsonb || to_jsonb(who)
                ELSE old.value::jsonb - who END AS users
        FROM json_each($1::json) WITH ORDINALITY AS old (key, value, place)
        UNION ALL
        SELECT $2, 9e9::bigint, jsonb_build_array(who)
        WHERE adding AND NOT coalesce($1::jsonb ? $2, false)
    ) AS each
    WHERE each.users <> '[]'
$$;
