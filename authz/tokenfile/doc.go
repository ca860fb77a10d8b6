// Package tokenfile keeps tokens in a file: an [authz.Authorizer] that answers
// from it and notices changes by itself ([Open]), and the edits for a command line
// ([Create], [Rotate], [Extend], [Revoke], [Disable], [Enable], [List], [Show],
// [Lint]), which any number of processes may use at once.
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
// The first line names the format and may be left out. So may the last one, which
// gives the number of entries and thereby shows that none is missing. An entry has these
// fields:
//
//	id            the token's handle, 1 to 128 bytes, no two the same; required
//	token_hash    "sha256:" and the SHA-256 of the token in 64 hexadecimal digits
//	              or 43 characters of unpadded base64url, no two the same; required
//	subject       the device, 1 to 256 bytes; if absent, the id. Tokens of the same
//	              subject are good side by side, so that they can be exchanged
//	expire_at     the time at which the token ends
//	not_before    the time at which it begins; both in seconds since 1970, or as a
//	              string such as "2027-01-31T12:00:00Z" (RFC 3339)
//	disabled      true switches the token off
//	clientid      the client identifiers that may use the token: a string or a list
//	              of them; one that ends in * stands for all that begin so
//	username      the MQTT user names, in the same form
//	cidr          the networks it may come from: "10.0.0.0/8", "10.1.2.3" or a list
//	certificate   the client certificates it needs besides it: the SHA-256 of one in 64
//	              hexadecimal digits, "cn:NAME" or "san:NAME", or a list of them
//	upstream      {"username":...,"password":...,"clientid":...} for the broker
//	acl           what its sessions may publish and subscribe to, see [authz.ParseACL]
//	client_attrs  an object of strings for templates and topic rules, at most 64
//	created_at    when the token was made, in the form of expire_at
//	comment       anything
//
// Tokens are looked up by an unsalted hash. That is safe for random tokens of 128
// bits and more, which is what [Create] makes, and for nothing else.
//
// # Strictness
//
// A file is good as a whole or refused as a whole. An unknown or doubled field, a
// value of the wrong type, a doubled id or token, a wrong count: each is an error,
// since a field that was meant to narrow a token and is misspelled would otherwise
// widen it. The error is a [*FormatError] with up to 20 faults, each with its line
// and what to do about it, none with a secret in it.
//
// A file that is refused at the start is an error of [Open]. Later, the last good
// version stays in effect, and [Status] and Options.OnReload give the reason.
//
// # A file that lacks most of its entries
//
// It may be what is left of a write that failed, or a withdrawal that must not wait.
// If more than 16 entries, and more than half of all, are gone, the new version takes
// effect only if one of these shows that it is whole, and Reload.Trusted names it:
//
//   - it has an end line;
//   - it took the place of the old file by a rename, or by a link that leads elsewhere,
//     as all edits of this package do;
//   - [File.Reload] was called.
//
// Otherwise it is refused with a [*ShrinkError]. A file without any line is refused
// whichever way it came; one that is meant to have no entries has a header line, an end
// line or a comment.
//
// # What a change does to sessions
//
// A change takes effect for new connections and is then reported through
// [File.Notify], by token id:
//
//   - an entry that was removed, disabled, or changed in its token, subject,
//     not_before, clientid, username, cidr, certificate, upstream, acl or
//     client_attrs ends its sessions; their devices may connect again under the new
//     entry;
//   - an expiry that was moved nearer ends them when it comes, or at once if it
//     has passed;
//   - an expiry that was moved further away, or taken out, ends nothing: a session
//     lives until the expiry it began with, and its device comes back;
//   - a change of nothing but comment, created_at, order or spelling does nothing.
//
// # Edits
//
// An edit takes a lock on a file next to the token file, path + ".lock", which
// stays there; reads the file under all of the rules and refuses to touch a broken
// one; changes the lines that are meant and leaves the others as they are, to the
// byte; and puts a synced copy in the place of the file. Readers and crashes meet
// the old file or the new one. Owner and mode are kept; a new file is for its owner
// only, and where root makes it, for the owner of its directory. Links are
// followed, so that the file that they lead to changes.
package tokenfile
