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
// [Parse] recognizes these by their prefix:
//
//	$7$ROUNDS$SALT$HASH                  Mosquitto 1.6 and later: PBKDF2 with SHA-512
//	$6$SALT$HASH                         Mosquitto before: SHA-512 of password and salt
//	$2y$, $2a$ or $2b$                   bcrypt, as htpasswd -B and many others write it
//	$argon2id$v=19$m=,t=,p=$SALT$HASH    argon2id, as Mosquitto 2.1 and others write it
//	PBKDF2$sha512$ROUNDS$SALT$HASH       mosquitto-go-auth: PBKDF2, also with sha256
//	$pbkdf2-sha512$i=,l=$SALT$HASH       mosquitto-go-auth: the same in another spelling
//	$pbkdf2-sha256$ROUNDS$SALT$HASH      PBKDF2 as passlib writes it, also with sha512; see [PBKDF2]
//	$sha256$salt=prefix$SALT$HASH        SHA-256 of salt and password, with suffix of password and
//	                                     salt; also sha512; see [Salted]
//
// Anything else is an error. It names the algorithm, if it is known, and those that are supported,
// and never repeats a part of the hash. mosquitto-go-auth can be configured to use a salt as it is
// written instead of decoding it as base64. The hash does not show which of the two it was, so a
// password is compared in both ways.
//
// The most expensive hashes are bcrypt with cost 14, PBKDF2 with 2,000,000 rounds, and argon2id
// with 128 MiB and 16 passes. Parse refuses more expensive ones, so that the operator learns of
// them before a device has to wait for a check.
//
// bcrypt uses only the first 72 bytes of a password, in every program. A password that contains NUL
// never matches: bcrypt and PBKDF2 treat some of them like shorter passwords, and no program makes
// hashes of them.
//
// # Time and memory
//
// A check takes from a microsecond to more than a second of processor time, and up to 128 MiB of
// memory. [Workers] bounds how many run at once, for all sources of a process together. Put a cache
// in front of them: it lets the checks of devices that were accepted before go first, and remembers
// the results. The comparison takes the same time wherever the hashes differ.
package passwordhash
