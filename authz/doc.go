// Package authz answers one question: may the holder of this token connect, as
// whom, and under which conditions.
//
// A [Request] carries what a CONNECT told about a device; an [Authorizer]
// answers it with a [Grant] or an error. There are three outcomes, and they are
// never mixed up:
//
//   - allowed: a Grant and a nil error;
//   - denied: an error for which errors.Is(err, [ErrDenied]) holds, usually a
//     [*Denial] that says why. A denial with errors.Is(err, [ErrUnknown]) means
//     "this source has never heard of the token": the next source of a [Chain]
//     is asked;
//   - unavailable: every other error. It is never a no: a device is told to come
//     back later, a live session stays, and nothing is remembered.
//
// A Grant is immutable and shared by every session that uses the same token. Its
// own conditions (validity, client ids, addresses) are asked again on every use
// with [Grant.Check], whether the Grant was fetched just now or came from a
// cache.
//
// # Secrets
//
// A [Token] holds a secret and prints only a fingerprint, whichever way it is
// printed. [Token.Reveal] is the only way to the text, so that a search for
// "Reveal" finds every place that handles it.
//
// # Implementations
//
// The sub-packages are Authorizers; they import this package and never one
// another. Every one of them passes the suite in authz/authztest.
package authz
