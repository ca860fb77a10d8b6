-- Version 3. When each device and each token was seen. The subjects of devices come from all sources,
-- so that they need no row in tokens. proxy is where the device is connected, or NULL.
CREATE TABLE mqtt_auth_proxy.devices (
  subject text COLLATE "C" PRIMARY KEY,
  first_seen timestamptz NOT NULL,
  last_seen timestamptz NOT NULL,
  address inet,
  proxy text
);
CREATE INDEX devices_last_seen ON mqtt_auth_proxy.devices (last_seen);
CREATE INDEX devices_connected ON mqtt_auth_proxy.devices (subject) WHERE proxy IS NOT NULL;
CREATE INDEX devices_away ON mqtt_auth_proxy.devices (subject) WHERE proxy IS NULL;

CREATE TABLE mqtt_auth_proxy.token_uses (
  token_id text PRIMARY KEY,
  last_seen timestamptz NOT NULL
);
CREATE INDEX token_uses_last_seen ON mqtt_auth_proxy.token_uses (last_seen);

UPDATE mqtt_auth_proxy.version SET version = 3;
