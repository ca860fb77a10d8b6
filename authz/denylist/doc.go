// Package denylist refuses what an operator has denied: a token, a token id or a subject, until
// a given time. The answers of the token sources do not matter.
//
//	denials, err := denylist.Open(filepath.Join(dataDir, "denials.jsonl"))
//	...
//	all := denials.Before(authz.Chain{tokenFile, issuer, service})
//	...
//	err = denials.Deny(authz.Revocation{Subject: "pump-7"}, time.Now().Add(24*time.Hour), false)
//	... // end the sessions that the revocation matches
//	err = denials.Save()
//
// A denial is in force when [List.Deny] returns. It does not end sessions; that is up to the
// caller. [List.Save] stores it in the file. Saving is a separate step, so that a denial takes
// effect even if the disk is slow or full.
//
// # The file
//
// The file is JSON Lines, one denial on a line, with the time at which it ends:
//
//	{"token_sha256":"9f86d0...","until":"2027-01-31T12:00:00Z"}
//	{"token_id":"pump-7-k3x2aa","until":"2027-01-31T12:00:00Z","follow":true}
//	{"subject":"pump-7","until":"2027-01-31T12:00:00Z"}
//
// The file is always replaced as a whole. Two processes may use the same file, such as the old
// and the new one during a restart: Save locks a file next to it, path + ".lock", reads the
// file again and merges both lists, so that no denial is lost. A program that shares the file
// must call Save from time to time, and end the sessions that [List.Notify] reports. A line
// that is removed from the file by hand comes back; to lift a denial, replace it by one that
// ends soon. Open and Save return an error if the file has an invalid line, because ignoring a
// line would accept again what it denies. At most [Max] denials can be in force; Deny refuses a
// further one with [ErrFull] and never drops an older one.
//
// # Denials that follow the token
//
// An operator wants to deny a token for as long as it is valid, and rarely knows when it
// expires. A denial with follow is extended to the expiry of the token when a source reports
// it. The denial of a subject cannot follow, because a subject may have several tokens.
package denylist
