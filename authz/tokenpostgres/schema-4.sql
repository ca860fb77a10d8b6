-- Version 4. A device that is a gateway may speak for the devices behind it, and a reader may read what
-- devices send. A change of that withdraws the row, because the broker knows a session by what it was at
-- its start.
ALTER TABLE mqtt_auth_proxy.tokens ADD COLUMN gateway boolean NOT NULL DEFAULT false;
ALTER TABLE mqtt_auth_proxy.tokens ADD COLUMN role text NOT NULL DEFAULT 'device' CHECK (role IN ('device', 'reader'));
UPDATE mqtt_auth_proxy.version SET version = 4;
