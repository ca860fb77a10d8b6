package observe

import "time"

// replicaHeardWithin is how long ago a replica that is there was last heard: some of its messages,
// one every two seconds, may be late.
const replicaHeardWithin = 10 * time.Second

func (e emitter) replicas(r Replicas) {
	const ignored = "Messages of the bus that were ignored, by cause: unreadable (not made with the secret), late (the time of their sender is more than a minute off) or repeated."
	now, heard := time.Now(), 0
	for _, p := range r.Heard {
		if now.Sub(p.Heard) < replicaHeardWithin {
			heard++
		}
	}
	e.gauge("replicas_heard", "Other replicas that were heard in the last 10 seconds. Alert if this is less than the number of proxies minus one.", float64(heard))
	for _, s := range r.Servers {
		e.flag("replicas_connected", "1 while the proxy itself is connected to the server for the bus, a broker or PostgreSQL, else 0.", s.Connected, "server", s.Name)
	}
	e.count("replicas_messages_sent_total", "Messages for other replicas, counted for each server.", float64(r.Stats.Sent))
	e.count("replicas_messages_received_total", "Messages of other replicas that took effect.", float64(r.Stats.Received))
	e.count("replicas_messages_dropped_total", "Messages for other replicas that a server did not take, counted for each server. The others catch up.", float64(r.Stats.Dropped))
	e.count("replicas_messages_ignored_total", ignored, float64(r.Stats.Unreadable), "cause", "unreadable")
	e.count("replicas_messages_ignored_total", ignored, float64(r.Stats.Late), "cause", "late")
	e.count("replicas_messages_ignored_total", ignored, float64(r.Stats.Repeated), "cause", "repeated")
	e.count("replicas_catch_ups_total", "How often messages of other replicas were missed, so that all answers of token sources were forgotten.", float64(r.Stats.CatchUps))
}
