package proxy

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

const (
	// acceptanceLife is how long credentials are assumed to be good after a broker has
	// accepted them.
	acceptanceLife = time.Minute
	// maxAcceptances is the number of different credentials that are remembered.
	maxAcceptances = 4096
)

// acceptances remembers which credentials brokers have accepted recently. A broker may
// answer "not authorized" for many reasons; Mosquitto does so before MQTT 5.0 if the will
// is too large. If it has accepted the same credentials a moment ago, the client is the
// reason. The zero value is ready to use.
type acceptances struct {
	mu   sync.Mutex
	seed maphash.Seed
	last map[uint64]acceptance
}

// acceptance is the last time that credentials were accepted.
type acceptance struct {
	at time.Time
	// refused is the hash of the subject that was refused since, 0 for none. If a second
	// subject is refused after it, the credentials have probably changed at the broker,
	// and the subject is no longer assumed to be the reason.
	refused uint64
}

// acceptanceKey is the credentials that a broker was sent.
type acceptanceKey struct {
	server                   string
	username, password       string
	hasUsername, hasPassword bool
}

func (c *conn) acceptanceKey(out *packets.Connect) acceptanceKey {
	return acceptanceKey{c.login.client.Server, out.Username, out.Password, out.HasUsername, out.HasPassword}
}

// add remembers that credentials were accepted. If there are too many, an arbitrary one is
// forgotten: then one more refusal is blamed on the proxy's credentials.
func (a *acceptances) add(k acceptanceKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.seed, a.last = maphash.MakeSeed(), make(map[uint64]acceptance)
	}
	key := maphash.Comparable(a.seed, k)
	if _, known := a.last[key]; !known && len(a.last) >= maxAcceptances {
		for other := range a.last {
			delete(a.last, other)
			break
		}
	}
	a.last[key] = acceptance{at: time.Now()}
}

// likelyGood reports whether credentials are probably good although a broker has refused
// them for a subject.
func (a *acceptances) likelyGood(k acceptanceKey, subject string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		return false
	}
	key, who := maphash.Comparable(a.seed, k), maphash.String(a.seed, subject)
	last, ok := a.last[key]
	if !ok || time.Since(last.at) > acceptanceLife || last.refused != 0 && last.refused != who {
		return false
	}
	last.refused = who
	a.last[key] = last
	return true
}
