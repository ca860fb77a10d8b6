package authz

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/strictjson"
)

// Limits bound what one session may do. Each field that is zero sets no bound; in a [Grant]
// it leaves that to the configuration.
type Limits struct {
	// MaxPacket is the size in bytes of the largest packet that the device may send, with
	// its fixed header.
	MaxPacket int64
	// PublishRate is how many messages a second the device may publish on average, and
	// PublishBurst how many at once after a rest. A burst of 0 is that of one second.
	PublishRate, PublishBurst int64
	// ByteRate is how many bytes a second the device may send on average, after TLS.
	ByteRate int64
	// Subscriptions is how many topic filters the device may be subscribed to at a time.
	Subscriptions int64
	// MaxQoS is the highest QoS of its messages and subscriptions: 0, 1 or 2.
	MaxQoS *byte
	// Retain says whether it may publish retained messages.
	Retain *bool
	// Sessions is how many sessions the subject of the grant may have at a time. In the
	// limits of a configuration it has no effect.
	Sessions int64
}

// The largest values that limits may have. A limit that is never reached is left out
// instead.
const (
	// MaxPacketSize is the size in bytes of the largest packet of MQTT, section 2.2.3 of
	// MQTT 3.1.1 and 2.1.4 of 5.0.
	MaxPacketSize = 5 + 268_435_455
	// MaxSubscriptions bounds the memory that counting the subscriptions of one session
	// takes.
	MaxSubscriptions = 10_000

	maxRate     = 1_000_000
	maxByteRate = 1 << 40
	maxSessions = 1_000_000
	// minPacket leaves room for the packets of MQTT other than a PUBLISH and requests.
	minPacket = 16
)

// limitNames are the names of the limits in JSON, in the order of the fields of Limits.
const limitNames = "max_packet, publish_rate, publish_burst, byte_rate, subscriptions, max_qos, retain, sessions"

// ParseLimits parses limits as grants have them: an object with some of the keys max_packet,
// publish_rate, publish_burst, byte_rate, subscriptions, max_qos, retain and sessions. Every
// other key is an error, since a limit whose name is misspelled would not hold. The values
// are whole numbers of at least 1, except that max_qos is 0, 1 or 2 and retain true or
// false. An error never repeats a value.
func ParseLimits(raw []byte) (Limits, error) {
	var l Limits
	err := strictjson.EachMember(raw, func(key, value []byte) error {
		err := l.set(string(key), string(value))
		switch {
		case errors.Is(err, errNotALimit) || err == nil:
			return err
		}
		return fmt.Errorf("%s: %w", key, err)
	})
	if err != nil {
		return Limits{}, fmt.Errorf("limits: %w", err)
	}
	return l, nil
}

// ParseLimit sets the limit of the given name, as JSON has both.
func (l *Limits) ParseLimit(name, value string) error {
	if err := l.set(name, value); err != nil {
		if errors.Is(err, errNotALimit) {
			return err
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

var errNotALimit = errors.New("an unknown name of a limit; known are " + limitNames)

func (l *Limits) set(name, value string) (err error) {
	switch name {
	case "max_packet":
		l.MaxPacket, err = limitNumber(value, minPacket, MaxPacketSize)
	case "publish_rate":
		l.PublishRate, err = limitNumber(value, 1, maxRate)
	case "publish_burst":
		l.PublishBurst, err = limitNumber(value, 1, maxRate)
	case "byte_rate":
		l.ByteRate, err = limitNumber(value, 1, maxByteRate)
	case "subscriptions":
		l.Subscriptions, err = limitNumber(value, 1, MaxSubscriptions)
	case "sessions":
		l.Sessions, err = limitNumber(value, 1, maxSessions)
	case "max_qos":
		var n int64
		n, err = limitNumber(value, 0, 2)
		qos := byte(n)
		l.MaxQoS = &qos
	case "retain":
		retain := value == "true"
		if l.Retain = &retain; !retain && value != "false" {
			err = errors.New("want true or false")
		}
	default:
		err = errNotALimit
	}
	return err
}

// limitNumber reads a whole number of JSON. A fraction or an exponent is refused, and so
// is 0, which people write for "none" as well as for "no limit".
func limitNumber(text string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text || n < least || n > most {
		return 0, fmt.Errorf("want a whole number from %d to %d; leave it out for no limit", least, most)
	}
	return n, nil
}

// Over returns l with the limits of base in place of those that l does not set.
func (l Limits) Over(base Limits) Limits {
	return Limits{
		MaxPacket:     cmp.Or(l.MaxPacket, base.MaxPacket),
		PublishRate:   cmp.Or(l.PublishRate, base.PublishRate),
		PublishBurst:  cmp.Or(l.PublishBurst, base.PublishBurst),
		ByteRate:      cmp.Or(l.ByteRate, base.ByteRate),
		Subscriptions: cmp.Or(l.Subscriptions, base.Subscriptions),
		MaxQoS:        cmp.Or(l.MaxQoS, base.MaxQoS),
		Retain:        cmp.Or(l.Retain, base.Retain),
		Sessions:      cmp.Or(l.Sessions, base.Sessions),
	}
}

// Equal reports whether both set the same limits.
func (l Limits) Equal(o Limits) bool {
	same := l
	same.MaxQoS, same.Retain = o.MaxQoS, o.Retain
	return same == o && equalLimit(l.MaxQoS, o.MaxQoS) && equalLimit(l.Retain, o.Retain)
}

func equalLimit[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// Bound reports whether l bounds what a session may do. Limits that allow everything do
// not, nor does the limit on the number of sessions.
func (l Limits) Bound() bool {
	return l.MaxPacket > 0 || l.PublishRate > 0 || l.ByteRate > 0 || l.Subscriptions > 0 ||
		l.MostQoS() < 2 || !l.MayRetain()
}

// MostQoS returns the highest QoS that l allows.
func (l Limits) MostQoS() byte {
	if l.MaxQoS == nil {
		return 2
	}
	return *l.MaxQoS
}

// MayRetain reports whether l allows retained messages.
func (l Limits) MayRetain() bool { return l.Retain == nil || *l.Retain }

// String returns the limits as ParseLimits reads them.
func (l Limits) String() string {
	var out strings.Builder
	add := func(name, value string) {
		if out.Len() == 0 {
			out.WriteByte('{')
		} else {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%q:%s", name, value)
	}
	number := func(name string, n int64) {
		if n != 0 {
			add(name, strconv.FormatInt(n, 10))
		}
	}
	number("max_packet", l.MaxPacket)
	number("publish_rate", l.PublishRate)
	number("publish_burst", l.PublishBurst)
	number("byte_rate", l.ByteRate)
	number("subscriptions", l.Subscriptions)
	if l.MaxQoS != nil {
		add("max_qos", strconv.Itoa(int(*l.MaxQoS)))
	}
	if l.Retain != nil {
		add("retain", strconv.FormatBool(*l.Retain))
	}
	number("sessions", l.Sessions)
	if out.Len() == 0 {
		return "{}"
	}
	return out.String() + "}"
}
