// Package passwdfile is a token source that reads user names and password hashes from a file
// of another program: an [authz.Authorizer] that takes pairs ([authz.Pair]) and notices
// changes of the file by itself.
//
//	file, err := passwdfile.Open("/etc/mosquitto/passwd", passwdfile.Options{Format: passwdfile.Mosquitto})
//	...
//	grant, err := file.Authorize(ctx, request)
//
// A check computes a password hash, which takes up to a second. A cache belongs before the
// file, with Watched set; the workers that bound the checks are given in [Options].
//
// # Format
//
// The file is text in UTF-8. A line holds a user name, a colon and a hash; blank lines and
// lines that begin with # are skipped. A user name has 1 to 256 bytes without control
// characters and stands in one line. Which hashes there may be depends on the [Format].
//
//	pump-7:$7$101$Xty94pzyYrX/4Qo7$pcfDbM4cQkniDigJaujp8oZ//WAvwQd...
//
// A file is good as a whole or refused as a whole. The error is a [*FormatError] with up to
// 20 faults, each with its line, none with a user name or a hash in it. A hash that costs too
// much is a fault too, see package passwordhash. A file that is refused at the start is an
// error of [Open]. Later, the last good version stays in effect, and [Status] and
// Options.OnReload give the reason.
//
// mosquitto_passwd writes into the existing file, so that a reader may see half of it. A change
// is therefore read when the file has not changed for a while. A version that has
// lost more than 16 lines, and more than half of all, takes effect only if it is another
// file, put in the place of the old one by a rename, or if [File.Reload] was called. A file
// without any line never takes the place of one that has some.
//
// # Answers
//
// The subject of a grant is the user name, and so is its token id as far as there is room.
// A user name that the file does not have is unknown, so that the next source is asked. For a
// wrong password the denial is [authz.WrongPassword], which ends the search. The two take
// different times, so an attacker who measures can find out which user names exist. User names
// are not treated as secrets: if each unknown one cost a hash, a flood of made-up names could
// take the processors.
//
// # What a change does to sessions
//
// A line that is removed, or whose hash changes, ends the sessions of the user: they are
// reported through [File.Notify] by token id once new connections are refused. Order, comments and
// blank lines do not matter.
package passwdfile
