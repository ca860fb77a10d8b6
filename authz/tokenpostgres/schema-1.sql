-- Version 1. A row is a token, or a user name with a password hash.
CREATE SCHEMA mqtt_auth_proxy;

CREATE TABLE mqtt_auth_proxy.version (version integer NOT NULL);
INSERT INTO mqtt_auth_proxy.version VALUES (1);

CREATE TABLE mqtt_auth_proxy.tokens (
  token_id text PRIMARY KEY CHECK (octet_length(token_id) BETWEEN 1 AND 128),
  subject text NOT NULL CHECK (octet_length(subject) BETWEEN 1 AND 256),
  token_sha256 bytea UNIQUE CHECK (octet_length(token_sha256) = 32),
  username text UNIQUE CHECK (username <> ''),
  password_hash text CHECK (password_hash <> ''),
  disabled boolean NOT NULL DEFAULT false,
  expires_at timestamptz,
  not_before timestamptz,
  client_ids text[] CHECK (client_ids <> '{}'),
  usernames text[] CHECK (usernames <> '{}'),
  certificates text[] CHECK (certificates <> '{}'),
  cidrs cidr[] CHECK (cidrs <> '{}'),
  acl jsonb,
  acl_no_match text CHECK (acl_no_match IN ('deny', 'defer')),
  is_superuser boolean NOT NULL DEFAULT false,
  limits jsonb,
  attrs jsonb,
  upstream_username text,
  upstream_password text,
  upstream_client_id text,
  created_at timestamptz NOT NULL DEFAULT now(),
  comment text,
  CHECK ((token_sha256 IS NULL) <> (username IS NULL)),
  CHECK ((username IS NULL) = (password_hash IS NULL))
);
CREATE INDEX ON mqtt_auth_proxy.tokens (subject);

-- Every proxy hears of rows that are withdrawn. A later expiry, a comment and the time at which a
-- row was made withdraw nothing.
CREATE FUNCTION mqtt_auth_proxy.withdraw() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' THEN
    PERFORM pg_notify('mqtt_auth_proxy', 'all');
  ELSIF TG_OP = 'DELETE' OR
      to_jsonb(OLD) - '{expires_at,created_at,comment}'::text[] <> to_jsonb(NEW) - '{expires_at,created_at,comment}'::text[] OR
      coalesce(NEW.expires_at, 'infinity') < coalesce(OLD.expires_at, 'infinity') THEN
    PERFORM pg_notify('mqtt_auth_proxy', json_build_object('token_id', OLD.token_id)::text);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER withdraw AFTER UPDATE OR DELETE ON mqtt_auth_proxy.tokens
  FOR EACH ROW EXECUTE FUNCTION mqtt_auth_proxy.withdraw();
CREATE TRIGGER withdraw_all AFTER TRUNCATE ON mqtt_auth_proxy.tokens
  FOR EACH STATEMENT EXECUTE FUNCTION mqtt_auth_proxy.withdraw();
