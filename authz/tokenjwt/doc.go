// Package tokenjwt is an [authz.Authorizer] that checks JSON Web Tokens with the keys of
// their issuer ([Open]), without a question for each token.
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
// The keys come from one place, see [Keys]: a JWK Set (RFC 7517) at a URL or in a file,
// public keys in PEM, or a secret. They are read again in intervals, and
// when a token comes that none of them fits, but not more than once in ten seconds.
// Options.TLS has the authority of an issuer whose certificate is not a public one.
// If they cannot be read or break the rules, the last good keys stay in effect;
// [Source.Stats] has the reason and the time.
//
// A key decides which algorithms it is good for, never the token:
//
//	RSA, 2048 to 4096 bits   RS256 RS384 RS512 PS256 PS384 PS512
//	EC P-256, P-384, P-521   ES256, ES384, ES512
//	Ed25519                  EdDSA, Ed25519 (RFC 9864: two names of one algorithm)
//	a secret of n bytes      HS256, HS384 from 48 bytes, HS512 from 64 bytes
//
// The alg, use and key_ops members of a JWK narrow that further, as does
// Options.Algorithms. Members of a set that are of other kinds, too weak, meant for
// encryption, symmetric, or private, are passed over and counted.
//
// Keys are chosen by the kid of the token. Keys that have none, such as those in
// PEM, are tried for every token, and a token without a kid is tried with every
// key of its algorithm, 16 at most. A key that was replaced under the same kid is
// noticed when the keys are next due.
//
// # Answers
//
// Until the signature is good, nothing is known about a token, and the answer is
// [authz.Unknown], so that a chain asks its next source: for a text that is no JWT,
// one with a doubled JSON key, one of another issuer, one with a signature that no
// key fits. Nothing is lost by asking on: another source can only let in what it
// knows itself. The denial's detail names the reason.
//
// A token with a good signature is this source's, and a denial is final: it has
// expired, is not yet valid, or is not authorized, for it is meant for another
// audience or lacks a claim that is needed.
//
// What cannot be decided is unavailable ([authz.ErrUnsure], so that a chain still asks
// its next source): there are no keys yet, none fits the token and the newest cannot be
// had, or the token names a key that has never been there and the keys were read less
// than ten seconds ago, so that it may be a newer one.
//
// Errors name a token by its id. Of one without a good signature they name the issuer,
// the key and the algorithm, cut at 64 bytes. They repeat nothing else of it.
//
// Grants and denials must not be cached, and their Keep forbids it: checking a token again
// costs a signature check and takes account of keys that were removed.
//
// # Claims
//
// Claims are named by a path: member names joined by dots (realm_access.site), or
// a JSON pointer where names hold dots themselves (/https:~1~1example.com~1site,
// RFC 6901). A token with a claim of a wrong form is denied; no claim is repaired or
// ignored.
//
//	exp        required, and the end of the grant to the second: sessions end with it
//	nbf, iat   must not lie in the future by more than Options.Leeway
//	iss        one of Options.Issuers, if there are any
//	aud        must name one of Options.Audiences; with none, it must be absent
//	cnf        denies: the token is bound to a key that an MQTT device cannot show
//	sub        the subject, or the claim that Options.Subject names; required
//	jti        the token id; without it the id is made from a hash
//
// Leeway does not prolong exp: a session that begins in the leeway would end at once.
//
// # Withdrawing a token
//
// A JWT is good until it expires, so a Source cannot revoke it; package denylist can.
// It should be named there by its token id or subject: with some algorithms, such as
// ES256, the holder can change the text of a token, and with it its hash, and keep the
// signature good. Neither token id nor subject changes with that.
package tokenjwt
