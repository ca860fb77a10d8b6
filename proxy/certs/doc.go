// Package certs keeps the TLS identity of a server: it serves certificates
// from files and takes up new ones while the server runs, and it makes a
// certificate authority and a server certificate for those who have none.
//
// # Serving files
//
// A [Source] is one certificate, its key and, if devices show certificates
// themselves, the authorities that issued those:
//
//	src, err := certs.Load(certs.Files{Certificate: "server.pem", Key: "server-key.pem"})
//	...
//	ln := tls.NewListener(tcp, src.ServerConfig(certs.Options{}))
//
// The package owns no goroutine and watches nothing. The owner calls
// [Source.Reload] when it is told to, on SIGHUP for example, and [Source.Poll] every
// few seconds from the poll it runs for its other files. Both compare content, not names, times
// or inodes, so that a file written in place, a rename over it and the swap of
// a symbolic link somewhere up the path (as Kubernetes does it) are all seen.
//
// Client certificates are verified against a file of authorities and, if there is
// one, a file of revocation lists, which are taken up in the same way.
//
// A new pair is read, parsed and checked before one atomic swap. Anything
// wrong with it (a file half written, a key that belongs to another
// certificate, a chain out of order) is an error, and the old pair stays in
// service. The next Reload tries again, so a writer that replaces two files
// one after the other needs no care at all. Handshakes under way and sessions
// that live are not touched by a swap, and session tickets outlive it.
//
// A server may have several certificates, chosen by the name that a client asks for
// and by what it can use. With a secret that several servers share, session tickets
// of one are good at the others: a fleet that reconnects to another replica does not
// pay for full handshakes.
//
// An expired certificate is served. Devices without a clock never notice, the
// others refuse it by themselves, and a proxy that ends because of a date
// would cut off both kinds. Its owner can tell from [Source.Leaf] and should
// say so loudly.
//
// # A certificate of one's own
//
// An [Authority] is four files in one directory: ca-root.pem, which devices
// are given to trust, ca-root-key.pem, server.pem and server-key.pem.
//
//	ca := &certs.Authority{Dir: "tls"}
//	status, err := ca.Ensure()
//	...
//	src, err := certs.Load(ca.Files())
//
// [Authority.Ensure] makes what is missing and renews what is due; called with
// every poll, just before Reload, it keeps the server certificate fresh and in
// step with the machine's names and addresses. Renewal keeps both keys: every
// copy of ca-root.pem that a device got, however old, goes on to verify the
// server. The authority cannot be used for more than it is for: it may sign
// server certificates and no further authority.
//
// Ensure replaces only what it made. Our keys begin with a line that says so,
// and our certificates bear our name and the signature of that key. One file
// that is not ours, or an authority whose key was taken away, puts the whole
// directory out of our hands: its server.pem and server-key.pem are used as
// they are, and never written. What to remove, then, is what to have made anew:
// server.pem for a new certificate, server-key.pem for a new key, all four
// files for a new authority, which devices must be given again.
//
// # Cost
//
// A full TLS 1.3 handshake on an ECDSA P-256 certificate, which is what an
// Authority makes, takes the server about 0.2 to 0.3 ms of processor time; on
// an RSA 2048 certificate about 1 ms, nearly all of it the signature. Resuming a session
// saves that signature: a seventh of the work with ECDSA, four fifths with
// RSA. See [Source.RSA] for a way to warn.
package certs
