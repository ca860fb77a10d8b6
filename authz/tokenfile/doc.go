// Package tokenfile stores tokens in a file. It has an [authz.Authorizer] that answers from the
// file and notices its changes ([Open]), and edits for a command line ([Create], [Rotate],
// [Extend], [Revoke], [Disable], [Enable], [ReadPage], [Show], [Lint]), which any number of
// processes may use at once. [Update] makes several changes in one edit, and [NewBatch] checks
// entries from elsewhere for [Edit.Import]. [EditLines] makes the same edits of entries in another
// store, such as a database.
//
//	made, err := tokenfile.Create("tokens.jsonl", tokenfile.CreateOptions{Name: "pump-7"})
//	...
//	file, err := tokenfile.Open("tokens.jsonl", tokenfile.Options{})
//	...
//	grant, err := file.Authorize(ctx, request)
//
// # Format
//
// The file is JSON Lines in UTF-8: one object on a line, of at most 64 KiB. Blank
// lines and lines that begin with # are skipped.
//
//	{"format":"mqtt-auth-tokens/1"}
//	# the pumps
//	{"id":"pump-7-k3x2aa","subject":"pump-7","token_hash":"sha256:9f86d0...","expire_at":"2027-01-31T12:00:00Z"}
//	{"end":true,"count":1}
//
// The first line names the format and is optional. The last line is optional, too; it has the
// number of entries, which shows that none is missing. An entry has these fields:
//
//	id            the name of the token, 1 to 128 bytes, unique; required
//	token_hash    "sha256:" and the SHA-256 of the token in 64 hexadecimal digits
//	              or 43 characters of unpadded base64url, unique; required, unless
//	password_hash is there: the hash of a password in a form that package passwordhash
//	              reads. The device shows it with the user name in username, which is
//	              then a single one, unique among such entries
//	subject       the device, 1 to 256 bytes; if absent, the id, or the user name next
//	              to a password_hash. Tokens of the same subject are valid at the same
//	              time, so that they can be replaced
//	expire_at     the time at which the token expires
//	not_before    the time from which it is valid; both in seconds since 1970, or as a
//	              string such as "2027-01-31T12:00:00Z" (RFC 3339)
//	disabled      true disables the token
//	clientid      the client identifiers that may use the token: a string or a list
//	              of them; one that ends in * matches every id with that prefix
//	username      the MQTT user names, in the same form
//	cidr          the networks it may be used from: "10.0.0.0/8", "10.1.2.3" or a list
//	certificate   the client certificates it may be used with: the SHA-256 of one in 64
//	              hexadecimal digits, "cn:NAME" or "san:NAME", or a list of them
//	upstream      {"username":...,"password":...,"clientid":...} for the broker
//	role          "reader" lets a program read what devices send, see [authz.RoleReader]; "device"
//	              by default
//	gateway       true lets the device speak for the devices behind it
//	acl           what its sessions may publish and subscribe to, see [authz.ParseACL]
//	limits        what bounds its sessions, see [authz.ParseLimits]
//	client_attrs  an object of strings for templates and topic rules, at most 64
//	created_at    when the token was made, in the form of expire_at
//	comment       anything
//
// [File] answers about tokens, and [File.Users] about user names and passwords. Tokens are looked
// up by an unsalted hash. That is safe only for random tokens of at least 128
// bits, like those of [Create].
//
// # Strictness
//
// A file is accepted or refused as a whole. An unknown or duplicate field, a value of the wrong
// type, a duplicate id, token or user name, and a wrong count are errors: a misspelled field that was
// meant to restrict a token must not be ignored. The error is a [*FormatError] with up to 20
// faults. Each has its line and says what to do; none contains a secret.
//
// If the file is refused at the start, [Open] returns the error. Later, the last valid version
// stays in effect, and [Status] and Options.OnReload have the reason.
//
// # A file that lacks most of its entries
//
// Such a file may be the result of a write that failed, or of a withdrawal that must take
// effect at once. If more than 16 entries, and more than half of all, are missing, the new
// version takes effect only if one of the following shows that it is complete. Reload.Trusted
// says which:
//
//   - it has an end line;
//   - it replaced the old file by a rename, as all edits of this package do, or by a changed
//     link;
//   - [File.Reload] was called.
//
// Otherwise it is refused with a [*ShrinkError]. A file without any line is always refused; a
// file that has no entries on purpose must have a header line, an end line or a comment.
//
// # What a change does to sessions
//
// A change takes effect for new connections and is then reported through
// [File.Notify], by token id:
//
//   - an entry that was removed, disabled, or changed in its token, password, subject,
//     not_before, clientid, username, cidr, certificate, upstream, role or gateway ends its
//     sessions; their devices may connect again under the new entry;
//   - other values of acl, limits or client_attrs ask for the grants of its sessions again,
//     which go on with the new ones where that is possible;
//   - an earlier expiry ends them at that time, or at once if it has passed;
//   - a later expiry, or none, changes nothing for existing sessions: a session ends at the
//     expiry that it began with, and its device reconnects;
//   - a change of only comment, created_at, order or spelling has no effect.
//
// # Large files
//
// A file is compared with the last good version in blocks of some tens of lines, and only
// blocks that are new are parsed. The versions share everything else, so a change of a few
// lines in a million costs the reading of the file and next to no memory. The rules hold for
// the whole file all the same: an id or a token must not be twice in it, wherever the two
// lines are.
//
// # Edits
//
// An edit locks a file next to the token file, path + ".lock", which is not removed. It reads
// the token file with all of the checks, and does not change a broken one. It writes a copy in
// which only the lines concerned are different, makes all of the checks of what it writes, and
// replaces the file by the copy, synced.
// Readers, also after a crash, see either the old or the new file. If another program writes to
// the file meanwhile, without the lock, the edit fails. Owner and mode are kept. Only the owner
// may read a new file; if root creates it, it belongs to the owner of the directory. If the path
// is a link, the file that it points to is edited.
package tokenfile
