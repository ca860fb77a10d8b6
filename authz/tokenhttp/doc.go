// Package tokenhttp asks a token service over HTTP: an [authz.Authorizer] for the
// project's own contract and, by way of presets, for services that were written
// for EMQX, mosquitto-go-auth, VerneMQ or RabbitMQ, for OAuth 2 introspection and
// for any page that answers 200 to a good token.
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
// The service gets
//
//	POST /mqtt
//	{"v":1,"token":"...","username":"...","clientid":"...","reason":"connect"}
//
// with token_b64 (base64) in place of token if that is not UTF-8, and reason one
// of connect, refresh and recheck. It answers with 204 to allow, with 403 to deny,
// or with 200 and a JSON object of at most 256 KiB:
//
//	result            allow, deny or ignore (ask the next source); required
//	reason            why, for the log
//	reason_code       bad_credentials (the token is unknown: the next source is
//	                  asked), not_authorized, banned, busy, use_another_server
//	expire_at         when the token ends, in seconds since 1970
//	expires_in        in how many seconds; the earlier of both counts
//	not_before        when it begins
//	cache_ttl         seconds for which the answer may be reused, 0 for not at all;
//	                  without it, Cache-Control and Age of the answer count
//	stale_if_error    seconds more if the service is unavailable then, 0 for none
//	vary              those variables of the request, in a list, that the answer
//	                  depends on besides the token; [] for none. Without it, all
//	revalidate_after  seconds after which live sessions ask again, at least 30
//	max_session       seconds after which the session ends, at least 30
//	subject           the device, at most 256 bytes; without it the name in
//	                  username if that is a single one, else token_id
//	token_id          the token's handle, at most 128 bytes; without it a hash of
//	                  the token
//	clientid          client identifiers that may use the token: a string or a
//	                  list; one that ends in * stands for all that begin so
//	username          MQTT user names, in the same form
//	upstream          {"username":...,"password":...,"clientid":...} for the broker
//	client_attrs      an object of at most 64 strings, numbers or booleans, for
//	                  templates
//	acl               topic rules, see [authz.ParseACL]; [] allows nothing
//	acl_no_match      deny (without it) or defer, for what no rule fits
//	is_superuser      true: no topic rules, the broker decides
//	limits            refused unless empty: the proxy does not enforce them
//
// What names something may be a string or a whole number. Times and spans may have a
// fraction, and is_superuser may be 0 or 1.
//
// Other fields are passed over, and so are a subject and a token_id that hold the
// token: both are logged.
//
// The user name that a device sends is not its subject, because the holder of one token
// could pass for any device. The exception is a preset for services that check a user
// name and a password (emqx, emqx4, goauth, vernemq, rabbitmq) if the body or the query
// shows both: there it is the subject, and token_id is a hash of both.
//
// # Three outcomes
//
// An answer allows, denies, or is an error, and an error never counts as a denial.
// Everything that the contract does not name is an error: other status codes, redirects,
// text that is not strict JSON, a key that occurs twice or in another case, a value of a
// wrong type, null, a time in milliseconds, a restriction that cannot be enforced. 401
// and 404 are errors too, because they are about the proxy's own credential and about a
// wrong path, unless the Authorization header holds the device's token, in which case
// 401 denies that. Options.DenyStatus and AllowStatus change all this.
//
// A value that cannot be used where a template has it, such as a line end in a header or
// ".." in a path, is a denial, and the service is not asked. An answer that repeats a
// user name or a client id in a field where it is too long is a denial as well.
//
// # Templates
//
// URL, header values and body may hold ${token}, ${token_b64}, ${username},
// ${password}, ${client_id}, ${client_addr}, ${listener}, ${proto},
// ${proto_version}, ${cert_common_name}, ${cert_subject}, ${cert_fingerprint},
// ${cert_pem}, ${reason}, and ${secret} for the content of Options.SecretFile. Package
// placeholder has the other spellings. What is not known of a device is empty. Each
// value is escaped for the place where it stands: path, query, form, JSON string or
// header.
//
// Where no template names the token, ${password} is it: templates that were written
// for EMQX then work as they are for devices that bring the token as the password.
// For devices that bring it as the user name, write "username":"${token}".
//
// # Presets
//
// native; emqx (EMQX 5 and 6, [authz.DeferRest]); emqx4 (with %u, %c, %P, %a, %r,
// %C, %d); goauth (JSON with ok, or the text ok; for services that use the status
// alone, AllowStatus 200); vernemq; introspection (RFC 7662, Require checks iss and
// aud); status (2xx or 401 and 403, the URL or a header must name ${token}); and
// rabbitmq (tags go to client_attrs.tags). Unlike with the original brokers, 4xx and
// 5xx are errors unless the preset names them, and nothing falls through to the next
// source. Restrictions in native answers that the proxy cannot
// enforce make them errors, and so does a mount point of VerneMQ's. Its other modifiers
// are left to the broker, see Options.OnPassedOver.
//
// # The service's health
//
// A call takes at most Options.Timeout, connecting one second. A second try is made
// within that if the first did not reach the service.
//
// A fault that one key or one address meets need not concern the others. The breaker
// opens when five keys and five addresses have met 5xx, or no answer, in a
// row; for one address when five of its keys have. While it is open, five questions a
// second go out about keys never seen, none of which comes from an address that met a
// fault within five seconds, and one a second about keys that were granted before
// ([authz.Request.Known]). The fault of the latter is the answer to all known keys
// until the next; an answer closes the breaker. Answers of any other kind, whatever
// is wrong with them, do not count.
//
// Retry-After with 429 and 503 is honoured for up to 60 s: for the key that was asked
// about, and for an address or for all if five got the same answer there. After 429 the
// error is [authz.ErrBusy], also for known keys; after 503 the service is still asked
// about known keys, once a second in all.
//
// A fault that a question meets while other addresses get decisions is
// [authz.ErrUnanswerable], for the budget of its address.
//
// # Secrets
//
// Errors, denials and [Call] hold no URL, no header and nothing of an answer that
// repeats the token or the password. The files of the proxy's credential are read
// again within a second of a change; if they are bad then, [Stats] has the reason, and
// the last good content stays in use. Redirects are never followed, TLS certificates always
// verified, and HTTP proxies of the environment used only on request.
package tokenhttp
