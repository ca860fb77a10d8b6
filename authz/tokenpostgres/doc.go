// Package tokenpostgres is a token source that looks up devices in a PostgreSQL database, with a
// query of the operator's own: an [authz.Authorizer] for tokens or for user names and passwords.
// A [Table] edits the tokens in tables of its own.
//
//	source, err := tokenpostgres.New(tokenpostgres.Options{
//		DSNFile: "/run/secrets/dsn",
//		Query:   "SELECT username AS subject, password_hash FROM users WHERE username = @username",
//	})
//	...
//	answers := cache.New(source, ...) // keyed on source.Parts()
//
// # The query
//
// It may use these parameters, and PostgreSQL infers their types:
//
//	@token_sha256  the SHA-256 of the token: compared with bytea the 32 bytes, compared
//	               with text 64 hexadecimal digits in lower case
//	@username      the user name of the CONNECT
//	@client_id     the client identifier of the CONNECT, empty if it has none
//	@address       the IP address of the device, NULL if it is not known
//
// It returns one row for a device that may connect, with columns from this list:
//
//	subject             the device, 1 to 256 bytes; without it that of a pair is the name
//	                    by which it was found, and that of a token is token_id
//	token_id            the name of the token, 1 to 128 bytes; without it a hash of the
//	                    token, or the name
//	password_hash       a hash that package passwordhash knows
//	disabled            true refuses the device
//	expires_at          when the grant ends: a timestamp with time zone, or seconds since
//	                    1970
//	not_before          from when it is valid, in the same form
//	client_ids          client identifiers that may use it: text or text[]; one that ends
//	                    in * matches every id with that prefix
//	usernames           the user names, in the same form
//	certificates        client certificates, see [authz.CheckCertificateName]
//	cidrs               networks: text, inet or cidr, or an array of these
//	acl                 topic rules as JSON, see [authz.ParseACL]; [] allows nothing
//	acl_no_match        deny (default) or defer, for topics that no rule matches
//	is_superuser        true: no topic rules, the broker decides
//	role                device (default), or reader, see [authz.RoleReader]
//	gateway             true lets the device speak for the devices behind it
//	limits              limits of a session as JSON, see [authz.ParseLimits]
//	attrs               a JSON object of at most 64 strings, numbers or booleans
//	upstream_username, upstream_password, upstream_client_id
//	                    credentials for the broker
//
// NULL stands for a value that is not set. Any other column, a column of another type, and a
// timestamp without time zone are faults of the query: a misspelled name might be that of a
// restriction. They are found when the server describes the query, at the start ([Source.Check])
// and on each new connection.
//
// A query that uses @token_sha256 finds tokens. Any other one finds pairs, and must return
// password_hash: a query in which no secret is checked is refused.
//
// # The schema
//
// Without a query the source finds tokens and users in a schema of its own, mqtt_auth_proxy, which
// [Migrate] makes: see schema-1.sql and the steps after it. A device is found by its token, or else
// by its user name. A database that has no such schema, or a version of it that this program cannot
// use, is a fault that is [ErrSchema]. Triggers notify on [SchemaChannel] of rows that are
// withdrawn. Of rows that still let their device in, but allow something else or only until an
// earlier time, [Source.Notify] reports the new grant.
//
// [Table.Update] makes the edits of package tokenfile. It loads the rows that an edit looks up as
// lines of a token file, has them edited there, and writes back what has changed, in one
// transaction. Edits take turns by an advisory lock. What no entry of a file has, such as
// is_superuser, stays as it is, and is given to the new token when a token is rotated.
//
// # Answers
//
// No row means that the device is unknown, so that the next source is asked. With a wrong
// password, or if password_hash is NULL, the denial is [authz.WrongPassword], which ends the
// search. More than one row, a value that cannot be read and an error about a value are no
// answer: they count as [authz.ErrUnavailable] for that device. So does every fault of the
// database. The breaker is that of package tokenhttp: a database that is down is asked less, and
// faults of one device or address do not affect others.
//
// # Connections
//
// A connection is opened when it is needed, and all of them anew when the connection string
// changes. A lookup that meets a broken connection, as after a restart of the server, is
// repeated once. A query that takes too long is canceled at the server. If the tables change,
// the query is described again.
//
// The query is prepared once on each connection. Set Options.Unprepared behind a pooler that
// gives each transaction another connection, such as PgBouncer in transaction mode.
//
// # Notifications
//
// With Options.Channel the source listens on a connection of its own, from [Source.Open] on, and
// [Source.Notify] reports what notifications withdraw. The payload is a JSON object with exactly
// one member:
//
//	{"subject": "pump-7"}     the tokens and pairs of a device
//	{"token_id": "t-1"}       one token
//	{"token_sha256": "2bb8"}  one token by its digest, in 64 hexadecimal digits
//	{"username": "pump-7"}    the pair of a user; for queries that use @username
//
// Any other payload, and more than 10,000 that wait, mean that anything may have changed. So does
// a connection that was lost, once there is another one. Options.OnMissed is called then.
//
// # Secrets
//
// Errors contain no value of a row or a parameter and nothing of the connection string. They
// have the text of the server only when it describes the query, where there are no values yet.
package tokenpostgres
