// Package replicas lets several proxies act as one when tokens are withdrawn: what one of them
// revokes, kicks or forgets, all of them do. They also tell each other which shared attributes have
// changed, so that a device gets them wherever it is connected. They talk on a bus, which is a
// topic of the MQTT brokers that they all use anyway, or a channel of a PostgreSQL database.
//
//	r, err := replicas.New(replicas.Options{Name: "proxy-1", Secret: secret, Topic: topic, ...})
//	...
//	go r.Run(ctx)
//	r.Connect(brokers) // unless the bus is in a database
//	...
//	r.Withdraw(replicas.Withdrawal{Revocation: authz.Revocation{Subject: "pump-7"}})
//
// # Messages
//
// A message is a JSON object that is encrypted and authenticated with AES-256-GCM. The key is
// derived from the secret and the topic with HKDF-SHA-256 (RFC 5869), so that a client of the
// broker or of the database that can read or write the topic learns nothing and can do nothing.
// Tokens are not in messages, only their SHA-256 digests. Each message has the name of its sender,
// a random number of the sender's process, which is its instance, a count, and the time. A message
// counts once, whichever broker it comes from, and only if its time is within [MaxSkew] of the
// receiver's clock. A list that is too long for one message becomes several: a broker carries 64
// KiB, and a notification of PostgreSQL 5,999 bytes, which are 7,999 in base64.
//
// # The database
//
// A replica has two connections to the database, one that sends (NOTIFY) and one that receives
// (LISTEN). It also notifies itself on a channel of its own, and counts as connected only while it
// receives these notifications. A pooler in transaction mode, which delivers no notifications, is
// thus noticed, and so is a dead connection.
//
// # Gaps
//
// Each replica sends at least one message every two seconds. A message that was lost is therefore
// noticed soon, because the count of its sender has a gap. So is a connection that was down. The
// receiver then catches up: it calls [Options.Recover], in which the program forgets all answers
// of token sources and asks them about the live sessions, and it asks the other replicas for what
// they have withdrawn since, and for the denials in force. For that each replica keeps the
// withdrawals of the last 24 hours, at most 100,000.
//
// # Nothing waits for the bus
//
// The methods that send return at once. What cannot be sent, because a server is down or too slow,
// is dropped and counted. Its number is used up, so the others notice the gap and catch up.
package replicas
