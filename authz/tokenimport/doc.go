// Package tokenimport reads the credentials that other programs have exported, as drafts of entries
// of a token file, and writes the entries of a token file as a table.
//
//	found, err := tokenimport.Read(f, tokenimport.Options{Format: tokenimport.Mosquitto, Source: "passwd"})
//	...
//	batch, err := tokenfile.NewBatch(ctx, "passwd", found.Drafts, tokenfile.BatchOptions{})
//	...
//	err = tokenfile.Update(path, true, func(e *tokenfile.Edit) error {
//		_, err := e.Import(batch, tokenfile.RefuseExisting)
//		return err
//	})
//
// # Formats
//
// The format is never guessed from the content.
//
// [JSONL] is that of a token file, with the differences that [tokenfile.Draft] describes: a token
// file or a part of one is good.
//
// [CSV] is a table (RFC 4180) with commas, whose first row names the columns like the fields of a
// token file. An empty cell is a field that is absent. In a column that may hold several values a
// cell that begins with [ is a JSON list, every other cell one value. The columns upstream, acl,
// limits and client_attrs hold JSON; upstream.NAME, limits.NAME and client_attrs.NAME hold one
// value of it.
//
// [Mosquitto] has lines of user name, colon and hash, as mosquitto_passwd, htpasswd and
// mosquitto-go-auth write them. The hash is one that package passwordhash reads.
//
// [EMQX] is what EMQX exports from its built-in database and imports into it: a table with the
// columns user_id, password_hash, salt and is_superuser, or, in a file whose name ends in .json, a
// list of objects with these keys. How the hashes were made is a setting of EMQX and not in the
// file: Options.Hash has it. The user id is the user name. An entry has no more rights than
// others, whatever is_superuser says.
//
// [ThingsBoard] is a table with the column name and those that the bulk import of ThingsBoard calls
// access token, MQTT client ID, MQTT user name, MQTT password and X.509; or with the columns name,
// credentials_type, credentials_id and credentials_value, which is a query of the database away. A
// column is_gateway, of the bulk import too, says true of a gateway.
// Other columns are passed over. Lower and upper case are the same in names of columns, and so are
// blanks and underscores. A user name without a password is a token.
//
// [HiveMQ] is the credentials.xml of its File RBAC extension. The hashes are those that the
// extension's generator writes; with Options.Hash "plain" the passwords are texts. The permissions
// of a user's roles become topic rules. Permissions that depend on whether a subscription is shared
// are faults, because topic rules cannot say that. A DOCTYPE, unknown elements and entities other
// than the five of XML are faults too.
//
// # Errors
//
// A source is taken as a whole or refused as a whole. The faults that [Read] finds are among the
// drafts, so that [tokenfile.NewBatch] reports them together with its own: up to 20, each with its
// line and none with a secret.
package tokenimport
