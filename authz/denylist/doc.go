// Package denylist refuses what an operator has withdrawn, whatever the token sources
// answer: a token, a token id or a subject, until a given time.
//
//	denials, err := denylist.Open(filepath.Join(dataDir, "denials.jsonl"))
//	...
//	all := denials.Before(authz.Chain{tokenFile, issuer, service})
//	...
//	err = denials.Deny(authz.Revocation{Subject: "pump-7"}, time.Now().Add(24*time.Hour), false)
//	... // end the sessions that the revocation matches
//	err = denials.Save()
//
// A denial is in force when [List.Deny] returns. It ends no session: the caller does
// that. [List.Save] makes it last. It is a step of its own so that a disk that is slow
// or full keeps no withdrawn token in.
//
// # The file
//
// The file is JSON Lines, one denial on a line, with the time at which it ends:
//
//	{"token_sha256":"9f86d0...","until":"2027-01-31T12:00:00Z"}
//	{"token_id":"pump-7-k3x2aa","until":"2027-01-31T12:00:00Z","follow":true}
//	{"subject":"pump-7","until":"2027-01-31T12:00:00Z"}
//
// It is replaced as a whole. Two processes may have the same file, such as the old and the
// new one in a restart: Save takes a lock on a file next to it, path + ".lock", reads the
// file again and merges, so that neither loses what the other denies. A program that shares
// the file must call Save from time to time, and end the sessions that [List.Notify]
// reports. A line that was taken out of the file by hand comes back; lift a denial with a
// Deny that ends soon. A file that breaks the rules is an error of [Open] and of Save: to
// pass over a line would let in again what it names. At most
// [Max] denials are in force; one more is refused with [ErrFull], and none is dropped
// before its time.
//
// # Denials that follow the token
//
// An operator wants a token gone for as long as it could be used, and rarely knows when
// it ends. A denial that follows moves its end to that of the token when a source shows
// it, if that is later. A subject has tokens of its own to come, so that its denial
// follows none.
package denylist
