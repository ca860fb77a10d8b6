package proxy

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

const (
	// lately is how long ago a broker may have accepted credentials and still be
	// taken to know them.
	lately = time.Minute
	// maxAcceptances is for how many different credentials acceptances are remembered.
	maxAcceptances = 4096
)

// acceptances remembers which credentials brokers have accepted lately. A broker may
// answer "not authorized" for many reasons (Mosquitto does so before MQTT 5.0 if the
// will is too large), and if it has accepted the same credentials a moment ago, then
// the reason is the client. The zero value is ready to use.
type acceptances struct {
	mu   sync.Mutex
	seed maphash.Seed
	last map[uint64]acceptance
}

// acceptance is the last time that credentials were accepted.
type acceptance struct {
	at time.Time
	// refused is the subject that was refused since, 0 for none. The credentials may
	// have changed at the broker since they were accepted: a second subject that is
	// refused in a row is no longer taken to be at fault itself.
	refused uint64
}

// acceptanceKey names the credentials that a broker was shown.
type acceptanceKey struct {
	server                   string
	username, password       string
	hasUsername, hasPassword bool
}

func (c *conn) acceptanceKey(out *packets.Connect) acceptanceKey {
	return acceptanceKey{c.login.client.Server, out.Username, out.Password, out.HasUsername, out.HasPassword}
}

// add notes that credentials were accepted. If there are too many, some other is
// forgotten: then one refusal more counts against the proxy's credentials.
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

// exonerate reports whether credentials that a broker refused for a subject are most
// likely good.
func (a *acceptances) likelyGood(k acceptanceKey, subject string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		return false
	}
	key, who := maphash.Comparable(a.seed, k), maphash.String(a.seed, subject)
	last, ok := a.last[key]
	if !ok || time.Since(last.at) > lately || last.refused != 0 && last.refused != who {
		return false
	}
	last.refused = who
	a.last[key] = last
	return true
}
