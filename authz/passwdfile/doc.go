// Package passwdfile is a token source that reads user names and password hashes from a file
// of another program: an [authz.Authorizer] that takes pairs ([authz.Pair]) and notices
// changes of the file by itself.
//
//	file, err := passwdfile.Open("/etc/mosquitto/passwd", passwdfile.Options{Format: passwdfile.Mosquitto})
//	...
//	grant, err := file.Authorize(ctx, request)
//
// A check computes a password hash, which takes up to a second. Put a cache in front of the file,
// with Watched set. The workers in [Options] bound how many checks run at once.
//
// # Format
//
// The file is text in UTF-8. A line has a user name, a colon and a hash; blank lines and lines that
// begin with # are skipped. A user name has 1 to 256 bytes without control characters and must be
// unique. The [Format] determines which kinds of hashes are accepted.
//
//	pump-7:$7$101$Xty94pzyYrX/4Qo7$pcfDbM4cQkniDigJaujp8oZ//WAvwQd...
//
// A file is accepted as a whole or refused as a whole. The error is a [*FormatError] with up to 20
// faults. Each fault names its line, and none repeats a user name or a hash. A hash that costs too
// much is a fault too, see package passwordhash. If the file is refused at the start, [Open]
// returns the error. Later, the last good version stays in effect, and [Status] and
// Options.OnReload give the reason.
//
// mosquitto_passwd writes the file in place, so a reader may see half of it. Therefore a change is
// read only after the file has not changed for a while. A version that lacks more than 16 lines,
// and more than half of all, takes effect only if the file was replaced by a rename or if
// [File.Reload] was called. An empty file never replaces one that has users.
//
// # Answers
//
// The subject of a grant is the user name. So is its token id, shortened if it is too long. If the
// file does not have the user name, the answer is [authz.Unknown], and the next source is asked.
// For a wrong password the denial is [authz.WrongPassword], which ends the search. The two answers
// take different times, so an attacker who measures can find out which user names exist. User names
// are not treated as secrets: computing a hash for every unknown one would let a flood of made-up
// names occupy the processors.
//
// # What a change does to sessions
//
// If a line is removed or its hash changes, the sessions of the user end: [File.Notify] reports the
// token id once new connections are refused. Order, comments and blank lines do not matter.
package passwdfile
