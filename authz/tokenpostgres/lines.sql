-- The rows as lines of a token file. A line has neither infinity, nor fractions of a second, nor
-- times before 1970 or after the year 5138. What only the table has is in the second and third
-- columns.
SELECT token_id, acl_no_match, is_superuser, '{' || concat_ws(',',
    '"id":' || to_json(token_id),
    '"subject":' || to_json(subject),
    '"token_hash":' || to_json('sha256:' || encode(token_sha256, 'hex')),
    CASE WHEN disabled THEN '"disabled":true' END,
    '"expire_at":' || to_json(to_char(ends AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
    '"not_before":' || to_json(to_char(begins AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
    '"clientid":' || to_json(client_ids),
    '"username":' || coalesce(to_json(username), to_json(usernames)),
    '"password_hash":' || to_json(password_hash),
    '"cidr":' || to_json(cidrs),
    '"certificate":' || to_json(certificates),
    CASE WHEN num_nonnulls(upstream_username, upstream_password, upstream_client_id) > 0 THEN '"upstream":' ||
      json_strip_nulls(json_build_object('username', upstream_username, 'password', upstream_password, 'clientid', upstream_client_id))
    END,
    CASE WHEN role <> 'device' THEN '"role":' || to_json(role) END,
    CASE WHEN gateway THEN '"gateway":true' END,
    '"acl":' || acl::text,
    '"limits":' || limits::text,
    '"client_attrs":' || (SELECT json_object_agg(key, value) FROM jsonb_each_text(attrs)),
    '"created_at":' || to_json(to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
    '"comment":' || to_json(comment)
  ) || '}'
FROM mqtt_auth_proxy.tokens, LATERAL (SELECT
  CASE WHEN expires_at < 'infinity' THEN greatest(least(expires_at, '5138-11-16 09:46:40Z'), '1970-01-01 00:00:01Z') END AS ends,
  CASE WHEN not_before > '1970-01-01 00:00:00Z' THEN greatest(least(not_before, '5138-11-16 09:46:40Z'), '1970-01-01 00:00:01Z') END AS begins
) AS bounded
