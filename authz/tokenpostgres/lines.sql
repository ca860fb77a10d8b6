-- The rows as lines of a token file: each column from the fourth on is the field of that name as
-- JSON, or NULL. A line has neither infinity, nor fractions of a second, nor times before 1970 or
-- after the year 5138. What only the table has is in the second and third columns.
SELECT token_id, acl_no_match, is_superuser,
  to_json(token_id)::text AS id,
  to_json(subject)::text AS subject,
  to_json('sha256:' || encode(token_sha256, 'hex'))::text AS token_hash,
  CASE WHEN disabled THEN 'true' END AS disabled,
  to_json(to_char(ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text AS expire_at,
  to_json(to_char(begins AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text AS not_before,
  to_json(client_ids)::text AS clientid,
  coalesce(to_json(username), to_json(usernames))::text AS username,
  to_json(password_hash)::text AS password_hash,
  to_json(cidrs)::text AS cidr,
  to_json(certificates)::text AS certificate,
  CASE WHEN num_nonnulls(upstream_username, upstream_password, upstream_client_id) > 0 THEN
    json_strip_nulls(json_build_object('username', upstream_username, 'password', upstream_password, 'clientid', upstream_client_id))
  END::text AS upstream,
  acl::text AS acl,
  limits::text AS limits,
  (SELECT json_object_agg(key, value) FROM jsonb_each_text(attrs))::text AS client_attrs,
  to_json(to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))::text AS created_at,
  to_json(comment)::text AS comment
FROM mqtt_auth_proxy.tokens, LATERAL (SELECT
  CASE WHEN expires_at < 'infinity' THEN greatest(least(expires_at, '5138-11-16 09:46:40Z'), '1970-01-01 00:00:01Z') END AS ends,
  CASE WHEN not_before > '1970-01-01 00:00:00Z' THEN greatest(least(not_before, '5138-11-16 09:46:40Z'), '1970-01-01 00:00:01Z') END AS begins
) AS bounded
