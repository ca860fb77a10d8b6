// Package tokenhttp asks a token service over HTTP. Its [authz.Authorizer] supports the
// project's own contract and, with presets, services that were written for EMQX,
// mosquitto-go-auth, VerneMQ or RabbitMQ, OAuth 2 introspection, and any page that answers 200
// to a valid token.
//
//	source, err := tokenhttp.New(tokenhttp.Options{
//		URL:        "https://auth.example/mqtt",
//		BearerFile: "/run/secrets/proxy-token",
//	})
//	...
//	answers := cache.New(source, ...) // keyed on source.Parts()
//
// # The native contract
//
// The service receives
//
//	POST /mqtt
//	{"v":1,"token":"...","username":"...","clientid":"...","reason":"connect"}
//
// with token_b64 (base64) instead of token if that is not UTF-8, and a reason that is connect,
// refresh or recheck. It answers with 204 to allow, with 403 to deny, or with 200 and a JSON
// object of at most 256 KiB:
//
//	result            allow, deny or ignore (ask the next source); required
//	reason            why, for the log
//	reason_code       bad_credentials (the token is unknown; the next source is
//	                  asked), not_authorized, banned, busy, use_another_server
//	expire_at         when the token expires, in seconds since 1970
//	expires_in        in how many seconds it expires; the earlier of both counts
//	not_before        from when it is valid
//	cache_ttl         seconds for which the answer may be reused, 0 for not at all;
//	                  without it, Cache-Control and Age of the answer count
//	stale_if_error    further seconds if the service is unavailable then, 0 for none
//	vary              a list of those variables of the request that the answer
//	                  depends on besides the token; [] for none. Without it: all
//	revalidate_after  seconds after which live sessions ask again, at least 30
//	max_session       seconds after which the session ends, at least 30
//	subject           the device, at most 256 bytes; without it the name in
//	                  username if that is a single one, else token_id
//	token_id          the name of the token, at most 128 bytes; without it a hash of
//	                  the token
//	clientid          client identifiers that may use the token: a string or a
//	                  list; one that ends in * matches every id with that prefix
//	username          MQTT user names, in the same form
//	upstream          {"username":...,"password":...,"clientid":...} for the broker
//	client_attrs      an object of at most 64 strings, numbers or booleans, for
//	                  templates
//	acl               topic rules, see [authz.ParseACL]; [] allows nothing
//	acl_no_match      deny (default) or defer, for topics that no rule matches
//	is_superuser      true: no topic rules, the broker decides
//	role              device (default), or reader, see [authz.RoleReader]
//	gateway           true lets the device speak for the devices behind it
//	limits            what bounds the device's sessions, see [authz.ParseLimits]
//
// Names may be strings or whole numbers. Times and durations may have a fraction, and
// is_superuser and gateway may be 0 or 1.
//
// Other fields are ignored. So are a subject and a token_id that contain the token, because
// both are logged.
//
// The user name that a device sends is not its subject, because the holder of one token could
// impersonate any device. The exception is a preset for services that check a user name and a
// password (emqx, emqx4, goauth, vernemq, rabbitmq) if the body or the query contains both:
// then the user name is the subject, and token_id is a hash of both.
//
// # Three outcomes
//
// An answer allows, denies, or is an error, and an error never counts as a denial. Everything
// that the contract does not mention is an error: other status codes, redirects, text that is
// not strict JSON, a key that occurs twice or in another case, a value of a wrong type, null, a
// time in milliseconds, and a restriction that cannot be enforced. 401 and 404 are errors, too,
// because they mean a wrong credential of the proxy and a wrong path. If the Authorization
// header contains the device's token, 401 is a denial. Options.DenyStatus and AllowStatus
// override this.
//
// If a value cannot be used at its place in a template, such as a line end in a header or ".."
// in a path, the device is denied and the service is not asked. If an answer repeats a user
// name or a client id in a field for which it is too long, the device is denied as well.
//
// # Templates
//
// URL, header values and body may contain ${token}, ${token_b64}, ${username}, ${password},
// ${client_id}, ${client_addr}, ${listener}, ${proto}, ${proto_version}, ${cert_common_name},
// ${cert_subject}, ${cert_fingerprint}, ${cert_pem}, ${reason}, and ${secret} for the content
// of Options.SecretFile. Package placeholder has the other spellings. A value that is not known
// is empty. Each value is escaped for its place: path, query, form, JSON string or header.
//
// If no template uses ${token}, ${password} is the token: templates that were written for EMQX
// then work unchanged for devices that send the token as the password. For devices that send it
// as the user name, write "username":"${token}".
//
// # Presets
//
// native; emqx (EMQX 5 and 6, [authz.DeferRest]); emqx4 (with %u, %c, %P, %a, %r, %C, %d);
// goauth (JSON with ok, or the text ok; for services that use the status alone, AllowStatus
// 200); vernemq; introspection (RFC 7662, Require checks iss and aud); status (2xx or 401 and
// 403; the URL or a header must contain ${token}); and rabbitmq (tags go to client_attrs.tags).
// Unlike with the original brokers, 4xx and 5xx are errors unless the preset mentions them, and
// errors do not fall through to the next source. Native answers with restrictions that the
// proxy cannot enforce are errors, and so are VerneMQ answers with a mount point. The other
// modifiers of VerneMQ are left to the broker, see Options.OnPassedOver.
//
// # The service's health
//
// A call takes at most Options.Timeout, of which connecting takes at most one second. If the
// first attempt did not reach the service, there is a second one within that time.
//
// A fault that one key or one address meets need not affect others. The breaker opens if five
// keys and five addresses in a row have met 5xx or no answer; for a single address it opens if
// five of its keys have. While it is open, the service is still asked five times per second
// about unknown keys, but not for an address that met a fault in the last five seconds, and
// once per second about keys that were granted before ([authz.Request.Known]). If the latter
// question fails, its fault is the answer for all known keys until the next one. An answer
// closes the breaker. Other kinds of faulty answers do not count.
//
// Retry-After with 429 and 503 is honored for up to 60 s: for the key that was asked about, and
// for an address or for all if five got the same answer there. After 429 the error is
// [authz.ErrBusy], also for known keys. After 503 the service is still asked about known keys,
// once per second in total.
//
// A fault while other addresses get decisions is [authz.ErrUnanswerable], which counts against
// the budget of the address.
//
// # Secrets
//
// Errors, denials and [Call] contain no URL, no header, and nothing of an answer that contains
// the token or the password. The files of the proxy's credential are read again within a second
// after a change. If they are invalid, [Stats] has the reason, and the last valid content stays
// in use. Redirects are never followed, TLS certificates are always verified, and HTTP proxies
// from the environment are used only if Options.ProxyFromEnvironment is set.
package tokenhttp
