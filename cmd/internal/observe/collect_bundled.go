package observe

import "github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"

func (e emitter) bundledBroker(s broker.Stats) {
	e.gauge("bundled_clients", "Devices connected to the bundled broker.", float64(s.Clients))
	e.gauge("bundled_sessions", "Sessions that the bundled broker keeps, with and without a connection.", float64(s.Sessions))
	e.gauge("bundled_subscriptions", "Subscriptions at the bundled broker.", float64(s.Subscriptions))
	e.gauge("bundled_retained", "Retained messages at the bundled broker.", float64(s.Retained))
	e.gauge("bundled_queued", "Messages of QoS 1 and 2 that are under way or waiting in the memory of the bundled broker.", float64(s.Queued))
	e.gauge("bundled_memory_bytes", "Bytes that the bundled broker keeps for devices: sessions, queues, retained and unread messages.", float64(s.Memory))
	e.count("bundled_messages_in_total", "PUBLISH packets that the bundled broker received from devices.", float64(s.MessagesIn))
	e.count("bundled_messages_out_total", "PUBLISH packets that the bundled broker sent to devices.", float64(s.MessagesOut))
	for cause, n := range s.Dropped {
		e.count("bundled_messages_dropped_total", "Messages that did not reach a subscriber, by cause: slow (QoS 0, too much unread), device_memory, memory, queue (50,000 messages), too_large, session (it ended meanwhile), disk (it cannot be written, and the publisher gets no acknowledgement) or oldest (they made room in the queue of a reader).",
			float64(n), "cause", cause)
	}
	e.count("bundled_messages_refused_total", "Messages to topics that are not for devices.", float64(s.Refused))
	for family, n := range s.Unsupported {
		e.count("bundled_messages_unsupported_total", "Messages to topics of ThingsBoard that the bundled broker has no function for, by family of topics.", float64(n), "family", family)
	}
	for family, n := range s.UnsupportedFilters {
		e.count("bundled_subscriptions_unsupported_total", "Subscriptions to topics of ThingsBoard that the bundled broker has no function for, by family of topics.", float64(n), "family", family)
	}
	e.count("bundled_requests_answered_total", "Requests of devices, calls and questions about attributes, that the bundled broker has answered.", float64(s.Answered))
	for outcome, n := range s.Calls {
		e.count("bundled_calls_total", "Calls of devices by operators that have ended, by outcome: done, late (no answer in time), not_listening (the device is not connected, or has no subscription), refused (too many calls, or the device does not read), too_long (the answer) or left (the caller).",
			float64(n), "outcome", outcome)
	}
	e.gauge("bundled_calls_waiting", "Calls that wait for a device.", float64(s.CallsWaiting))
	e.count("bundled_answers_unexpected_total", "Answers of devices for which no call waited: late, repeated, or to a one-way call.", float64(s.UnexpectedAnswers))
	e.count("bundled_store_errors_total", "Payloads that could not be stored at the time.", float64(s.StoreErrors))
	e.flag("bundled_sessions_writable", "1 if sessions and retained messages can be written to sessions.db, 0 while the disk has less room than telemetry.min_free, commits fail or one hangs.", s.Keeps)
	e.count("bundled_sessions_errors_total", "Messages, subscriptions and handshakes that were not acknowledged because sessions.db could not be written.", float64(s.KeepErrors))
	e.count("bundled_sessions_commits_total", "Successful commits of sessions.db.", float64(s.KeptCommits))
	e.gauge("bundled_readers_backlog_bytes", "Messages that wait for readers in sessions.db and not in memory, in bytes.", float64(s.Backlog))
	e.gauge("bundled_sessions_file_bytes", "Size of sessions.db with its log, in bytes.", float64(s.KeptBytes))
	e.count("bundled_panics_total", "Connections that a bug in the bundled broker ended.", float64(s.Panics))
}

func (e emitter) telemetry(b Bundled) {
	s := b.Store
	e.count("telemetry_messages_total", "Telemetry messages stored.", float64(s.Messages))
	e.count("telemetry_points_total", "Values of stored telemetry messages.", float64(s.Points))
	e.count("telemetry_attributes_total", "Attribute values stored.", float64(s.Attributes))
	e.count("telemetry_refused_total", "Payloads that can never be stored.", float64(b.Intake.Refused))
	e.count("telemetry_over_quota_total", "Payloads that are not stored because their device has as many keys, bytes, attributes or devices behind it as it may have. Payloads that can never be stored include them.", float64(b.Intake.OverQuota))
	e.count("telemetry_ahead_total", "Messages whose ts lay more than a day ahead of the clock and became the time of arrival.", float64(b.Intake.Ahead))
	e.count("telemetry_errors_total", "Commits and background work of the store that failed.", float64(s.Errors))
	e.count("telemetry_commits_total", "Successful commits of the store.", float64(s.Commits))
	e.count("telemetry_commit_seconds_total", "Time that commits took, in seconds.", s.CommitTime.Seconds())
	e.flag("telemetry_writable", "1 if the store can store, 0 while the disk has less room than telemetry.min_free, the database cannot be reached, commits fail or one hangs.", b.Writable)
	e.gauge("telemetry_queued", "Messages that wait for a commit.", float64(s.Queued))
	e.gauge("telemetry_database_bytes", "Size of the database with its log, in bytes; of PostgreSQL the tables with their indexes.", float64(s.DatabaseBytes))
}
