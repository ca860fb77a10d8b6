// Package passwordhash checks passwords against the hashes that other programs have stored,
// and makes such hashes.
//
//	hash, err := passwordhash.Parse(stored)
//	...
//	workers := passwordhash.NewWorkers(0)
//	good, err := workers.Check(ctx, hash, password)
//
// # Hashes
//
// [Parse] tells these apart by how they begin:
//
//	$7$ROUNDS$SALT$HASH                  Mosquitto 1.6 and later: PBKDF2 with SHA-512
//	$6$SALT$HASH                         Mosquitto before: SHA-512 of password and salt
//	$2y$, $2a$ or $2b$                   bcrypt, as htpasswd -B and many others write it
//	$argon2id$v=19$m=,t=,p=$SALT$HASH    argon2id, as Mosquitto 2.1 and others write it
//	PBKDF2$sha512$ROUNDS$SALT$HASH       mosquitto-go-auth: PBKDF2, also with sha256
//	$pbkdf2-sha512$i=,l=$SALT$HASH       mosquitto-go-auth: the same in another spelling
//
// Anything else is an error that names the algorithm, if it is a known one, and those that
// are supported. The error repeats nothing of the hash. mosquitto-go-auth can be configured
// to take a salt as it is written instead of as base64, and the hash does not show which; a
// password is therefore compared in both ways.
//
// A hash may not cost more than one of bcrypt with cost 14, PBKDF2 with 2,000,000 rounds, or
// argon2id with 128 MiB and 16 passes over them. One that does is an error of Parse, not of
// the check: it would be found when devices already wait.
//
// bcrypt looks at the first 72 bytes of a password only, and so does everything that makes
// such hashes. A password that holds NUL is never good: bcrypt and PBKDF2 take some of them
// for shorter ones, and no program makes hashes of them.
//
// # Time and memory
//
// A check takes from a microsecond to more than a second of a processor, and up to 128 MiB.
// [Workers] bounds how many run at once, for all sources of a process together. Keep a cache
// before them: it gives the checks of devices that were good before the first places, and
// remembers what came of them. The comparison takes the same time wherever hashes differ.
package passwordhash
