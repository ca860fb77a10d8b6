// Package authz answers one question: may the holder of this token connect, under which
// identity, and under which conditions?
//
// A [Request] describes a device by its CONNECT; an [Authorizer] answers it with a [Grant] or
// an error. There are three outcomes, which must be kept apart:
//
//   - allowed: a Grant and a nil error;
//   - denied: an error for which errors.Is(err, [ErrDenied]) holds, usually a [*Denial] that
//     says why. A denial with errors.Is(err, [ErrUnknown]) means that this source does not know
//     the token; a [Chain] then asks its next source;
//   - unavailable: every other error. It never counts as a denial: the device may try again
//     later, existing sessions continue, and nothing is remembered.
//
// A Grant is immutable and shared by every session that uses the same token. Its
// own conditions (validity, client ids, addresses) are checked on every use with
// [Grant.Check], whether the Grant was fetched just now or came from a cache.
//
// # Secrets
//
// A [Token] contains a secret, and every way to print it prints only a fingerprint.
// [Token.Reveal] is the only way to get the secret, so a search for "Reveal" finds every place
// that handles it.
//
// # Tokens and pairs
//
// Most sources take a token: a random secret, by which they also find the device. Others
// take a [Pair]: they find the device by its user name and check its password against a
// hash. A source says which by [Taker]. A pair is never turned into a token, because the
// digest of a password would let it be guessed: see [PairHash].
//
// # Implementations
//
// The token sources (packages tokenfile, tokenhttp, tokenjwt, tokenpostgres and passwdfile) and
// the Authorizers that are put in front of them (cache, guard and denylist) are packages below this
// one. They import this package and never one another, and each of them passes the suite in package
// authztest. Code that several of them share is in packages bucket, clienttls, files, pgdsn and
// placeholder, in passwordhash, and in internal. Package topicmap maps the topics of devices to
// those of the broker.
//
// # Contents
//
//   - authorizer.go: [Authorizer], [Notifier], [Request], [Revocation], [Keep]
//   - grant.go, denial.go, certificate.go: the answers and their conditions
//   - chain.go: [Chain], several sources in order
//   - token.go: [Token]
//   - pair.go: [Pair], [Taker]
//   - topic.go: MQTT topic names and filters
//   - acl.go, acl_parse.go, acl_bind.go: [ACL], the topic rules of a grant
//   - limits.go: [Limits], what bounds the sessions of a grant
package authz
