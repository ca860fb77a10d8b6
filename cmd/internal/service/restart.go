package service

import (
	"reflect"
	"slices"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

// needsRestart returns an error that lists the changed keys in next that a running proxy cannot
// change, or nil if there are none.
func needsRestart(now, next *config.Config) error {
	var faults []config.Fault
	refuse := func(key string, differs bool) {
		if differs {
			faults = append(faults, next.Fault(key, "has changed and needs a restart to take effect; nothing of this configuration is in force until then, or until the key has its old value"))
		}
	}
	withBundled := now.Upstream.Bundled()
	refuse("data", now.Data != next.Data)
	refuse("sandbox", now.Sandbox != next.Sandbox)
	for i, l := range next.Listeners {
		refuse(listenerKey(i)+".reuse_port", slices.ContainsFunc(now.Listeners, func(o config.Listener) bool {
			return o.Address == l.Address && o.ReusePort != l.ReusePort
		}))
	}
	refuse("limits.write_timeout", now.Limits.WriteTimeout != next.Limits.WriteTimeout)
	refuse("log.format", now.Log.Format != next.Log.Format)
	was, is := now.Replicas, next.Replicas
	refuse("replicas.bus", was.Bus != is.Bus)
	refuse("replicas.secret_file", was.SecretFile != is.SecretFile)
	refuse("replicas.topic", was.Topic != is.Topic)
	refuse("replicas.name", was.Name != is.Name)
	refuse("replicas.username", was.Username != is.Username)
	refuse("replicas.password_file", was.PasswordFile != is.PasswordFile)
	refuse("replicas.dsn_file", was.DSNFile != is.DSNFile)
	refuse("upstream.servers", withBundled != next.Upstream.Bundled())
	if withBundled {
		refuse("telemetry.path", now.Telemetry.Path != next.Telemetry.Path)
		refuse("telemetry.retention", now.Telemetry.Retention != next.Telemetry.Retention)
		refuse("telemetry.durability", now.Telemetry.Durability != next.Telemetry.Durability)
		refuse("telemetry.min_free", now.Telemetry.MinFree != next.Telemetry.MinFree)
		refuse("telemetry.max_keys", now.Telemetry.MaxKeys != next.Telemetry.MaxKeys)
		refuse("telemetry.max_bytes", now.Telemetry.MaxBytes != next.Telemetry.MaxBytes)
		refuse("telemetry.reader_queue", now.Telemetry.ReaderQueue != next.Telemetry.ReaderQueue)
		refuse("telemetry.postgres", !reflect.DeepEqual(now.Telemetry.Postgres, next.Telemetry.Postgres))
		refuse("telemetry.cast_text", now.Telemetry.CastText != next.Telemetry.CastText)
		refuse("telemetry.strict_json", now.Telemetry.StrictJSON != next.Telemetry.StrictJSON)
	}
	if faults == nil {
		return nil
	}
	return &config.Error{Faults: faults}
}
