// Package certs manages the TLS identity of a server. It serves certificates from files and
// loads new ones while the server runs, and it can make a certificate authority and a server
// certificate of its own.
//
// # Serving files
//
// A [Source] is one certificate, its key and, if devices present certificates themselves, the
// authorities that issued those:
//
//	src, err := certs.Load(certs.Files{Certificate: "server.pem", Key: "server-key.pem"})
//	...
//	ln := tls.NewListener(tcp, src.ServerConfig(certs.Options{}))
//
// The package starts no goroutine and watches no files. The owner calls [Source.Reload] on
// request, for example on SIGHUP, and [Source.Poll] every few seconds. Both compare content,
// not names, times or inodes, so they notice a file that is written in place, a rename over the
// file, and the swap of a symbolic link higher up in the path (as Kubernetes does).
//
// Client certificates are verified against a file of authorities and, if there is one, a file
// of revocation lists. Both files are reloaded in the same way.
//
// A new pair is read, parsed and checked before one atomic swap. Anything wrong with it (a file
// half written, a key that belongs to another certificate, a chain out of order) is an error,
// and the old pair stays in service. The next Reload tries again, so a writer may replace the
// two files one after the other. A swap does not affect handshakes in progress or existing
// sessions, and session tickets stay valid.
//
// A server may have several certificates. The choice depends on the name that a client asks for
// and on the algorithms it supports. Servers that share a ticket secret accept each other's
// session tickets, so a fleet that reconnects to another replica needs no full handshakes.
//
// An expired certificate is still served. Devices without a clock accept it, and a proxy that
// stopped at the expiry date would cut them off as well. The owner can read the date from
// [Source.Leaf] and should warn the operator.
//
// # The proxy's own authority
//
// An [Authority] consists of four files in one directory: ca-root.pem, which devices must
// trust, ca-root-key.pem, server.pem and server-key.pem.
//
//	ca := &certs.Authority{Dir: "tls"}
//	status, err := ca.Ensure()
//	...
//	src, err := certs.Load(ca.Files())
//
// [Authority.Ensure] creates missing files and renews certificates that are due. If it is
// called regularly, just before Reload, the server certificate stays valid and matches the
// machine's names and addresses. Renewal keeps both keys, so every copy of ca-root.pem on a
// device, however old, still verifies the server. The authority may sign only server
// certificates, and no further authority.
//
// Ensure replaces only files that it made itself. It recognizes its keys by their first line,
// and its certificates by their name and by the signature of its key. If the directory has one
// file that Ensure did not make, or an authority without its key, Ensure writes nothing:
// server.pem and server-key.pem are used as they are. To have a file made again, remove it:
// server.pem for a new certificate, server-key.pem for a new key, and all four files for a new
// authority, whose ca-root.pem must then be distributed to the devices again.
//
// # Cost
//
// A full TLS 1.3 handshake on an ECDSA P-256 certificate, which is what an Authority makes,
// takes the server about 0.2 to 0.3 ms of processor time; on an RSA 2048 certificate about 1
// ms, nearly all of it for the signature. Resuming a session saves the signature, which is a
// seventh of the work with ECDSA and four fifths with RSA. [Source.RSA] reports whether an RSA
// key is in use.
package certs
