package broker

import "sync/atomic"

// dropCause is the reason why a message does not reach a subscriber.
type dropCause byte

const (
	dropNone     dropCause = iota
	dropSlow               // QoS 0, and the subscriber has too much unread
	dropDevice             // the subscriber's device has used up its share of memory
	dropMemory             // all devices together have used up theirs
	dropQueue              // no packet identifier is left in the session
	dropTooLarge           // larger than the subscriber's Maximum Packet Size
	dropSession            // the session ended meanwhile
	dropDisk               // the session is in the file, which cannot be written
	dropOldest             // to make room for newer ones in the queue of a reader that is away
	dropCauses             // how many there are
)

// String returns the cause as metrics call it.
func (d dropCause) String() string {
	return [dropCauses]string{"", "slow", "device_memory", "memory", "queue", "too_large", "session", "disk", "oldest"}[d]
}

// drops counts messages that were dropped, by cause.
type drops [dropCauses]atomic.Int64

func (d *drops) count(cause dropCause) { d[cause].Add(1) }

// byCause returns the counts by the names of the causes.
func (d *drops) byCause() map[string]int64 {
	counts := make(map[string]int64, dropCauses-1)
	for cause := dropNone + 1; cause < dropCauses; cause++ {
		counts[cause.String()] = d[cause].Load()
	}
	return counts
}
