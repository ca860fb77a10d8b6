// Package tokenjwt has an [authz.Authorizer] that checks JSON Web Tokens with the keys of their
// issuer ([Open]), without a request for each token.
//
//	source, err := tokenjwt.Open(ctx, tokenjwt.Options{
//		Keys:      tokenjwt.Keys{URL: "https://id.example/.well-known/jwks.json"},
//		Issuers:   []string{"https://id.example/"},
//		Audiences: []string{"mqtt"},
//	})
//	...
//	defer source.Close()
//	grant, err := source.Authorize(ctx, request)
//
// Tokens are JWTs (RFC 7519) in the compact form of a JWS (RFC 7515), at most
// 16 KiB. Encrypted tokens, tokens with critical header members
// and unsigned ones are unknown.
//
// # Keys
//
// The keys come from one place, see [Keys]: a JWK Set (RFC 7517) at a URL or in a file, public
// keys in PEM, or a secret. They are read again at intervals, and when none of them fits a
// token, but not more than once in ten seconds. If the certificate of the issuer is not a
// public one, set Options.TLS. If the keys cannot be read or are invalid, the last valid keys
// stay in effect; [Source.Stats] has the reason and the time.
//
// The key, never the token, determines the algorithms that are accepted:
//
//	RSA, 2048 to 4096 bits   RS256 RS384 RS512 PS256 PS384 PS512
//	EC P-256, P-384, P-521   ES256, ES384, ES512
//	Ed25519                  EdDSA, Ed25519 (RFC 9864: two names of one algorithm)
//	a secret of n bytes      HS256, HS384 from 48 bytes, HS512 from 64 bytes
//
// The alg, use and key_ops members of a JWK restrict them further, and so does
// Options.Algorithms. Keys in a set that are of another kind, too weak, for encryption,
// symmetric, or private are ignored and counted.
//
// Keys are chosen by the kid of the token. Keys without a kid, such as those in PEM, are tried
// for every token, and a token without a kid is tried with every key of its algorithm, but at
// most 16. A key that was replaced under the same kid is noticed the next time that the keys
// are read.
//
// # Answers
//
// Nothing is known about a token until its signature has been verified. Until then the answer
// is [authz.Unknown], so that a chain asks its next source: for a text that is no JWT, for a
// JWT with a duplicate JSON key, for one of another issuer, and for one whose signature no key
// verifies. That is safe, because another source grants only tokens that it knows itself. The
// denial's detail has the reason.
//
// A token with a valid signature belongs to this source, and its denial is final: it has
// expired, is not valid yet, or is not authorized, because it is for another audience or lacks
// a required claim.
//
// If the source cannot decide, it is unavailable ([authz.ErrUnsure], so that a chain still asks
// its next source): there are no keys yet, no key fits the token and newer keys cannot be read,
// or the token names a key that was never there and the keys were read less than ten seconds
// ago, so it may be a newer key.
//
// Errors name a token by its id. If its signature was not verified, they name the issuer, the
// key and the algorithm, each truncated to 64 bytes. They contain nothing else of it.
//
// Grants and denials must not be cached, and their Keep forbids it: checking a token again
// costs only a signature check, and takes removed keys into account.
//
// # Claims
//
// Claims are named by a path: member names joined by dots (realm_access.site), or a JSON
// pointer if names contain dots (/https:~1~1example.com~1site, RFC 6901). A token that has a
// claim with a wrong form is denied; no claim is repaired or ignored.
//
//	exp        required; the grant and its sessions end exactly then
//	nbf, iat   must not lie in the future by more than Options.Leeway
//	iss        one of Options.Issuers, if there are any
//	aud        must name one of Options.Audiences; with none, it must be absent
//	cnf        denied: the token is bound to a key that an MQTT device cannot present
//	sub        the subject, or the claim that Options.Subject names; required
//	jti        the token id; without it the id is a hash
//
// Leeway does not extend exp: a session that begins in the leeway would end at once.
//
// # Withdrawing a token
//
// A JWT is valid until it expires, and a Source cannot revoke it; package denylist can. Deny it
// by its token id or subject, not by its hash: with some algorithms, such as ES256, the holder
// can change the text of a token, and thereby its hash, and keep the signature valid. That
// changes neither the token id nor the subject.
package tokenjwt
