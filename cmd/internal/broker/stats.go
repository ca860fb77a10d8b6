package broker

import "sync/atomic"

// Stats are figures since New, except where they say now.
type Stats struct {
	Clients       int64 // connected now
	Sessions      int64 // kept now, with and without a connection
	Subscriptions int64 // now
	Retained      int64 // retained messages now
	Queued        int64 // messages and handshakes of QoS 1 and 2 that are not complete, now, in memory
	Backlog       int64 // bytes of such messages of readers that are in the file alone, now

	MessagesIn  int64 // PUBLISH packets received, of every kind
	MessagesOut int64 // PUBLISH packets given to subscribers' connections
	// Dropped counts messages that were not delivered, by cause: slow, device_memory, memory,
	// queue, too_large, session, disk, oldest.
	Dropped map[string]int64
	Memory  int64 // bytes kept for devices now

	Stored      int64 // payloads stored
	StoreErrors int64 // payloads that could not be stored now
	KeepErrors  int64 // messages and subscriptions that failed because they could not be kept in the file
	KeptBytes   int64 // size of the file with its log now, 0 without one
	KeptCommits int64 // commits of the file
	Keeps       bool  // the file can be written now, or there is none
	BadPayloads int64 // payloads that can never be stored
	Answered    int64 // requests of devices that were answered, other than with an error of their payload

	// Calls counts the calls of [Broker.Call] that have ended, by outcome: done, late,
	// not_listening, refused, too_long, left. CallsWaiting is how many wait now, and
	// UnexpectedAnswers counts answers of devices for which no call waited.
	Calls             map[string]int64
	CallsWaiting      int64
	UnexpectedAnswers int64

	// Unsupported counts messages to device topics that have no function here, by family of
	// topics, and calls of methods that there are not. UnsupportedFilters counts subscriptions.
	Unsupported, UnsupportedFilters map[string]int64
	Refused                         int64 // messages to topics that are not for devices

	Panics int64 // connections closed after a panic; each is a bug
}

type counters struct {
	dropped drops

	clients, quiet, messagesIn atomic.Int64 // connections, those of them in doze, and PUBLISH packets

	stored, storeErrors, keepErrors, badPayloads, answered, refused, panics atomic.Int64

	calls             [outcomes]atomic.Int64
	unexpectedAnswers atomic.Int64
}

// Stats returns the current figures. They are read one after another, not at one instant.
func (b *Broker) Stats() Stats {
	s := Stats{
		Clients:            b.counts.clients.Load(),
		Retained:           int64(b.server.Topics.Retained.Len()),
		MessagesIn:         b.counts.messagesIn.Load(),
		MessagesOut:        atomic.LoadInt64(&b.server.Info.MessagesSent),
		Dropped:            b.counts.dropped.byCause(),
		Memory:             b.ledger.bytes(),
		Backlog:            b.ledger.backlogBytes(),
		Stored:             b.counts.stored.Load(),
		StoreErrors:        b.counts.storeErrors.Load(),
		KeepErrors:         b.counts.keepErrors.Load(),
		BadPayloads:        b.counts.badPayloads.Load(),
		Answered:           b.counts.answered.Load(),
		Calls:              make(map[string]int64, outcomes),
		CallsWaiting:       int64(b.calls.len()),
		UnexpectedAnswers:  b.counts.unexpectedAnswers.Load(),
		Unsupported:        byFamily(&b.unserved.messages),
		UnsupportedFilters: byFamily(&b.unserved.filters),
		Refused:            b.counts.refused.Load(),
		Panics:             b.counts.panics.Load(),
	}
	s.Keeps = true
	if f := b.options.Sessions; f != nil {
		file := f.Stats()
		s.KeptBytes, s.KeptCommits, s.Keeps = file.Bytes, file.Commits, f.Writable() == nil
	}
	for o := range outcomes {
		s.Calls[o.String()] = b.counts.calls[o].Load()
	}
	for _, cl := range b.server.Clients.GetAll() { // mochi's own sums drift when sessions are taken over
		s.Sessions++
		s.Subscriptions += int64(cl.State.Subscriptions.Len())
		s.Queued += int64(cl.State.Inflight.Len())
	}
	return s
}
