package service

import "github.com/prometheus/client_golang/prometheus"

// bundledCollector exports the counts of the bundled broker and its store.
type bundledCollector struct{ *bundledBroker }

// Describe implements prometheus.Collector.
func (c bundledCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c bundledCollector) Collect(ch chan<- prometheus.Metric) {
	emit := func(kind prometheus.ValueType, name, help string, value float64) {
		desc := prometheus.NewDesc("mqtt_auth_proxy_"+name, help, nil, nil)
		ch <- prometheus.MustNewConstMetric(desc, kind, value)
	}
	dropped := prometheus.NewDesc("mqtt_auth_proxy_bundled_messages_dropped_total", "Messages that did not reach a subscriber, by cause.", []string{"cause"}, nil)
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue

	s, intake := c.store.Stats(), c.intake.Stats()
	emit(counter, "telemetry_messages_total", "Telemetry messages stored.", float64(s.Messages))
	emit(counter, "telemetry_points_total", "Values of stored telemetry messages.", float64(s.Points))
	emit(counter, "telemetry_attributes_total", "Attribute values stored.", float64(s.Attributes))
	emit(counter, "telemetry_refused_total", "Payloads that can never be stored.", float64(intake.Refused))
	emit(counter, "telemetry_ahead_total", "Messages whose ts lay more than a day ahead of the clock and became the time of arrival.", float64(intake.Ahead))
	emit(counter, "telemetry_errors_total", "Commits and background work of the store that failed.", float64(s.Errors))
	emit(counter, "telemetry_commits_total", "Successful commits of the store.", float64(s.Commits))
	emit(counter, "telemetry_commit_seconds_total", "Time spent committing, in seconds.", s.CommitTime.Seconds())
	writable := 0.0
	if c.store.Writable() == nil {
		writable = 1
	}
	emit(gauge, "telemetry_writable", "1 if the store can store, 0 while the disk has too little room or commits fail.", writable)
	emit(gauge, "telemetry_queued", "Messages that wait for a commit.", float64(s.Queued))
	emit(gauge, "telemetry_database_bytes", "Size of the database with its log, in bytes.", float64(s.DatabaseBytes))

	b := c.broker.Stats()
	emit(gauge, "bundled_clients", "Devices connected to the bundled broker.", float64(b.Clients))
	emit(gauge, "bundled_sessions", "Sessions that the bundled broker keeps, with and without a connection.", float64(b.Sessions))
	emit(gauge, "bundled_subscriptions", "Subscriptions at the bundled broker.", float64(b.Subscriptions))
	emit(gauge, "bundled_retained", "Retained messages.", float64(b.Retained))
	emit(gauge, "bundled_queued", "Messages of QoS 1 and 2 under way or waiting.", float64(b.Queued))
	emit(counter, "bundled_messages_in_total", "PUBLISH packets received from devices.", float64(b.MessagesIn))
	emit(counter, "bundled_messages_out_total", "PUBLISH packets sent to devices.", float64(b.MessagesOut))
	for cause, n := range b.Dropped {
		ch <- prometheus.MustNewConstMetric(dropped, counter, float64(n), cause)
	}
	emit(gauge, "bundled_memory_bytes", "Bytes kept for devices: sessions, queues, retained and unread messages.", float64(b.Memory))
	emit(counter, "bundled_messages_refused_total", "Messages to topics that are not for devices.", float64(b.Refused))
	emit(counter, "bundled_messages_unsupported_total", "Messages to device topics that nothing stands behind.", float64(b.Unsupported))
	emit(counter, "bundled_store_errors_total", "Payloads that could not be stored at the time.", float64(b.StoreErrors))
	emit(counter, "bundled_panics_total", "Connections that a bug in the bundled broker ended.", float64(b.Panics))
}
