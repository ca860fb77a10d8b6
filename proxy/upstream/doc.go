// Package upstream opens the proxy's connections to the broker, and makes the credentials that
// the proxy sends to the broker.
//
// Everything is built once at startup, so that a mistake in the configuration is found before
// the first device connects:
//
//	server, err := upstream.ParseServer("tls://broker.example")
//	secure, err := upstream.LoadTLS(upstream.TLSOptions{CA: "/etc/proxy/broker-ca.pem"})
//	dialer := &upstream.Dialer{TLS: secure}
//	username, err := upstream.ParseTemplate("${subject}", upstream.Username)
//
// and each session then needs two calls:
//
//	name, err := username.Expand(upstream.Values{Subject: "pump-7"})
//	conn, err := dialer.Dial(ctx, server)
//
// Package pool chooses among several servers.
//
// A [Dialer], a [TLS] and a [Template] may be used by any number of goroutines at once, even
// while another goroutine reloads them.
//
// # Server addresses
//
//	tcp://host[:port]     MQTT over TCP, port 1883 if none is given
//	tls://host[:port]     MQTT over TLS, port 8883 if none is given
//	unix:///absolute/path MQTT over a Unix stream socket
//
// The host is a name, an IPv4 address or an IPv6 address in brackets. An address has no user
// name, path or query. The path of a Unix socket is used as written, without percent-decoding.
//
// # Templates
//
// A template is a text with placeholders that are replaced for each session:
//
//	${subject}      the owner of the token: the device
//	${token_id}     the name of the token, which does not reveal the token
//	${client_id}    the client identifier the device sent
//	${username}     the user name the device sent
//	${token}        the token itself
//	${attrs.NAME}   one of the attributes that came with the token's grant
//	${listener}     the listener the device connected to
//	${client_addr}  the address the device connected from
//	${env:NAME}     an environment variable
//	${file:PATH}    the content of a file, given by an absolute path
//
// Package placeholder lists other spellings of these names. The rules:
//
//   - Only ${ starts a placeholder; every other dollar sign is literal. $${ is a literal ${, so
//     a literal dollar sign cannot come directly before a placeholder.
//   - Placeholders in a value are not expanded.
//   - [ParseTemplate] and [Template.Reload] read the environment and the files;
//     [Template.Expand] never does. One line break at the end of a file is removed. A file may
//     have up to 64 KiB.
//   - A placeholder without a value is an error, so that a broker never gets an incomplete
//     credential. The exception is a template that is only ${client_id} or only ${username},
//     which passes on what the device sent, even if that is empty.
//   - A client id or user name is valid UTF-8 without control characters (MQTT 5.0 section
//     1.5.4). A password may contain any byte. Each may have up to 65535 bytes.
//   - In a client id or user name with several placeholders, each placeholder but the last must
//     be followed by a literal character, and its value must not contain that character. So the
//     user name ${subject}:${client_id} refuses a subject with a colon. Otherwise subject "a"
//     with client id "b:c" and subject "a:b" with client id "c" would have the same name at the
//     broker. Two devices get the same text only if they have the same value for every
//     placeholder.
//   - The client id ${subject}:${client_id} works for every subject: in the subject, a colon, a
//     percent sign and every byte that a client id may not contain are written as % and two
//     hexadecimal digits. A device whose client id is its subject gets the subject alone. A
//     device of MQTT 3.1, which allows 23 characters, gets a digest of 23 letters and digits
//     where the text would be longer.
//
// # Secrets
//
// Errors name placeholders, variables, files and addresses, and never contain their content.
// [Values], and a [Template] with a secret, print a mask.
package upstream
